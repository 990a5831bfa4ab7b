"""Contacts erased for good: a job in small steps, each of which may be done again."""
