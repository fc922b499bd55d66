"""A real process, really killed: the run ends as if it had never been."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.small_run import ENVIRONMENT, MAIN, ROOT, flags, outcome, run_main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The workdir of the same command, never killed."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    done = run_main(workdir, *flags())
    assert done.returncode == 0, done.stderr
    return workdir


def start(workdir: Path) -> subprocess.Popen:
    command = [*MAIN, f"--workdir={workdir}", *flags()]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, process, timeout=120.0):
    """Polls until the condition holds or the process ends."""
    end = time.monotonic() + timeout
    while not condition() and process.poll() is None:
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)


def saving(workdir: Path) -> bool:
    """Is a checkpoint being written right now?"""
    directory = workdir / "checkpoints"
    return directory.is_dir() and any("tmp" in name for name in os.listdir(directory))


def logged_lines(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def test_sigkill_at_any_moment_and_during_saves_changes_nothing(undisturbed, tmp_path):
    moments = [
        lambda: logged_lines(tmp_path) > 5,
        lambda: logged_lines(tmp_path) > 9 and saving(tmp_path),
    ]
    kills = 0
    for moment in moments:
        process = start(tmp_path)
        wait_for(moment, process)
        time.sleep(random.Random(kills).uniform(0, 0.05))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        assert not (tmp_path / "results.json").exists()
    assert kills == len(moments)
    done = run_main(tmp_path, *flags())
    assert done.returncode == 0, done.stderr
    assert "resuming from step" in done.stdout
    assert outcome(tmp_path) == outcome(undisturbed)
    assert not any("tmp" in name for name in os.listdir(tmp_path / "checkpoints"))


def test_a_signal_saves_and_exits_and_the_run_goes_on(undisturbed, tmp_path):
    saved = 0
    for number, code, lines in ((signal.SIGTERM, 143, 3), (signal.SIGINT, 130, 8)):
        process = start(tmp_path)
        wait_for(lambda lines=lines: logged_lines(tmp_path) > lines, process)
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == code, output
        assert "Traceback" not in output
        assert f"stopped by {number.name} after step" in output
        assert saved == 0 or f"resuming from step {saved} " in output
        saved = int(output.split("after step ")[1].split(";")[0])
        assert (tmp_path / "checkpoints" / str(saved)).is_dir()
    done = run_main(tmp_path, *flags())
    assert f"resuming from step {saved} " in done.stdout, done.stderr
    assert outcome(tmp_path) == outcome(undisturbed)


def test_a_damaged_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    undisturbed, tmp_path
):
    process = start(tmp_path)
    wait_for(lambda: logged_lines(tmp_path) > 11, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    newest = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    data = tmp_path / "checkpoints" / str(newest) / "state" / "d"
    for path in data.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = run_main(tmp_path, *flags())
    assert f"checkpoints/{newest}" in done.stdout
    assert "moved to" in done.stdout
    assert outcome(tmp_path) == outcome(undisturbed)
