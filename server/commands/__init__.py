"""Groups of operator's commands: they parse and show; what they do is elsewhere and imported when it is needed."""
