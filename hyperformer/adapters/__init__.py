"""What an adapter computes, T5 with adapters, which parameters train, and saving and loading them."""
