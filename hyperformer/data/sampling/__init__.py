"""Which rows make the next batch."""
