"""Webhooks that we receive: verified, routed and stored before the 200, applied after it."""
