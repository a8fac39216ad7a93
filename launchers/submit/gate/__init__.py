"""The small job that decides what starts next, between two stages or in a race."""
