"""Channels of systems of the user's own: items come by calls, messages go out by signed callbacks."""
