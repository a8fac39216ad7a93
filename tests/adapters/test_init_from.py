"""A run that starts from the trained weights of another: which weights, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from trained_models import KINDS, TASKS, make_adapter, make_base, settings

from hyperformer.adapters.build import build_model
from hyperformer.adapters.init_from.rows import Rows, rows_to_start_from
from hyperformer.adapters.init_from.source import find_source
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.modules import task_row_parameters
from hyperformer.adapters.record import base_fingerprint
from hyperformer.data.contents import Contents
from hyperformer.errors import CheckpointError, ConfigError
from hyperformer.settings.build import make_config
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.signature import signature


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("t5"))


def started(config: RunConfig) -> tuple[HyperformerT5, frozenset[str]]:
    source = find_source(config)
    assert source is not None
    torch.manual_seed(5)
    model = build_model(config)
    fingerprint = None if config.model.random_init else base_fingerprint(model)
    return model, source.load_into(model, fingerprint)


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_every_weight_is_the_sources_and_rows_go_by_the_map(tmp_path: Path, base: str, kind: str) -> None:
    trained = dict(make_adapter(tmp_path / "adapter", base, kind).named_parameters())
    mapped = {} if kind == "none" else {"init_tasks": {"sst2": "stsb", "imdb": "stsb", "trec": None}}
    tasks = ["mrpc", "sst2", "imdb", "trec"]
    model, names = started(settings(base, kind, tasks=tasks, init_from=str(tmp_path), **mapped))
    of_tasks = task_row_parameters(model)
    assert names == (
        {*trained} if kind == "none" else {n for n in trained if "adapters." in n or "norm" in n}
    )
    for name, weight in model.named_parameters():
        if weight not in of_tasks:
            assert torch.equal(weight, trained[name]), name
            continue
        mrpc, stsb = (trained[name][TASKS.index(task)] for task in ("mrpc", "stsb"))
        assert torch.equal(weight[:3], torch.stack([mrpc, stsb, stsb])), name
        assert not any(torch.equal(weight[3], row) for row in trained[name]) or not weight[3].any(), name
    assert bool(of_tasks) == (kind != "none")


def test_rows_that_tasks_share() -> None:
    theirs = Rows(("a", "b", "c"), ("x", "x", "c"))
    assert rows_to_start_from(Rows(("d", "e"), ("d", "e")), theirs, {"d": "b", "e": "x"}) == [0, 0]
    assert rows_to_start_from(Rows(("d", "e"), ("c", "c")), theirs, None) == [1]
    with pytest.raises(ConfigError, match=r"share 'n', .* d from a, e from c"):
        rows_to_start_from(Rows(("d", "e"), ("n", "n")), theirs, {"d": "a", "e": "c"})
    with pytest.raises(ConfigError, match=r"no task 'd'; there are: a, b, c, x; .* init_tasks=\{d: a\}"):
        rows_to_start_from(Rows(("d",), ("d",)), theirs, None)
    with pytest.raises(ConfigError, match="b is a task .* another task's row"):
        rows_to_start_from(Rows(("d",), ("d",)), Rows(("a", "b"), ("b", "y")), {"d": "b"})


def test_what_does_not_fit_is_told_with_the_difference(tmp_path: Path, base: str) -> None:
    make_adapter(tmp_path / "adapter", base)
    other = make_base(tmp_path / "other", seed=1)
    wide = make_base(tmp_path / "wide", d_ff=64)
    cases = {
        "adapter is 'hypernetwork_shared' there, 'task' here": {"kind": "task"},
        "reduction_factor is 4 there, 8 here": {"reduction_factor": 8},
        "non_linearity is 'gelu_new' there, 'relu' here": {"non_linearity": "relu"},
        "same sizes but other weights: write model_name_or_path": {"base": other},
        "other sizes: d_ff is 48 there, 64 here": {"base": wide},
        "its T5 was pre-trained.* random_init=false": {"random_init": True},
        "no task 'rte'; .*init_tasks={rte: cola}": {"tasks": ["rte"]},
        "no task 'mrcp'; did you mean 'mrpc'": {"tasks": ["rte"], "init_tasks": {"rte": "mrcp"}},
    }
    for message, change in cases.items():
        values = {"base": base, "kind": "hypernetwork_shared", "init_from": str(tmp_path), **change}
        with pytest.raises(ConfigError, match=f"init_from .*{message}"):
            started(settings(values.pop("base"), values.pop("kind"), **values))
    with pytest.raises(CheckpointError, match="name the folder of a run that is done"):
        find_source(settings(base, "task", init_from=str(tmp_path / "nothing")))
    (tmp_path / "adapter" / "hyperformer_adapter.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        started(settings(base, "hypernetwork_shared", init_from=str(tmp_path)))


def test_a_t5_that_started_at_random_is_the_sources_too(tmp_path: Path, base: str) -> None:
    trained = dict(make_adapter(tmp_path / "adapter", base, "task", random_init=True).named_parameters())
    config = settings(base, "task", random_init=True, init_from=str(tmp_path / "adapter"), tasks=["cola"])
    model, names = started(config)
    assert names == trained.keys()
    assert torch.equal(model.shared.weight, trained["shared.weight"])
    with pytest.raises(ConfigError, match="initialised at random, .* write random_init=true"):
        find_source(settings(base, "task", init_from=str(tmp_path / "adapter")))


def test_settings_of_a_start_are_checked(tmp_path: Path, base: str) -> None:
    cases = {
        "init_tasks is .* no init_from": {"init_tasks": {"rte": "mrpc"}},
        "sst2 is none of the run's tasks": {"init_tasks": {"sst2": "mrpc"}, "init_from": "r"},
        "a map of names, such as": {"init_tasks": {"rte": 3}, "init_from": "r"},
        "but must be a map of names": {"init_tasks": ["mrpc"], "init_from": "r"},
        "it has no weights of a single task": {
            "init_tasks": {"rte": "a"},
            "init_from": "r",
            "adapter": "none",
        },
    }
    for message, values in cases.items():
        with pytest.raises(ConfigError, match=message):
            make_config({"tasks": ["rte"], "adapter": "task", **values})
    (tmp_path / "empty").mkdir()
    config = make_config({"tasks": ["rte"], "adapter": "task", "init_from": str(tmp_path / "empty")})
    with pytest.raises(ConfigError, match=f"init_from {tmp_path}/empty: no trained weights are there"):
        Contents().read(config)


def test_the_content_of_the_source_is_in_the_signature_and_its_path_is_not(tmp_path: Path, base: str) -> None:
    """Without init_from a signature is what it was before there was such a setting."""
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        make_adapter(tmp_path / name / "adapter", base, "task", seed=seed)
    changed = tmp_path / "three" / "adapter" / "hyperformer_adapter.safetensors"
    changed.write_bytes(changed.read_bytes() + b"\0")

    def signed(**values: object) -> str:
        config = make_config({"tasks": ["cola"], "adapter": "task", **values})
        return signature(
            make_config({"tasks": ["cola"], "adapter": "task", **values}, contents=Contents().read(config))
        )

    one, two, three = (signed(init_from=str(tmp_path / name)) for name in ("one", "two", "three"))
    assert one == two == signed(init_from=str(tmp_path / "one" / "adapter"))
    assert (
        len({one, three, signed(), signed(init_from=str(tmp_path / "one"), init_tasks={"cola": "mrpc"})}) == 4
    )
    assert signed() == signed(init_from=None, init_tasks=None) == signed(init_tasks={})
