"""WhatsApp Business by Meta's Cloud API."""
