"""Conversations with their notes, tags, read positions and statistics."""
