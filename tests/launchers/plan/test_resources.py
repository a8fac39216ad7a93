"""What a profile can ask of a cluster, and what it must leave to the launcher, in every spelling."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from hyperformer.errors import ConfigError
from launchers.plan.cluster_profile import ClusterProfile, read_profile
from launchers.plan.resources import Resources
from launchers.slurm.batch_script import directives


def profile(folder: Path, text: str) -> ClusterProfile:
    path = folder / "site.yaml"
    path.write_text(text)
    return read_profile(path)


def resources(folder: Path, text: str) -> Resources:
    return profile(folder, f"resources: {{{text}}}").resources


@pytest.mark.parametrize(
    ("text", "option", "value", "gpus"),
    [
        ("gpus_per_node: 2", "gpus-per-node", "2", 2),
        ("gpus_per_node: a100:2", "gpus-per-node", "a100:2", 2),
        ("gpus_per_node: 1g.10gb:3", "gpus-per-node", "1g.10gb:3", 3),
        ("gpus_per_node: a100_3g.20gb:1", "gpus-per-node", "a100_3g.20gb:1", 1),
        ("gpus_per_node: 2, gpu_option: gres", "gres", "gpu:2", 2),
        (
            "gpus_per_node: a100:2, gpu_option: gres, sbatch: {gres: 'shard:1'}",
            "gres",
            "gpu:a100:2,shard:1",
            2,
        ),
    ],
)
def test_gpus(tmp_path: Path, text: str, option: str, value: str, gpus: int) -> None:
    found = resources(tmp_path, f"{text}, time: 120")
    told = directives(found)
    assert told[option] == value and {"gres", "gpus-per-node"} & told.keys() == {option}
    assert (found.gpus_per_node, found.ranks, found.gpu_hours) == (gpus, gpus, 2 * gpus)


def test_a_sweep_that_asks_for_a_number_takes_any_type(tmp_path: Path) -> None:
    from hyperformer.settings.yaml_source import read_yaml
    from launchers.plan.resources import read_resources

    (tmp_path / "r.yaml").write_text("gpus_per_node: 1")
    base = resources(tmp_path, "gpus_per_node: a100:2, gpu_option: gres")
    assert directives(read_resources(read_yaml(tmp_path / "r.yaml")[1], base))["gres"] == "gpu:1"


@pytest.mark.parametrize("text", ["0", "all"])
def test_memory_of_the_whole_node(tmp_path: Path, text: str) -> None:
    assert directives(resources(tmp_path, f"mem_gb: {text}"))["mem"] == "0MB"
    assert directives(resources(tmp_path, "mem_gb: 0.0001"))["mem"] == "1MB"  # too little, but not all of it
    assert "mem" not in directives(Resources())


@pytest.mark.parametrize(
    "text", ["2026-12-24", "2026-12-24T18:00", "now+2hours", "16:00", "12/24/26", "midnight"]
)
def test_begin(tmp_path: Path, text: str) -> None:
    assert directives(resources(tmp_path, f"begin: {text}"))["begin"] == text


@pytest.mark.parametrize(
    "key",
    [
        "signal", "no-requeue", "no_requeue", "--no-requeue", "requeue", "open-mode", "open_mode", "export",
        "export-file", "job-name", "array", "parsable", "wait", "output", "error", "input", "chdir", "dependency",
        "test-only", "wrap", "get-user-env", "ntasks-per-gpu", "gpus", "gpus-per-task", "begin", "clusters", "mem",
        "quiet", "no-kill", "container",
        # The beginning of a name means the option, too.
        "signa", "no-req", "expor", "job-n", "arra", "parsabl", "open", "outp", "nod", "depend", "partit",
    ],
)  # fmt: skip
def test_options_that_would_break_the_launcher_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=r"site.yaml, line 1, resources.sbatch\S*: --\S+ is "):
        resources(tmp_path, f"sbatch: {{{key}: x}}")


@pytest.mark.parametrize("key", ["J", "n", "-J", "No-Requeue", "--", "a=b"])
def test_no_short_or_odd_names(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="write its long name"):
        resources(tmp_path, f"sbatch: {{'{key}': x}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sbatch: {hint: a, --hint: b}", "given twice"),
        ("sbatch: {gres: 'gpu:2'}", "ask for GPUs by `gpus_per_node:`"),
        ("sbatch: {gres: 'shard:1,gpu'}", "ask for GPUs by `gpus_per_node:`"),
        ("gpus_per_node: a100", "a type and a number"), ("gpus_per_node: 'a100:0'", "a type and a number"),
        ("gpus_per_node: 'a100:2,v100:1'", "a type and a number"), ("gpu_option: tres", "gres or gpus-per-node"),
        ("mem_gb: most", "or 0 or all"), ("begin: 'in a week'", "a time of sbatch's --begin"),
        ("srun: [--export=NONE]", "the launcher decides"), ("srun: -n4", "the launcher decides"),
        ("srun: [--outp=x]", "the launcher decides"), ("srun: [--kill-on-bad-exit=0]", "the launcher decides"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resources(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "hint: nomultithread",
        "exclusive: true",
        "wait-all-nodes: 1",
        "time-min: '30'",
        "mem-per-gpu: 8G",
        "nodelist: n1",
    ],
)
def test_other_options_are_passed_on(tmp_path: Path, text: str) -> None:
    name, _, value = text.partition(": ")
    assert directives(resources(tmp_path, f"sbatch: {{{text}}}"))[name] == (
        None if value == "true" else value.strip("'")
    )


def test_python_with_blanks(tmp_path: Path) -> None:
    odd = tmp_path / "my env" / "python"
    odd.parent.mkdir()
    odd.symlink_to(sys.executable)
    assert profile(tmp_path, f"python: {odd}").python == shlex.quote(str(odd))
    assert profile(tmp_path, "python: [/my env/bin/python, -u]").python == "'/my env/bin/python' -u"
    for command in (f"{sys.executable} -u", "conda run -n x python", "python3"):
        assert profile(tmp_path, f'python: "{command}"').python == command
    with pytest.raises(ConfigError, match="/my is not on this machine.*Write the words as a list"):
        profile(tmp_path, "python: /my env/bin/python")
