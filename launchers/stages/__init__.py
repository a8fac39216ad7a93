"""The stages of a sweep file: when each starts, and the job between two of them."""
