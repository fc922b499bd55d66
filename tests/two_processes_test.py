"""Two real processes over loopback train and evaluate as one does."""

import json
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hybridhash_jax.code_sets import load_code_sets
from hybridhash_jax.run_log import read_log
from tests.small_run import ENVIRONMENT, MAIN, ROOT, flags, outcome, run_main

MEASURED = (
    "map", "chance", "radius_2", "queries_without_relevant", "curves", "code_health", "per_class",
    "worst_queries", "samples", "dataset",
)  # fmt: skip

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_two(workdir: Path, *arguments: str) -> list[str]:
    """Runs main.py in two processes of one mesh; returns what each printed."""
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [
                *MAIN, f"--workdir={workdir}", *arguments, f"--coordinator_address={address}",
                "--num_processes=2", f"--process_id={number}",
            ],
            cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in (0, 1)
    ]  # fmt: skip
    printed = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    return printed


OPTIONS = [option for option in flags(num_epochs=2) if "num_devices" not in option]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """The workdir of a run by one process."""
    workdir = tmp_path_factory.mktemp("one")
    done = run_main(workdir, *OPTIONS)
    assert done.returncode == 0, done.stderr
    return workdir


def test_two_processes_give_the_results_of_one(one, tmp_path):
    printed = run_two(tmp_path, *OPTIONS)
    assert "2 process(es)" in printed[0]
    assert "epoch" not in printed[1]  # only the first process speaks
    alone, together = outcome(one), outcome(tmp_path)
    first, second = (
        [x["loss"] for x in read_log(workdir) if x["kind"] == "train"]
        for workdir in (one, tmp_path)
    )
    np.testing.assert_allclose(first[:4], second[:4], rtol=1e-5)
    assert together["map_expected"] == pytest.approx(alone["map_expected"], abs=0.02)
    assert together["queries"] == 200
    assert together["database"] == 597


def test_two_processes_measure_the_codes_and_metrics_of_one(one):
    alone = json.loads((one / "report.json").read_text()), load_code_sets(str(one / "codes"))
    printed = run_two(one, *OPTIONS, "--mode=evaluate")
    assert "2 process(es)" in printed[0]
    folder = one / "evaluation"
    together = (
        json.loads((folder / "report.json").read_text()),
        load_code_sets(str(folder / "codes")),
    )
    for name in MEASURED:
        assert alone[0][name] == together[0][name], name
    for left, right in zip(alone[1], together[1], strict=True):
        np.testing.assert_array_equal(left.packed, right.packed)
        np.testing.assert_array_equal(left.rows, right.rows)
        assert left.fingerprint == right.fingerprint
