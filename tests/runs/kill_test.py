"""A real process, really killed: the run ends as if it had never been."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.runs.main_process import MainProcess, run_main, wait_until
from tests.runs.small_run import CONFIG, flags, outcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The workdir of the same command, never killed."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    finish(workdir)
    return workdir


def start(workdir: Path) -> MainProcess:
    return MainProcess([CONFIG, f"--workdir={workdir}", *flags()])


def finish(workdir: Path) -> str:
    """Runs the same command to its end; returns what it printed."""
    done = run_main(CONFIG, f"--workdir={workdir}", *flags())
    assert done.returncode == 0, done.stderr
    return done.stdout


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
        wait_until(moment, process, timeout=120)
        time.sleep(random.Random(kills).uniform(0, 0.05))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        assert not (tmp_path / "results.json").exists()
    assert kills == len(moments)
    assert "resuming from step" in finish(tmp_path)
    assert outcome(tmp_path) == outcome(undisturbed)
    assert not any("tmp" in name for name in os.listdir(tmp_path / "checkpoints"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Path, int]:
    """A workdir that was begun, stopped by SIGTERM, gone on with, and stopped by Ctrl-C; its step."""
    workdir, saved = tmp_path_factory.mktemp("stopped"), 0
    for number, code, lines in ((signal.SIGTERM, 143, 3), (signal.SIGINT, 130, 8)):
        process = start(workdir)
        wait_until(lambda lines=lines: logged_lines(workdir) > lines, process, timeout=120)
        process.send_signal(number)
        output, _ = process.communicate()
        assert process.returncode == code, output
        assert "Traceback" not in output
        assert f"stopped by {number.name} after step" in output
        assert saved == 0 or f"resuming from step {saved} " in output
        saved = int(output.split("after step ")[1].split(";")[0])
        assert (workdir / "checkpoints" / str(saved)).is_dir()
    return workdir, saved


@pytest.mark.thorough
def test_a_signal_saves_and_exits_and_the_run_goes_on(stopped, undisturbed, tmp_path):
    workdir = Path(shutil.copytree(stopped[0], tmp_path / "w"))
    assert f"resuming from step {stopped[1]} " in finish(workdir)
    assert outcome(workdir) == outcome(undisturbed)


@pytest.mark.thorough
def test_a_damaged_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    stopped, undisturbed, tmp_path
):
    workdir = Path(shutil.copytree(stopped[0], tmp_path / "w"))
    newest = workdir / "checkpoints" / str(stopped[1])
    for path in (newest / "state" / "d").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    printed = finish(workdir)
    assert f"checkpoints/{newest.name}" in printed
    assert "moved to" in printed
    assert "resuming from step" in printed
    assert outcome(workdir) == outcome(undisturbed)
