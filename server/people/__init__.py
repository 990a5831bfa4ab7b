"""People: how agents and teams change, and what becomes of what they hold."""
