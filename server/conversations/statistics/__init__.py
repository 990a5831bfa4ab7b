"""Statistics: what there is now and what happened when, counted by a follower of the log.

No query's cost grows with the tenant's history: answers are read from counts, a row for each value in a quarter of an hour.
"""
