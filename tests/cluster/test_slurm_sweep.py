"""The plain path on a real SLURM: submit a job array, watch it, report it; submit again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from sweep_command import TOY, CommandLine

SLOW = TOY.replace("max_steps: 3", "max_steps: 200").replace("0.01", "0.3")


def write_sweep(line: CommandLine, seeds: str, base: str = TOY, more: str = "") -> Path:
    path = line.folder / "s.yaml"
    path.write_text(f"""
renew_report: false
base: {base}
variants: [hyperformer++, adapters]
tasks: [toy-sentiment, toy-paraphrase]
overrides: {{hyperformer++: {{seed: [{seeds}]}}}}
resources: {{gpus_per_node: 0, cpus_per_task: 1, mem_gb: 0.5, time: 5, max_parallel: 2{more}}}
""")
    return path


def wait_for(line: CommandLine, what: Callable[[dict[str, int]], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what(counts := line.status()["counts"]):
        assert time.monotonic() < end, f"it took too long: {counts}"
        time.sleep(0.5)


def test_the_last_job_renews_the_page(slurm_line: CommandLine) -> None:
    """Two jobs, and nobody asks for a report; the node's python and SLURM are real."""
    line = slurm_line
    path = write_sweep(line, "1, 13")
    path.write_text(
        path.read_text()
        .replace("renew_report: false", "")
        .replace(", adapters]", "]")
        .replace("13]", "13], max_steps: 1")
    )
    assert line.run("s.yaml")[0] == 0
    page = line.folder / "runs/s/report/index.html"
    # A run has ended before its job asks for the page, and the page of the first says nothing of the second.
    end = time.monotonic() + 300
    while not (page.exists() and "1 done" in (text := page.read_text()) and "1 failed" in text):
        assert time.monotonic() < end, list(line.folder.glob("runs/s/submitit/*"))
        time.sleep(0.2)
    assert re.search(r"by job \d+_[01]<", text)
    assert "report: runs/s/report/index.html (written 0 min ago)" in line.run("status", "s.yaml")[1]
    errors = [path.read_text() for path in line.folder.glob("runs/s/submitit/*_[01]_log.err")]
    assert errors and not any("launchers.renew" in text for text in errors)


def test_from_sweep_to_table_and_again(slurm_line: CommandLine) -> None:
    line = slurm_line
    write_sweep(line, "1, 13, 14")
    began = time.monotonic()
    code, out = line.run("s.yaml")  # SLURM is here: no --cluster needed
    assert code == 0, out
    assert time.monotonic() - began < 20
    assert "5 of 5 runs to start" in out and ": 5 runs" in out and "status s.yaml -w" in out
    code, out = line.run("status", "s.yaml", "-w")  # ends when no run is going
    assert code == 1, out
    status = line.status()
    assert status["counts"] == {"done": 3, "failed": 2}
    runs = status["runs"]
    assert runs["hyperformer++-seed13"]["detail"] == "DataError: row 7 has no label"
    assert "ended by SIGKILL" in runs["hyperformer++-seed14"]["detail"]
    assert all("_" in run["job_id"] and run["cluster"] == "slurm" for run in runs.values())

    code, out = line.run("report", "s.yaml")
    assert code == 1 and "2 of 3 runs have no result" in out and "51.0*" in out
    code, out = line.run("logs", "s.yaml", "hyperformer++-seed1")
    assert "start at step 0; threads 1" in out
    code, out = line.run("submit", "s.yaml")
    assert "2 of 5 runs to start, 3 done" in out
    wait_for(line, lambda counts: "pending" not in counts and "running" not in counts)
    assert {run["attempt"] for run in line.status()["runs"].values()} == {
        1,
        2,
        4,
    }  # killed: once more by itself


def test_cancel_and_go_on(slurm_line: CommandLine) -> None:
    line = slurm_line
    write_sweep(line, "1", SLOW)
    assert line.run("s.yaml", "--cluster", "slurm", "--max-parallel", "1")[0] == 0
    wait_for(line, lambda counts: counts.get("running") == 1)
    code, out = line.run("submit", "s.yaml")
    assert code == 0 and "0 of 3 runs to start" in out, out  # pending and running ones are left alone
    wait_for(line, lambda counts: bool(list(line.folder.glob("runs/s/*/checkpoints/step"))))
    code, out = line.run("cancel", "s.yaml")
    assert code == 0 and out.count("cancel ") == 3
    wait_for(line, lambda counts: counts == {"cancelled": 3})
    step = next(line.folder.glob("runs/s/*/checkpoints/step")).read_text()
    assert int(step) > 0

    assert line.run("s.yaml")[0] == 0
    logs = line.folder / "runs/s"
    wait_for(line, lambda counts: any(path.read_text() for path in logs.glob("hyper*/attempts/2/stdout.log")))
    wait_for(
        line, lambda counts: "start at step" in next(logs.glob("hyper*/attempts/2/stdout.log")).read_text()
    )
    assert f"start at step {step};" in next(logs.glob("hyper*/attempts/2/stdout.log")).read_text()
    assert line.run("cancel", "s.yaml")[0] == 0
    wait_for(line, lambda counts: counts == {"cancelled": 3})


def test_one_run_is_no_array_and_bad_partition_is_told(slurm_line: CommandLine) -> None:
    line = slurm_line
    path = write_sweep(line, "1", more=", partition: nowhere")
    text = path.read_text().replace(", adapters]", "]")
    path.write_text(text)
    code, out = line.run("s.yaml")
    assert code == 2 and "partition 'nowhere': there is none of that name" in out
    assert line.status()["counts"] == {"missing": 1}
    path.write_text(text.replace(", partition: nowhere", ""))
    assert line.run("s.yaml")[0] == 0
    wait_for(line, lambda counts: counts == {"done": 1})
    (run,) = line.status()["runs"].values()
    assert run["attempt"] == 1 and "_" not in run["job_id"]
