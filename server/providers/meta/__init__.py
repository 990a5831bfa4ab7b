"""What WhatsApp, Messenger and Instagram share: webhook signatures, webhook envelopes, the Graph API and its errors."""
