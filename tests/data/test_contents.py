"""What files and folders in the settings hold belongs to the signature; how they are spelled does not."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperformer.data import contents
from hyperformer.data.cache import file_hash as hashes
from hyperformer.data.cache.file_hash import file_hash
from hyperformer.data.contents import Contents, identify
from hyperformer.errors import ConfigError
from hyperformer.settings.build import flatten, make_config, replace, with_local_names
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.signature import signature

TASKS = """
mine:
  template: "{text}"
  target: label
  labels: [yes, no]
  metrics: [accuracy]
other:
  template: "{text}"
  target: label
  labels: [1, 2]
  metrics: [accuracy]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that settings can name."""
    monkeypatch.setattr(hashes, "_CACHE", tmp_path / "cache")
    files = {
        "tasks.yaml": TASKS,
        "engine.json": '{"zero_optimization": {"offload_optimizer": {"device": "cpu"}}, "train_batch_size": "auto"}',
        "t5/config.json": "{}",
        "t5/spiece.model": "pieces",
        "t5/model.safetensors": "w" * 3_000_000,
        "t5/README.md": "a model",
    }
    files |= {
        f"rows/mine/{split}.csv": f"text,label\n{split},yes\n" for split in ("train", "validation", "test")
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def settings_of(site: Path) -> dict[str, Any]:
    return {
        "tasks": ["mine"], "task_file": str(site / "tasks.yaml"), "data_source": "folder",
        "data_dir": str(site / "rows"), "model_name_or_path": str(site / "t5"),
        "deepspeed_config": str(site / "engine.json"), "zero_stage": 1,
    }  # fmt: skip


def signature_of(site: Path, **changes: Any) -> str:
    return signature(identify(make_config({**settings_of(site), **changes}), None, ranks=1))


def changed(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_text()
    assert change(text) != text or path.suffix == ".safetensors"
    path.write_text(change(text))


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("tasks.yaml", "[yes, no]", "[no, yes]"),
        ("tasks.yaml", 'mine:\n  template: "{text}"', 'mine:\n  template: "say: {text}"'),
        ("rows/mine/train.csv", "yes", "no!"),
        ("rows/mine/test.csv", "yes", "no"),
        ("engine.json", '"cpu"', '"none"'),
        ("t5/config.json", "{}", '{"dropout_rate": 0}'),
        ("t5/spiece.model", "pieces", "Pieces"),
        ("t5/model.safetensors", "www", "wxw"),
    ],
)
def test_other_content_is_another_run(site: Path, file: str, before: str, after: str) -> None:
    first = signature_of(site)
    changed(site / file, lambda text: text.replace(before, after, 1))
    assert signature_of(site) != first
    changed(site / file, lambda text: text.replace(after, before, 1))
    assert signature_of(site) == first


def test_what_the_run_does_not_read_does_not_count(site: Path) -> None:
    first = signature_of(site)
    changed(
        site / "tasks.yaml",
        lambda text: "# mine\n" + text.replace("[1, 2]", "[2, 1]").replace("[yes, no]", '["yes",no]'),
    )
    changed(site / "engine.json", lambda text: json.dumps(json.loads(text), indent=4, sort_keys=True))
    changed(site / "t5/README.md", str.upper)
    (site / "rows/mine/notes.csv").write_text("text,label\n")
    (site / "rows/other").mkdir()
    (site / "rows/other/train.csv").write_text("text,label\n")
    assert signature_of(site) == first
    without_test = signature_of(site, do_test=False)
    changed(site / "rows/mine/test.csv", str.upper)
    assert signature_of(site) != first and signature_of(site, do_test=False) == without_test
    from_nothing = signature_of(site, random_init=True)
    changed(site / "t5/model.safetensors", lambda text: text.replace("w", "v"))
    assert signature_of(site, random_init=True) == from_nothing


def spelled(path: Path, rng: random.Random) -> str:
    """Another spelling of `path`, which lies below the working directory and below the home."""
    text = rng.choice([f"{Path.cwd()}/", "./", "~/", f"{Path.cwd()}/rows/../", "link/", "link/up/../../"])
    text += "".join(
        part + rng.choice(["/", "//", "/./", f"/../{part}/"]) for part in path.relative_to(Path.cwd()).parts
    )
    return text if path.is_dir() and rng.random() < 0.5 else text.removesuffix("./").rstrip("/")


@pytest.mark.parametrize("seed", range(40))
def test_a_path_spelled_otherwise_is_the_same_run(
    site: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    first, rng = signature_of(site), random.Random(seed)
    monkeypatch.chdir(site)
    monkeypatch.setenv("HOME", str(site))
    (site / "link").symlink_to(site)
    (site / "up").symlink_to(site / "rows/mine")  # ".." above it is rows, not the folder that the link is in
    keys = ("data_dir", "task_file", "deepspeed_config", "model_name_or_path")
    others = {key: spelled(Path(settings_of(site)[key]), rng) for key in keys}
    config = make_config(with_local_names({**settings_of(site), **others}))
    assert {key: flatten(config)[key] for key in keys} != others
    assert signature(identify(config, None, 1)) == first, others


@pytest.mark.parametrize("text", ["/d/glue", "/d/glue/", "/d//glue", "/d/x/../glue", "/d/./glue"])
def test_a_path_that_is_not_here_has_one_spelling_too(text: str) -> None:
    config = make_config({"data_source": "folder", "data_dir": text, "tasks": ["rte"]})
    assert config.data.data_dir == "/d/glue"
    assert identify(config, None, 1).contents == {}


def test_a_name_on_the_hub_is_no_path() -> None:
    for name in ("t5-base", "google/t5-v1_1-base", "toy"):
        assert make_config({"model_name_or_path": name}).model.model_name_or_path == name


def test_a_big_file_is_read_once_and_again_when_it_changes(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site / "t5/model.safetensors"
    os.utime(path, (1, 1))
    monkeypatch.setattr(hashes, "_SETTLED_S", -1e9)  # as if it had been written long ago
    first = file_hash(path)
    (note,) = (site / "cache").iterdir()
    note.write_text(note.read_text().replace(first, "remembered"))
    assert file_hash(path) == "remembered"
    data = path.read_bytes()
    path.write_bytes(b"x" + data[1:])  # the same size, and the time set back
    os.utime(path, (1, 1))
    assert file_hash(path) not in (first, "remembered")
    note.write_text("no json")
    assert file_hash(path) not in (first, "remembered")


def test_a_file_that_was_written_just_now_is_not_remembered(site: Path) -> None:
    file_hash(site / "t5/model.safetensors")
    assert not (site / "cache").exists()


def test_what_changed_between_plan_and_start_is_told(site: Path) -> None:
    config = make_config(settings_of(site))
    planned = replace(identify(config, None, 1), output_dir="elsewhere")
    assert identify(planned, None, 1) == planned
    changed(site / "rows/mine/train.csv", str.upper)
    with pytest.raises(
        ConfigError,
        match=r"data_dir \(.*rows/mine/train\): changed since the run was planned.* submit the sweep",
    ):
        identify(planned, None, 1)


def test_files_that_are_gone_do_not_rename_a_run_that_began(site: Path) -> None:
    config = make_config(settings_of(site))
    began = identify(config, None, 1)
    record = {"signature": signature(began), "settings": {}, "contents": dict(began.contents or {})}
    (site / "rows").rename(site / "gone")
    assert signature(identify(config, record, 1)) == signature(began)


def test_the_global_batch_counts_where_losses_are_summed() -> None:
    def named(ranks: int, **settings: Any) -> RunConfig:
        return identify(make_config({"tasks": ["rte"], **settings}), None, ranks)

    assert signature(named(1)) == signature(named(4))
    assert signature(named(1, loss_reduction="sum")) != signature(named(4, loss_reduction="sum"))
    began = named(4, loss_reduction="sum")
    record = {"signature": signature(began), "settings": {}, "contents": dict(began.contents or {})}
    assert signature(
        identify(make_config({"tasks": ["rte"], "loss_reduction": "sum"}), record, 1)
    ) == signature(began)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "must be one JSON object"),
        ('{"a": {"stage": 1, "stage": 2}}', "it has stage more than once"),
    ],
)
def test_hashes_of_what_is_wrong_are_errors(site: Path, text: str, told: str) -> None:
    (site / "engine.json").write_text(text)
    with pytest.raises(ConfigError, match=f"^deepspeed_config .*engine.json: .*{told}"):
        Contents().read(make_config(settings_of(site)))


def test_rows_that_cannot_be_read_are_errors_of_their_setting(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> str:
        raise OSError(5, "Input/output error")  # as a read gives it: without the path

    (site / "rows/mine/test.tsv").write_text("text\tlabel\n")
    with pytest.raises(ConfigError, match="^data_dir .*'test' is there 2 times"):
        Contents().read(make_config(settings_of(site)))
    (site / "rows/mine/test.tsv").unlink()
    monkeypatch.setattr(contents, "file_hash", broken)
    with pytest.raises(ConfigError, match=r"^data_dir .*rows/mine/\w+.csv: cannot be read: Input/output"):
        Contents().read(make_config(settings_of(site)))


def test_a_missing_split_does_not_hide_a_change_of_another(site: Path) -> None:
    config = make_config(settings_of(site))
    planned = identify(config, None, 1)
    (site / "rows/mine/test.csv").unlink()
    assert identify(planned, None, 1) == planned
    assert Contents().missing(config) == [str(site / "rows/mine/test")]
    changed(site / "rows/mine/train.csv", str.upper)
    with pytest.raises(ConfigError, match=r"rows/mine/train\): changed since"):
        identify(planned, None, 1)


def test_the_one_file_of_a_task_counts_and_its_place_does_not(site: Path) -> None:
    line = "mine: {template: '{text}', target: label, labels: [yes, no], metrics: [accuracy], data: %s, split: %s}"
    rows = site / "rows/mine/train.csv"

    def sign(data: object, split: str = "50/25/25") -> tuple[str, list[str]]:
        (site / "tasks.yaml").write_text(line % (data, split))
        config = make_config({"tasks": ["mine"], "task_file": str(site / "tasks.yaml")})
        found = Contents()
        return signature(dataclasses.replace(config, contents=found.read(config))), found.missing(config)

    first = sign("rows/mine/train.csv")
    (site / "elsewhere").mkdir()
    (site / "elsewhere/train.csv").write_bytes(rows.read_bytes())
    assert sign(site / "elsewhere/train.csv") == first and first[1] == []
    assert sign("rows/mine/train.csv", "60/20/20")[0] != first[0]
    rows.write_text(rows.read_text() + "more,no\n")
    assert sign("rows/mine/train.csv")[0] != first[0]
    rows.unlink()
    assert sign("rows/mine/train.csv")[1] == [str(rows)]


def test_rows_in_a_local_folder_of_a_hub_data_set_count(site: Path) -> None:
    changed(
        site / "tasks.yaml", lambda text: text.replace("mine:\n", f"mine:\n  hub: {{path: {site}/set}}\n")
    )
    hub: dict[str, Any] = {"data_source": "hub", "data_dir": None}
    (site / "set/data").mkdir(parents=True)
    rows = site / "set/data/train.csv"
    rows.write_text("text,label\na,yes\n")
    first = signature_of(site, **hub)
    (site / "set/.cache").mkdir()
    (site / "set/.cache/lock").touch()
    assert signature_of(site, **hub) == first
    planned = identify(make_config({**settings_of(site), **hub}), None, 1)
    changed(rows, lambda text: text.replace("yes", "no"))
    assert signature_of(site, **hub) != first
    with pytest.raises(ConfigError, match=r"hub \(mine\): changed since"):
        identify(planned, None, 1)


@pytest.mark.parametrize(
    "name",
    ["optimizer.bin", "training_args.bin", "trainer_state.json", "pytorch_model.bin", "pretraining.json"],
)
def test_files_that_transformers_does_not_load_do_not_count(site: Path, name: str) -> None:
    first = signature_of(site)
    (site / "t5" / name).write_text("{}")
    assert signature_of(site) == first


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer.json", "special_tokens_map.json"])
def test_files_that_transformers_loads_count(site: Path, name: str) -> None:
    first = signature_of(site)
    (site / "t5" / name).write_text("{}")
    assert signature_of(site) != first


def test_weights_as_pickles_count_where_there_are_no_others(site: Path) -> None:
    (site / "t5/model.safetensors").rename(site / "t5/pytorch_model.bin")
    first = signature_of(site)
    changed(site / "t5/pytorch_model.bin", lambda text: text.replace("www", "wxw", 1) + "x")
    assert signature_of(site) != first
