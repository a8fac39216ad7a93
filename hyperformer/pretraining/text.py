"""The text of a pre-training: read, given a tokenizer, and cut into rows."""

from __future__ import annotations

import argparse
import gzip
import string
from collections import Counter
from pathlib import Path
from typing import Any

from hyperformer.errors import DataError, describe_decode_error
from hyperformer.pretraining.span_corruption import Row, pack, passage_rows


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file, plain or gzip."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            found = [line.strip() for line in lines if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"--text {path}: {describe_decode_error(error)}") from error
    except (OSError, EOFError) as error:
        raise DataError(f"--text {path}: cannot be read: {error}") from error
    if not found:
        raise DataError(f"--text {path}: has no text; give a file with one paragraph per line")
    return found


def train_tokenizer(lines: list[str], vocab_size: int, folder: Path) -> None:
    """Train a sentencepiece unigram vocabulary with T5's special pieces and save it in `folder`.

    Args:
        vocab_size: pieces in all, T5's 100 sentinels not counted.
    """
    import sentencepiece
    from transformers import T5Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / "spiece"
    # The trainer accepts a piece only if it occurs in two different words. In text of few
    # words, whole words would be split: let each common word occur with other endings, too.
    counts = Counter(word.strip(".,:") for line in lines for word in line.split())
    words = [word for word, _ in counts.most_common(vocab_size) if word.isalpha()]
    variants = [word + ending for word in words for ending in "qzxv"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*lines, *variants]),
        model_prefix=str(prefix),
        vocab_size=vocab_size,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        split_digits=True,
        required_chars=string.ascii_letters + string.digits + string.punctuation,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    prefix.with_suffix(".vocab").unlink()
    T5Tokenizer.from_pretrained(str(folder)).save_pretrained(str(folder))
    # tokenizer.json holds all of it.
    prefix.with_suffix(".model").unlink()


def text_rows(args: argparse.Namespace) -> tuple[Any, list[Row]]:
    """Tokenizer and rows of the text file ``args.text``, each row of ``args.length`` tokens."""
    lines = read_lines(Path(args.text))
    tokenizer = _tokenizer(lines, args)
    return tokenizer, pack(lines, tokenizer, args.length)


def toy_rows(args: argparse.Namespace) -> tuple[Any, list[Row]]:
    """Tokenizer and rows of the built-in text, a row per passage."""
    from hyperformer.data.toy import pretraining_text

    passages = pretraining_text(args.toy_lines, args.seed)
    tokenizer = _tokenizer([" ".join(passage).strip() for passage in passages], args)
    return tokenizer, passage_rows(passages, tokenizer, args.length)


def _tokenizer(lines: list[str], args: argparse.Namespace) -> Any:
    """The tokenizer, saved in ``args.output``."""
    from transformers import AutoTokenizer

    if not (args.tokenizer or args.start_from):
        train_tokenizer(lines, args.vocab_size, args.output)
        return AutoTokenizer.from_pretrained(args.output)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer or args.start_from)
    tokenizer.save_pretrained(args.output)
    return tokenizer
