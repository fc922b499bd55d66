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

UNLIKE = ("times", "run")  # what of a report may differ

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


def test_two_processes_give_the_results_of_one(tmp_path):
    options = [option for option in flags(num_epochs=2) if "num_devices" not in option]
    done = run_main(tmp_path / "one", *options)
    assert done.returncode == 0, done.stderr
    printed = run_two(tmp_path / "two", *options)
    assert "2 process(es)" in printed[0]
    assert "epoch" not in printed[1]  # only the first process speaks
    one, two = outcome(tmp_path / "one"), outcome(tmp_path / "two")
    first, second = (
        [x["loss"] for x in read_log(tmp_path / name) if x["kind"] == "train"]
        for name in ("one", "two")
    )
    np.testing.assert_allclose(first[:4], second[:4], rtol=1e-5)
    assert two["map_expected"] == pytest.approx(one["map_expected"], abs=0.02)
    assert two["queries"] == 200
    assert two["database"] == 597


def test_two_processes_measure_the_same_codes_and_metrics_as_one(tmp_path):
    options = [option for option in flags(num_epochs=1) if "num_devices" not in option]
    done = run_main(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    printed, found, codes = {}, {}, {}
    for processes in (1, 2):
        if processes == 1:
            done = run_main(tmp_path, *options, "--mode=evaluate")
            assert done.returncode == 0, done.stderr
            printed[1] = done.stdout
        else:
            printed[2] = "".join(run_two(tmp_path, *options, "--mode=evaluate"))
        folder = tmp_path / "evaluation"
        report = json.loads((folder / "report.json").read_text())
        found[processes] = {name: value for name, value in report.items() if name not in UNLIKE}
        codes[processes] = load_code_sets(str(folder / "codes"))
        assert f"{processes} process(es)" in printed[processes]
    assert found[1] == found[2]
    for one, two in zip(codes[1], codes[2], strict=True):
        np.testing.assert_array_equal(one.packed, two.packed)
        np.testing.assert_array_equal(one.rows, two.rows)
        assert one.fingerprint == two.fingerprint
