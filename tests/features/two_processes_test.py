"""Processes that are killed, and two that want the same features."""

import subprocess
import sys

import pytest

from tests.features.stores import images, is_right, opened
from tests.runs.small_run import ROOT

pytestmark = pytest.mark.slow

FILL = """
import sys, logging
from pathlib import Path
from hybridhash_jax.runtime import console
from tests.features.stores import opened, images, features
console.set_up()
folder, held = Path(sys.argv[1]), sys.argv[2] == "held"
store = opened(folder)
print("opened", len(store.missing(images(40))), flush=True)
with store.writing():
    new = store.missing(images(40))
    print("computes", len(new), flush=True)
    for row in new:
        one = images(1, first=row)
        store.append(one, features(one))
        print("kept", row, flush=True)
        if held:
            sys.stdin.readline()
            held = False
print("done", flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process that keeps the features of 40 images; a held one stops after the first
    until it reads a line."""
    processes = []

    def start(held: bool = False) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", FILL, str(tmp_path), "held" if held else "free"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen, text: str) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def test_the_second_waits_says_for_whom_and_finds_the_rows(tmp_path, start):
    first = start(held=True)
    read_until(first, "kept 0")
    second = start()
    told = read_until(second, "waiting for process")
    assert f"process {first.pid} on " in told and str(opened(tmp_path).path) in told
    first.communicate("\n", timeout=60)
    assert "computes 0" in read_until(second, "done")
    assert first.returncode == 0 and second.wait() == 0
    assert is_right(opened(tmp_path), images(40))


def test_of_a_killed_process_all_but_the_last_rows_stay_and_a_waiting_one_goes_on(tmp_path, start):
    first = start(held=True)
    read_until(first, "kept 0")
    waiting = [start() for _ in range(2)]
    for one in waiting:
        read_until(one, "waiting for process")
    first.kill()
    told = [one.communicate(timeout=60)[0] for one in waiting]
    assert first.wait() < 0 and all(one.returncode == 0 for one in waiting)
    computed = sorted(int(text.split("computes ")[1].split()[0]) for text in told)
    assert computed == [0, 39]  # one took over, the other found its rows
    assert len(opened(tmp_path)) == 40 and is_right(opened(tmp_path), images(40))


@pytest.mark.thorough
def test_killed_at_any_moment_leaves_a_store_that_opens(tmp_path, start):
    for attempt in range(8):
        process = start()
        read_until(process, "opened")
        try:
            process.wait(0.002 * attempt)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        store = opened(tmp_path)
        there = images(40)[[i for i in range(40) if i not in store.missing(images(40)).tolist()]]
        assert is_right(store, there) and len(there) == len(store)
    done, _ = start().communicate(timeout=60)
    assert done.endswith("done\n")
    assert is_right(opened(tmp_path), images(40))
