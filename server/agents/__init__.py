"""Agents, teams, and who belongs to what."""
