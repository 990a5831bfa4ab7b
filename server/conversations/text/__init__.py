"""What is found by the words of it: how texts are cut, and the follower of the log that keeps the words of each conversation."""
