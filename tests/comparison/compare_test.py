"""A comparison from its command to its page: shared, stopped, gone on with."""

import csv
import json
import re
import signal
import subprocess
import sys
import time

import pytest

from hybridhash_jax.comparison import work
from hybridhash_jax.runtime.interrupt import Interrupted
from hybridhash_jax.train import TrainingDivergedError
from tests.comparison.small_comparison import OVERRIDES, make_shared, write_vectors
from tests.report.report_html import Page, headings
from tests.runs.main_process import run_main
from tests.runs.small_run import ENVIRONMENT, ROOT, StopAt


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("vectors")
    write_vectors(place)
    return place


def flags(folder, workdir, **overrides):
    given = OVERRIDES | overrides
    return [
        "--mode=compare",
        f"--config={ROOT / 'configs' / 'compare_embeddings.py'}",
        f"--workdir={workdir}",
        f"--config.data.embeddings={folder / 'vectors.npy'}",
        f"--config.data.labels={folder / 'labels.npy'}",
        *(
            f"--config.{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
            for name, value in given.items()
        ),
    ]


def test_a_comparison_is_made_once(folder, tmp_path, monkeypatch):
    workdir = tmp_path / "W"
    shared = make_shared(
        folder, comparison__methods=("lsh", "pca"), comparison__trials=0, bits=(8, 16)
    )
    content = work.compare(shared, workdir, StopAt())
    cells = {(cell["method"], cell["bits"]): cell for cell in content["cells"]}
    assert cells.keys() == {("lsh", 8), ("lsh", 16), ("pca", 8)}
    for (method, bits), cell in cells.items():
        for seed, value in cell["values"].items():
            folder_of_run = workdir / "runs" / method / f"seed{seed}" / f"{bits}bits"
            (entry,) = json.loads((folder_of_run / "results.json").read_text())
            assert entry["map_expected"] == value
            assert json.loads((folder_of_run / "config.json").read_text())["bits"] == [bits]
    assert cells["pca", 8]["deviation"] == 0 and cells["pca", 8]["supervision"] == "none"
    assert cells["lsh", 8]["values"]["0"] != cells["lsh", 8]["values"]["1"]
    assert json.loads((workdir / "comparison.json").read_text()) == json.loads(json.dumps(content))
    assert 0 < content["chance"] < content["cosine"]["map_expected"] < 1
    page = Page((workdir / "report.html").read_text())
    assert "16 bits of features of 12 dimensions" in page.text.replace("pca, ", "")
    assert not page.named("script")
    rows = list(csv.DictReader((workdir / "comparison.csv").read_text().splitlines()))
    assert [(row["method"], int(row["bits"])) for row in rows] == list(cells)
    assert r"\begin{tabular}{lcc}" in (workdir / "comparison.tex").read_text()
    assert json.loads((workdir / "tuning.json").read_text())["most_trials"] == 0
    # Nothing is trained again, and more seeds leave the runs that are there as they are.
    monkeypatch.setattr(work, "train_length", None)
    assert work.compare(shared, workdir, StopAt())["cells"] == content["cells"]


def test_a_run_that_diverges_is_left_out_and_the_others_go_on(folder, tmp_path, monkeypatch):
    train = work.train_length

    def diverge(config, bits, dataset, workdir, stop):
        if config.method.name == "hybridhash" and bits == 16:
            raise TrainingDivergedError("the loss is nan")
        return train(config, bits, dataset, workdir, stop)

    monkeypatch.setattr(work, "train_length", diverge)
    shared = make_shared(
        folder, comparison__methods=("lsh", "hybridhash"), comparison__trials=0,
        comparison__seeds=(0,), bits=(8, 16), num_epochs=1,
    )  # fmt: skip
    content = work.compare(shared, tmp_path / "W", StopAt())
    assert [(x["method"], x["bits"]) for x in content["left_out"]] == [("hybridhash", 16)]
    assert "the loss is nan" in (tmp_path / "W" / "report.html").read_text()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"task": "classify"}, "leave task out"),
        ({"comparison__methods": ("nothing",)}, "there is no method 'nothing'"),
    ],
)
def test_what_no_comparison_can_be_is_refused_before_data_are_read(folder, tmp_path, changed, told):
    shared = make_shared(tmp_path / "nowhere", **changed)
    with pytest.raises(ValueError, match=told):
        work.compare(shared, tmp_path / "W", StopAt())


def test_the_workdir_of_a_run_is_no_place_for_a_comparison(folder, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a run; give a comparison another --workdir"):
        work.compare(make_shared(folder), tmp_path, StopAt())


def test_what_others_hold_is_waited_for(monkeypatch):
    pending = [["a", "b"], ["a"], ["a"], ["a"], []]
    waits = []
    monkeypatch.setattr(work.time, "sleep", waits.append)
    # Asked before and after each round; in the second one nothing was done.
    rounds = list(work._rounds(lambda: pending.pop(0) if len(pending) > 1 else pending[0]))
    assert rounds == [["a", "b"], ["a"]]
    assert len(waits) == 1


@pytest.mark.slow
def test_a_stopped_comparison_goes_on_and_ends_as_one_that_was_never_stopped(folder, tmp_path):
    shared = make_shared(folder, comparison__methods=("hybridhash", "lsh"), comparison__seeds=(0,))
    whole = work.compare(shared, tmp_path / "whole", StopAt())
    stopped = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        work.compare(shared, stopped, StopAt(3))
    tuned = (stopped / "tuning" / "hybridhash" / "trials.json").stat().st_mtime_ns
    assert not (stopped / "comparison.json").exists()
    again = work.compare(shared, stopped, StopAt())
    assert (stopped / "tuning" / "hybridhash" / "trials.json").stat().st_mtime_ns == tuned

    def numbers(content):
        return [(x["method"], x["bits"], x["values"], x["chosen"]) for x in content["cells"]]

    assert numbers(again) == numbers(whole)
    assert len(numbers(whole)) == 4
    record = json.loads((stopped / "tuning.json").read_text())
    (trials,) = (x["trials"] for x in record["methods"].values())
    assert [trial["values"] for trial in trials] == [
        {"optimizer.learning_rate": rate} for rate in (1e-3, 1e-2)
    ]
    best = max(trials, key=lambda trial: trial["score"])["values"]
    assert all(x["chosen"] == best for x in again["cells"] if x["method"] == "hybridhash")


@pytest.mark.thorough
def test_two_processes_share_a_comparison_ctrl_c_stops_one_and_a_run_is_an_ordinary_one(
    folder, tmp_path
):
    workdir = tmp_path / "W"
    few = {"comparison.methods": ("hybridhash", "lsh"), "comparison.trials": 1}
    command = [sys.executable, str(ROOT / "main.py"), *flags(folder, workdir, **few)]
    options = {"env": ENVIRONMENT, "text": True, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, stderr=subprocess.STDOUT, **options) for _ in range(2)]
    while not list(workdir.glob("runs/*/seed0/*/metrics.jsonl")):
        assert processes[0].poll() is None
        time.sleep(0.1)
    processes[0].send_signal(signal.SIGINT)
    texts = [process.communicate()[0] for process in processes]
    assert processes[1].returncode == 0, texts[1]
    assert processes[0].returncode in (0, 130), texts[0]
    assert not any("Traceback" in text for text in texts)
    content = json.loads((workdir / "comparison.json").read_text())
    assert [len(cell["values"]) for cell in content["cells"]] == [2] * 4
    told = re.findall(r"run \d+ of \d+: .*seed \d", "\n".join(texts))
    assert len(told) >= 8
    done = run_main(f"--workdir={workdir / 'runs' / 'hybridhash' / 'seed1' / '16bits'}")
    assert done.returncode == 0, done.stderr
    assert headings((workdir / "report.html").read_text())[0] == "mAP@all of each method"
