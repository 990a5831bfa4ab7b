"""Files of messages: where they lie, and the links by which they are fetched."""
