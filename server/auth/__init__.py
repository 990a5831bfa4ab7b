"""Credentials: API keys of services, signed tokens of agents, and what each of them may do."""
