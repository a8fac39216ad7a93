"""The subcommands of ``hyperformer`` for trained models. torch is imported when one runs, not for --help."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperformer.data.readers.files import FORMATS
from hyperformer.errors import ConfigError

if TYPE_CHECKING:
    from hyperformer.commands.predict import Request

_TRAINED = (
    "folder, or repository on the hub, of an adapter (peft's too) or of a whole model, or a run's folder"
)
_BASE = (
    "where the T5 is that the adapter was trained on, if it is not under the name that the adapter has for it"
)


def add_model_commands(commands: Any) -> None:
    """Add predict, evaluate, rescore, export, convert, push and similarity to the parser's subcommands."""
    adders = (
        _add_predict,
        _add_evaluate,
        _add_rescore,
        _add_export,
        _add_convert,
        _add_push,
        _add_similarity,
    )
    for add in adders:
        add(commands)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict", help="answer texts or rows, from a file or a pipe, as JSON lines"
    )
    _add_request(predict)
    predict.add_argument(
        "--output", default="-", metavar="FILE", help="JSON lines; '-' (default): standard output"
    )
    predict.add_argument(
        "--glue-submission", type=Path, metavar="FOLDER", help="instead of --input and --output: answer GLUE's test "
        "sets of --task, or of all the model's tasks, and write the files that GLUE's server takes",
    )  # fmt: skip
    predict.add_argument(
        "--data-dir", metavar="DIR", help="with --glue-submission: holds <task>/test.jsonl (mnli: test_matched and "
        "test_mismatched; the diagnostic set: ax/test) or another format; default: the Hugging Face hub",
    )  # fmt: skip
    predict.set_defaults(command=_predict)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="score a trained model on rows with labels; prints the task's metrics as JSON"
    )
    _add_request(evaluate)
    evaluate.add_argument(
        "--answers", type=Path, metavar="FILE", help="also write each row's answer there, as a run keeps them "
        "(.jsonl or .jsonl.gz)",
    )  # fmt: skip
    evaluate.set_defaults(command=_evaluate)


def _add_rescore(commands: Any) -> None:
    rescore = commands.add_parser(
        "rescore",
        help="compute a run's metrics again from the answers that it kept, and compare; loads no model",
    )
    rescore.add_argument("run", type=Path, help="the folder of a run that is done")
    rescore.set_defaults(command=_rescore)


def _add_request(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help=_TRAINED)
    command.add_argument(
        "--task",
        help="the task of the rows; it gives template and labels (default: the model's, if it has one only)",
    )
    command.add_argument(
        "--input", default="-", metavar="FILE", help="rows with the columns of the task's template (.jsonl, .json, "
        ".csv, .tsv, .parquet), which get that and its prefix; lines of other files are sources as they are; '-' "
        "(default): standard input",
    )  # fmt: skip
    command.add_argument(
        "--input-format", choices=("auto", "text", *FORMATS), default="auto",
        help="auto (default): by the file's name, else JSON lines if the first line starts with '{', else text",
    )  # fmt: skip
    command.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="rows per forward pass (default: 32)"
    )
    command.add_argument(
        "--decode", choices=("generate", "constrained", "rank"),
        help="constrained: write one of the task's labels; rank: choose the most probable label; default: as the "
        "model's run evaluated, else generate",
    )  # fmt: skip
    command.add_argument("--base", metavar="T5", help=_BASE)


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="one task's adapters as static weights, without the hypernetwork; of lora and the like: peft's folder",
    )
    export.add_argument("model", help=_TRAINED)
    export.add_argument("output", type=Path, help="the folder to make")
    export.add_argument("--task", required=True, help="the task to export")
    export.add_argument("--base", metavar="T5", help=_BASE)
    export.set_defaults(command=_export)


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert", help="a checkpoint folder of the authors' code to a whole model of ours"
    )
    convert.add_argument("checkpoint", type=Path, help="their folder; with --back, ours")
    convert.add_argument("output", type=Path, help="the folder to make")
    direction = convert.add_mutually_exclusive_group(required=True)
    direction.add_argument(
        "--config", type=Path, metavar="JSON", help="the JSON that their checkpoint was trained with"
    )
    direction.add_argument(
        "--back", action="store_true", help="make a checkpoint of theirs from a whole model of ours"
    )
    convert.set_defaults(command=_convert)


def _add_push(commands: Any) -> None:
    push = commands.add_parser("push", help="upload an adapter or a whole model to the Hugging Face hub")
    push.add_argument("folder", type=Path, help="an adapter/ folder, or a whole model")
    push.add_argument("repository", help="owner/name")
    push.add_argument("--private", action="store_true", help="if the repository is new, make it private")
    push.set_defaults(command=_push)


def _add_similarity(commands: Any) -> None:
    similarity = commands.add_parser("similarity", help="print and plot how similar the task embeddings are")
    similarity.add_argument("model", help=_TRAINED)
    similarity.add_argument("output", type=Path, help="a .png or .svg file")
    similarity.set_defaults(command=_similarity)


def _request(arguments: argparse.Namespace) -> Request:
    from hyperformer.commands.inputs import Input
    from hyperformer.commands.predict import Request

    return Request(
        arguments.model,
        arguments.task,
        Input(arguments.input, arguments.input_format),
        base=arguments.base,
        decode=arguments.decode,
        batch_size=arguments.batch_size,
    )


def _predict(arguments: argparse.Namespace) -> int:
    from hyperformer.commands.predict import run_predict

    if arguments.glue_submission is not None:
        return _glue_submission(arguments)
    if arguments.data_dir is not None:
        raise ConfigError("--data-dir is for --glue-submission; the rows to answer are --input")
    run_predict(_request(arguments), arguments.output)
    return 0


def _glue_submission(arguments: argparse.Namespace) -> int:
    from hyperformer.commands.glue_submission import Submission, run_submission

    if (arguments.input, arguments.input_format, arguments.output) != ("-", "auto", "-"):
        raise ConfigError(
            "--glue-submission reads GLUE's test sets and writes its own files: leave out --input, "
            "--input-format and --output; --data-dir says where the test sets are"
        )
    run_submission(
        Submission(
            arguments.model,
            arguments.glue_submission,
            arguments.task,
            arguments.data_dir,
            base=arguments.base,
            decode=arguments.decode,
            batch_size=arguments.batch_size,
        )
    )
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from hyperformer.commands.evaluate import run_evaluate

    print(json.dumps(run_evaluate(_request(arguments), arguments.answers), indent=2))
    return 0


def _rescore(arguments: argparse.Namespace) -> int:
    from hyperformer.commands.rescore import run_rescore

    run_rescore(arguments.run)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from hyperformer.commands.export import export_task

    export_task(arguments.model, arguments.task, arguments.output, arguments.base)
    print(f"{arguments.output}: {arguments.task} alone")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from hyperformer.commands.convert import from_theirs, to_theirs

    if arguments.back:
        to_theirs(arguments.checkpoint, arguments.output)
        print(f"{arguments.output}: a checkpoint of the authors' code")
        return 0
    model = from_theirs(arguments.checkpoint, arguments.config, arguments.output)
    tasks = ", ".join(model.config.tasks or [])
    print(f"{arguments.output}: {model.config.adapter_config.adapter}, tasks {tasks}")
    return 0


def _push(arguments: argparse.Namespace) -> int:
    from hyperformer.commands.push import push

    print(push(arguments.folder, arguments.repository, private=arguments.private))
    return 0


def _similarity(arguments: argparse.Namespace) -> int:
    from hyperformer.commands.similarity import check_plot, plot_similarity, similarity_table, task_similarity

    check_plot(arguments.output)
    tasks, similarity = task_similarity(arguments.model)
    plot_similarity(tasks, similarity, arguments.output)
    print(similarity_table(tasks, similarity))
    return 0
