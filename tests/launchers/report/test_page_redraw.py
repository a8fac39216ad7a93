"""Who draws the page of the report, and when: jobs that end at once, jobs that are killed, runs that still go."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_runs import finish

from hyperformer.files import write_json
from hyperformer.run_files.run_folder import RunFolder
from launchers.api import Sweep
from launchers.job import page_renewal
from launchers.job.page_renewal import PageRenewal
from launchers.renew import __main__ as renew
from launchers.report import files, page_redraw
from launchers.store.attempts import Attempt, Outcome
from launchers.store.sweep_folder import SweepFolder


@pytest.fixture
def paths(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path)


def has_all(paths: SweepFolder) -> bool:
    return page_redraw.last_request(paths) == page_redraw._text(paths.report_drawn)


def test_of_two_jobs_that_end_at_once_one_draws_until_the_page_has_both(paths: SweepFolder) -> None:
    drawn = []

    def draw() -> str:
        drawn.append(token := page_redraw.last_request(paths))
        if len(drawn) == 1:  # the other one ends while we draw
            page_redraw.request(paths)
            page_redraw.redraw(paths, lambda: pytest.fail("both draw"))
        return token

    page_redraw.redraw(paths, draw)
    assert not drawn  # no job has ended
    page_redraw.request(paths)
    page_redraw.redraw(paths, draw)
    assert len(drawn) == 2 and drawn[0] != drawn[1] and has_all(paths)


def test_one_that_is_killed_while_it_draws_leaves_that_to_the_next(paths: SweepFolder) -> None:
    page_redraw.request(paths)
    begun, child = paths.path / "begun", os.fork()
    if child == 0:
        try:
            page_redraw.redraw(paths, lambda: begun.touch() or time.sleep(60) or "")  # type: ignore[func-returns-value]
        finally:
            os._exit(1)
    while not begun.exists():
        time.sleep(0.01)
    with page_redraw.lock(paths) as is_mine:
        assert not is_mine
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not has_all(paths)
    page_redraw.redraw(paths, lambda: page_redraw.last_request(paths))
    assert has_all(paths)


def test_a_fresh_page_is_left_to_a_run_that_is_about_to_end(paths: SweepFolder) -> None:
    run, page = RunFolder(paths.path / "adapters-0123"), paths.report / "index.html"
    attempt = Attempt.of(run.path, 1)
    attempt.folder.mkdir(parents=True)
    page.parent.mkdir()
    page.touch()
    page_redraw.record_drawn(paths, "", seconds=2.0)
    page_redraw.request(paths)
    assert page_redraw.is_due(paths)  # nobody else is there to draw
    for left, is_due in ((None, False), (10.0, False), (600.0, True)):
        write_json(run.state, {"phase": "training", "seconds_left": left})
        assert page_redraw.is_due(paths) == is_due, left
    write_json(run.state, {"phase": "training", "seconds_left": 10.0})
    long_ago = time.time() - 61
    for path in (page, paths.report_drawn):
        os.utime(path, (long_ago, long_ago))
    assert page_redraw.is_due(paths)  # a minute old
    page_redraw.record_drawn(paths, "", seconds=30.0)
    os.utime(paths.report_drawn, (long_ago, long_ago))
    assert not page_redraw.is_due(paths)  # a drawing takes half of that
    os.utime(run.state, (long_ago - 10, long_ago - 10))
    assert page_redraw.is_due(paths)  # the run shows no sign of life
    write_json(run.state, {"phase": "training", "seconds_left": 10.0})
    attempt.write_outcome(Outcome("done"))
    assert page_redraw.is_due(paths)


def test_a_job_renews_the_page_and_nothing_else(
    write_sweep: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = write_sweep("variants: [finetune, adapters]\ntasks: [toy-sentiment]\nbase: {data_source: toy}\n")
    sweep = Sweep.load(file, tmp_path / "runs", "local")
    finish(sweep)
    sweep.ledger.commit("local")
    paths, page = sweep.ledger.paths, sweep.ledger.paths.report / "index.html"

    monkeypatch.setattr(page_renewal, "_INTERVAL_S", 0.0)
    queue = PageRenewal(paths.path, True)
    queue.draw_if_due()
    assert queue._process is None  # no run has ended
    queue.has_ended()
    queue.draw_if_due()
    assert queue._process is not None and queue._process.wait(300) == 0
    assert "by submit<" in page.read_text() and has_all(paths)
    assert [path.name for path in paths.report.iterdir()] == ["index.html"]

    monkeypatch.setattr(os, "nice", lambda by: None)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setattr(files, "can_draw", lambda: False)
    before = page.read_text()
    renew.main(paths.path)
    assert "has figures, which stay as they are" in capsys.readouterr().out and page.read_text() == before
    page.unlink()
    renew.main(paths.path)
    assert "by job 77<" in page.read_text() and has_all(paths)
    paths.plan.unlink()
    renew.main(paths.path)
    assert "the page was not renewed" in capsys.readouterr().out
    signal.alarm(0)
