"""Ctrl-C at any moment of the first seconds: an answer at once, exit code 130, no traceback."""

import random
import signal
import subprocess
import threading
import time

import pytest

from hybridhash_jax import run
from hybridhash_jax.runtime.interrupt import StopRequest
from tests.runs.small_run import ENVIRONMENT, MAIN, ROOT, flags, make_config

MODES = {"train": [], "tune_batch": ["--mode=tune_batch"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "twice"),
    [("train", False), pytest.param("tune_batch", True, marks=pytest.mark.thorough)],
)
def test_ctrl_c_in_the_first_ten_seconds(tmp_path, mode, twice):
    rng = random.Random(f"{mode} {twice}")
    for first, last in ((0.1, 3.0), (3.0, 10.0)):
        command = [*MAIN, f"--workdir={tmp_path}", "--compilation_cache=off"]
        process = subprocess.Popen(
            [*command, *MODES[mode], *flags()],
            cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        time.sleep(rng.uniform(first, last))
        for _ in range(1 + twice):
            process.send_signal(signal.SIGINT)
            time.sleep(rng.uniform(0, 0.3))
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130, output
        assert "stopped by SIGINT" in output
        for sign_of_a_mishap in ("Traceback", "ignored in", "Fatal", "Segmentation"):
            assert sign_of_a_mishap not in output


def test_a_second_ctrl_c_ends_at_once():
    ended = []
    stop = StopRequest(end=ended.append)
    with stop.heard():
        for count in (1, 2):
            signal.raise_signal(signal.SIGINT)
            until = time.monotonic() + 10
            while stop.signal_number is None or len(ended) < count - 1:
                assert time.monotonic() < until
                time.sleep(0.001)
    assert stop.signal_number == signal.SIGINT
    assert ended == [signal.SIGINT]


@pytest.mark.thorough
def test_a_run_in_a_thread_trains_and_one_in_the_main_thread_gives_its_handlers_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    entries = []

    def work() -> None:
        entries.extend(run.train(make_config(), tmp_path / "thread", StopRequest()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    entries += run.train(make_config(), tmp_path / "main", StopRequest())
    first, second = (entry["parameters_fingerprint"] for entry in entries)
    assert first == second
    assert signal.getsignal(signal.SIGINT) == before
