"""The state of a race, and which of its runs start next."""
