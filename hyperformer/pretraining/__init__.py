"""Span-corruption pre-training of a small T5; pretrain.py is the command."""
