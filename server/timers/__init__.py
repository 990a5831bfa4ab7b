"""Timers: everything that waits, in one due-time index."""
