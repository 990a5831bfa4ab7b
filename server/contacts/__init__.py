"""People, their identities on channels, and the addresses of those."""
