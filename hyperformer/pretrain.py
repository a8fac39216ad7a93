"""Pre-train a small T5 by span corruption, on a GPU if there is one, for machines that cannot reach a model hub.

It made the very small T5 of the toy tasks (``hyperformer/data/assets/toy-t5``, by
``make toy-t5``), and can make another one from your own text::

    python -m hyperformer.pretrain --text corpus.txt.gz --tokenizer t5-base --output my-t5

The objective is T5's: 15% of the tokens, in spans of mean length 3, are each
replaced by one sentinel; the target lists the spans after their sentinels
(Raffel et al. 2020, section 3.1.4).

A pre-training that was interrupted resumes from its last save: give the same command again.
``--start-from FOLDER`` continues the pre-training of a T5 that exists, on your text.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hyperformer.errors import ConfigError, DataError, HyperformerError
from hyperformer.files import apply_umask, atomic_write, read_json, write_json
from hyperformer.pretraining.options import make_parser
from hyperformer.pretraining.span_corruption import batches
from hyperformer.pretraining.text import text_rows, toy_rows
from hyperformer.terminal import ignore_broken_pipe, prepare_streams, print_error, quiet_interrupts

SETTINGS_FILE = "pretraining.json"
# Of a pre-training that has not ended: weights, optimizer and step.
STATE_FILE = "pretraining_state.pt"


def pretrain(args: argparse.Namespace) -> None:
    """Train a tokenizer if none is given, then a T5, and save both in ``args.output``.

    Raises:
        ConfigError: ``args.output`` holds something else than an unfinished pre-training with these settings;
            `v1_1` is given for a T5 that exists.
        DataError: the text cannot be read, or does not fill a batch.
    """
    import torch

    if args.start_from and args.v1_1:
        raise ConfigError("--v1-1: leave it out; the T5 of --start-from keeps its own shape")
    state = _saved_state(args)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    write_json(args.output / SETTINGS_FILE, _settings(args))
    tokenizer, rows = toy_rows(args) if args.text == "toy" else text_rows(args)
    if len(rows) < args.batch_size:
        raise DataError(
            f"--text {args.text}: makes {len(rows)} rows of {args.length} tokens, a batch has {args.batch_size}: "
            "give more text, or a smaller --batch-size or --length"
        )
    count = sum(len(row.tokens) for row in rows)
    print(f"{len(rows):,} rows, {count:,} tokens, vocabulary {len(tokenizer):,}", flush=True)
    model = _model(tokenizer, args)
    print(f"{model.num_parameters():,} parameters", flush=True)
    _train(model, batches(rows, args.batch_size, tokenizer, rng), state, args)
    (args.output / STATE_FILE).unlink(missing_ok=True)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The options that decide the weights."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(args).items()
        if name not in ("output", "log_every", "save_every")
    }


def _saved_state(args: argparse.Namespace) -> dict[str, Any] | None:
    """What the interrupted pre-training in ``args.output`` had saved; None if that folder is new."""
    import torch

    folder: Path = args.output
    try:
        found = sorted(entry.name for entry in folder.iterdir() if not entry.name.endswith(".tmp"))
    except FileNotFoundError:
        return None
    if not found:
        return None
    settings = read_json(folder / SETTINGS_FILE)
    if not isinstance(settings, dict):
        raise ConfigError(f"--output {folder}: holds {found[0]}, which is not ours; name a new folder")
    changed = [name for name, value in _settings(args).items() if settings.get(name) != value]
    if changed:
        text = ", ".join(f"{name} was {settings.get(name)!r}" for name in changed)
        raise ConfigError(
            f"--output {folder}: holds a pre-training with other settings ({text}); name a new folder"
        )
    if (folder / STATE_FILE).exists():
        return torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
    if (folder / "config.json").exists():
        raise ConfigError(f"--output {folder}: this pre-training has ended; name a new folder to do it again")
    return None


def _model(tokenizer: Any, args: argparse.Namespace) -> Any:
    """The T5 to train: the one of ``args.start_from``, or a new one."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    if args.start_from is not None:
        model = T5ForConditionalGeneration.from_pretrained(args.start_from, dropout_rate=0.0)
        if len(tokenizer) > model.config.vocab_size:
            raise ConfigError(
                f"--tokenizer: has {len(tokenizer):,} tokens, the model of --start-from only "
                f"{model.config.vocab_size:,}; leave --tokenizer out to take the model's own"
            )
        return model
    shape = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if args.v1_1 else {}
    config = T5Config(
        **shape,
        # A multiple of 64 keeps the output product fast.
        vocab_size=-(-len(tokenizer) // 64) * 64,
        d_model=args.d_model,
        d_kv=args.d_model // args.num_heads,
        d_ff=args.d_ff,
        num_layers=args.num_layers,
        num_heads=args.num_heads,
        dropout_rate=0.0,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    model = T5ForConditionalGeneration(config)
    if args.v1_1:
        # transformers ties a new model whatever its config says. It would also draw the output layer with a
        # deviation of 1: logits of size sqrt(d_model), which T5 v1.1 does not scale down.
        model.all_tied_weights_keys.pop("lm_head.weight")
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) * args.d_model**-0.5)
    return model


def _train(
    model: Any, rows: Iterator[dict[str, np.ndarray]], state: dict[str, Any] | None, args: argparse.Namespace
) -> None:
    """AdamW with a cosine schedule, without dropout; saves every ``args.save_every`` steps."""
    import torch
    from transformers.optimization import get_cosine_schedule_with_warmup

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    optimizer = torch.optim.AdamW(_groups(model, args), weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, args.steps // 50, args.steps)
    first = 0
    if state is not None:
        first = state["step"]
        for name, part in (("model", model), ("optimizer", optimizer), ("schedule", schedule)):
            part.load_state_dict(state[name])
        print(f"resumes at step {first}", flush=True)
    started, tokens, losses = time.monotonic(), 0, []
    for step, batch in zip(range(first + 1, args.steps + 1), islice(rows, first, None), strict=False):
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            loss = model(**{name: torch.from_numpy(ids).to(device) for name, ids in batch.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.detach())  # its value would make each step wait for the GPU
        tokens += int(batch["attention_mask"].sum())
        if step % args.log_every == 0 or step == args.steps:
            speed = tokens / (time.monotonic() - started)
            loss_now = torch.stack(losses).mean()
            print(f"step {step}/{args.steps} loss {loss_now:.3f} {speed:,.0f} input tokens/s", flush=True)
            losses = []
        if step % args.save_every == 0 or step == args.steps:
            parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
            saved = {"step": step, **{name: part.state_dict() for name, part in parts.items()}}
            with atomic_write(args.output / STATE_FILE, "wb") as stream:
                torch.save(saved, stream)
            _save(model, args)


def _groups(model: Any, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The weights, each with its learning rate.

    T5's weights start with sizes from 0.01 to 1. Adafactor, by which T5 was pre-trained, scales the rate by them
    (Shazeer and Stern 2018, section 8; 1e-3 is its `eps2`). On English text, 800 steps of AdamW then ended at a loss
    of 4.60 instead of 4.89. The shipped toy T5 was made without.
    """
    if args.rate_scaling == "none":
        return [{"params": list(model.parameters()), "lr": args.learning_rate}]
    return [
        {
            "params": [weight],
            "lr": args.learning_rate * max(weight.detach().square().mean().sqrt().item(), 1e-3),
        }
        for weight in model.parameters()
    ]


def _save(model: Any, args: argparse.Namespace) -> None:
    """The model for fine-tuning, which uses dropout."""
    model.config.dropout_rate = args.dropout
    model.save_pretrained(args.output)
    apply_umask(args.output / "model.safetensors")  # safetensors lets only the owner read it
    model.config.dropout_rate = 0.0


def main() -> int:
    """Read the command line and pre-train; returns the exit code."""
    prepare_streams()
    quiet_interrupts()
    ignore_broken_pipe()
    try:
        pretrain(make_parser(__doc__).parse_args())
    except HyperformerError as error:
        print_error(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
