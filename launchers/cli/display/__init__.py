"""What commands show on the terminal: tables that fit it, and live progress."""
