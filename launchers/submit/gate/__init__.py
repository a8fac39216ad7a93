"""The small job that looks what may start next, between two stages or in a race."""
