"""A stand-in for Meta's WhatsApp Cloud API: as strict about requests and as untidy about webhooks as the real one."""
