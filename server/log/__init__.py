"""The gapless, commit-ordered event log of a tenant: append, read, cursors, hints."""
