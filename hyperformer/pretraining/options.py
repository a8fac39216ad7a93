"""The options of ``python -m hyperformer.pretrain``."""

from __future__ import annotations

import argparse
from pathlib import Path


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of the command line; `description`: for ``--help``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--text", required=True, help="a text file with one paragraph per line (.gz too), or 'toy'"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the model and its tokenizer")
    parser.add_argument("--tokenizer", help="an existing T5 tokenizer (name or folder); default: train one")
    parser.add_argument(
        "--start-from",
        metavar="FOLDER",
        help="a T5 whose pre-training is continued; its own sizes and tokenizer are used",
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        default=900,
        help="tokens of a newly trained tokenizer (default: %(default)s)",
    )
    parser.add_argument(
        "--toy-lines", type=int, default=200_000, help="passages of toy text (default: %(default)s)"
    )
    parser.add_argument("--d-model", type=int, default=64, help="width (default: %(default)s)")
    parser.add_argument(
        "--d-ff", type=int, default=128, help="width of the feed-forward (default: %(default)s)"
    )
    parser.add_argument(
        "--num-layers", type=int, default=2, help="of the encoder, and of the decoder (default: %(default)s)"
    )
    parser.add_argument("--num-heads", type=int, default=4, help="attention heads (default: %(default)s)")
    parser.add_argument(
        "--v1-1", action="store_true", help="a T5 v1.1: gated GELU, and an output layer of its own"
    )
    parser.add_argument(
        "--length",
        type=int,
        default=128,
        help="tokens per row before corruption, at most (default: %(default)s)",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="rows per step (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10_000, help="optimizer steps (default: %(default)s)")
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=4e-2,
        help="peak; AdamW, cosine schedule (default: %(default)s)",
    )
    parser.add_argument(
        "--rate-scaling", choices=["weight-size", "none"], default="weight-size",
        help="multiply the learning rate of a weight by its initial root mean square, or not (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--dropout",
        type=float,
        default=0.1,
        help="dropout rate in the saved model's config (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, data order and dropout (default: %(default)s)"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="bfloat16 products (fast on GPUs, and where the CPU has AMX)"
    )
    parser.add_argument(
        "--log-every", type=int, default=100, help="steps between log lines (default: %(default)s)"
    )
    parser.add_argument(
        "--save-every", type=int, default=2_000, help="steps between saves (default: %(default)s)"
    )
    return parser
