"""How a race stands, and which of its runs start next."""
