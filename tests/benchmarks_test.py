"""What benchmarks share, and the ablations' runs: told mistakes, and what a stop leaves."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import measure, on_gpu
from input_pipeline.commands import positive
from tests.runs.small_run import ROOT

# In place of main.py: finishes at once, fails, or waits for the signal by which runs are stopped.
FAKE = """\
import json, pathlib, signal, sys, time
workdir = pathlib.Path(next(x for x in sys.argv if x.startswith("--workdir=")).split("=", 1)[1])
if "--config.loss.pairs=bank" in sys.argv:
    print("training\\nerror: no rows in the bank", file=sys.stderr)
    sys.exit(1)
while "--config.seed=7" in sys.argv and time.process_time() < 0.2:
    pass
if "--config.seed=7" in sys.argv and not (workdir / "saved").exists():
    def save(*_):
        (workdir / "saved").touch()
        sys.exit(143)
    signal.signal(signal.SIGTERM, save)
    (workdir / "begun").touch()
    time.sleep(60)
bits = [x.split("=")[1] for x in sys.argv if x.startswith("--config.bits=")]
assert len(bits) == 1
last = {"map_expected": int(bits[0]) / 100, "epoch": 6.0}
entry = {"last": last, "constant_bits": 0, "train_images": 10000, "dataset_official": True}
(workdir / "results.json").write_text(json.dumps([entry]))
"""
BEGIN = "import pathlib, sys; from benchmarks import ablations, measure; "
BEGIN += "ablations._ROOT = pathlib.Path(sys.argv.pop(1)); "
BEGIN += "measure.run_and_exit(ablations.main, 'the same command goes on')"


@pytest.fixture
def start(tmp_path):
    """Starts the ablations of Fashion-MNIST with a program that only seems to train."""
    (tmp_path / "main.py").write_text(FAKE)

    def begin(*flags: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", BEGIN, str(tmp_path), f"--workdir={tmp_path / 'runs'}"]
        command += ["--sets", "fashion_mnist", *flags]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe)

    return begin


def test_finished_runs_are_not_repeated_and_a_damaged_one_is_named(start, tmp_path):
    flags = ("--changes", "none", "bits=16", "--seeds", "0", "1", "0")
    text, errors = (first := start(*flags)).communicate(timeout=60)
    assert first.returncode == 0, errors
    assert "4 of 4" in text and "| bits=16 | 0.1600 ± 0.0000 | -0.1600 |" in text
    text, _ = start(*flags).communicate(timeout=60)
    assert " of 4" not in text and "| bits=16 |" in text
    damaged = tmp_path / "runs" / "fashion_mnist" / "none" / "seed1"
    facts = json.loads((damaged / "ablation.json").read_text())
    (damaged / "ablation.json").write_text(json.dumps(facts | {"flags": ["--config.bits=8"]}))
    _, errors = (other := start(*flags)).communicate(timeout=60)
    assert other.returncode == 1 and f"{damaged} has a run of other flags" in errors
    (damaged / "ablation.json").write_text("{}")
    _, errors = (other := start(*flags)).communicate(timeout=60)
    assert other.returncode == 1 and f"ablation.json is damaged; delete {damaged}" in errors
    (damaged / "ablation.json").write_text(json.dumps(facts))
    (damaged / "results.json").write_text("[{")
    _, errors = (again := start(*flags)).communicate(timeout=60)
    assert again.returncode == 1
    assert errors.startswith("error: ") and f"{damaged} cannot be read" in errors


def test_runs_are_added_to_a_record_also_where_workdirs_are_gone(start, tmp_path):
    record = tmp_path / "record.json"
    flags = ("--changes", "none", "bits=16", f"--out={record}", "--seeds")
    _, errors = (first := start(*flags, "1")).communicate(timeout=60)
    assert first.returncode == 0, errors
    shutil.rmtree(tmp_path / "runs")
    text, _ = start(*flags, "1", "2").communicate(timeout=60)
    assert "2 of 2" in text
    runs = [(row["change"], row["seed"]) for row in json.loads(record.read_text())["runs"]]
    assert runs == [("none", 1), ("none", 2), ("bits=16", 1), ("bits=16", 2)]
    start("--changes", "none", "pairs=bank", f"--out={record}").communicate(timeout=60)
    kept = json.loads(record.read_text())
    assert len(kept["runs"]) >= 4, "a run that fails takes nothing from the record"
    kept["flags"]["shared"] = ["--config.bits=8"]
    for content, told in ((kept, "has runs with other flags"), ({}, "is no record of ablations")):
        record.write_text(json.dumps(content))
        _, errors = (refused := start(*flags, "3")).communicate(timeout=60)
        assert refused.returncode == 1 and errors.startswith("error: ") and told in errors


def test_the_reason_of_a_run_that_fails_is_told(start):
    flags = ("--changes", "none", "pairs=bank", "--seeds", "0")
    _, errors = (failed := start(*flags)).communicate(timeout=60)
    assert failed.returncode == 1
    assert "Traceback" not in errors
    assert "pairs=bank/seed0: no rows in the bank (all of it:" in errors


def test_a_folder_without_the_set_is_refused_before_the_first_run(start, tmp_path):
    _, errors = (refused := start(f"--fashion_mnist={tmp_path}")).communicate(timeout=60)
    assert refused.returncode == 1 and not (tmp_path / "runs").exists()
    assert f"no Fashion-MNIST files in {tmp_path}" in errors and "--fashion_mnist=FOLDER" in errors


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_lets_runs_save_and_leaves_none_behind(start, tmp_path, number, status):
    flags = ("--changes", "none", "--seeds", "7", f"--out={tmp_path / 'record.json'}")
    process = start(*flags)
    workdir = tmp_path / "runs" / "fashion_mnist" / "none" / "seed7"
    deadline = time.monotonic() + 60
    while not (workdir / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    _, errors = (second := start(*flags)).communicate(timeout=60)
    assert second.returncode == 1 and f"process {process.pid} on" in errors
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert (workdir / "saved").exists()
    assert "stopped; the same command goes on" in errors and "Traceback" not in errors
    before = json.loads((workdir / "ablation.json").read_text())["processor_seconds"]
    start(*flags).communicate(timeout=60)
    (row,) = json.loads((tmp_path / "record.json").read_text())["runs"]
    assert before >= 0.2 and row["processor_seconds"] >= before + 0.2


def test_a_record_is_refused_before_the_work_where_it_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for wrong in (tmp_path, tmp_path / "file" / "record.json"):
        with pytest.raises(argparse.ArgumentTypeError, match="cannot be written"):
            measure.record_file(str(wrong))
    path = measure.record_file(str(tmp_path / "new" / "folder" / "record.json"))
    measure.write_record(path, ("numpy",), runs=[1])
    assert json.loads(path.read_text())["runs"] == [1]


def test_flags_of_benchmarks_take_known_names_and_counts():
    networks = measure.among(("paper", "tiny"))
    assert networks("tiny,paper") == "tiny,paper"
    with pytest.raises(argparse.ArgumentTypeError, match="'small' is none of paper, tiny"):
        networks("tiny,small")
    assert measure.new_folder("~/runs") == Path.home() / "runs"
    with pytest.raises(argparse.ArgumentTypeError, match="it is empty"):
        measure.new_folder("")
    assert positive("3") == 3
    with pytest.raises(argparse.ArgumentTypeError, match="1 or more, got '0'"):
        positive("0")


def test_a_gpu_s_parts_are_chosen_kept_and_told_when_they_fail(tmp_path, monkeypatch, capsys):
    (tmp_path / "encode.json").write_text("{}")  # is there, so it is not done again
    flags = [f"--{name}={tmp_path}" for name in ("out", "workdir", "cifar10")]
    monkeypatch.setattr("sys.argv", ["on_gpu", *flags, "--parts", "encode", "scratch"])
    with pytest.raises(SystemExit, match="failed: scratch"):
        on_gpu.main()
    shown = capsys.readouterr().out
    assert "== scratch" in shown
    assert "== encode" not in shown
    assert "the speed of its step was not measured" in shown
