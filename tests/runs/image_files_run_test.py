"""Training on image files: what a user with a folder of photographs sees."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from configs import lists
from hybridhash_jax.evaluation_run import evaluate_checkpoint
from hybridhash_jax.run import train
from input_pipeline.errors import DataError
from tests.input_pipeline.images.photographs import write_lists
from tests.runs.small_run import ENVIRONMENT, OVERRIDES, ROOT, StopAt, flags, outcome

SIZES = {"batch_size": 16, "num_epochs": 2, "evaluation.batch_size": 16}


def config_of(directory, **data):
    config = lists.get_config()
    shared = {name: value for name, value in OVERRIDES.items() if name != "num_epochs"}
    config.update_from_flattened_dict(shared | SIZES)
    config.data.update({"dir": str(directory), "resize": 10} | data)
    return config.lock()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("photographs")
    write_lists(directory, 60, num_train=30, num_query=10)
    return directory


@pytest.fixture(scope="module")
def reference(directory, tmp_path_factory):
    """A run's outcome with decoding in the main thread."""
    workdir = tmp_path_factory.mktemp("reference")
    train(config_of(directory, num_workers=0), workdir, StopAt())
    return outcome(workdir)


def test_a_run_on_files_trains_and_leaves_no_thread(directory, reference, tmp_path):
    assert (reference["train_images"], reference["queries"], reference["database"]) == (30, 10, 50)
    assert reference["unreadable_images"] == 0
    train(config_of(directory, num_workers=4), tmp_path, StopAt())
    assert outcome(tmp_path) == reference, "workers change nothing"
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("decode")]


@pytest.fixture
def broken(directory):
    """One training image (also in the database) and one query cannot be read."""
    saved = {name: (directory / name).read_bytes() for name in ("images/012.jpg", "images/003.jpg")}
    (directory / "images/012.jpg").write_bytes(saved["images/012.jpg"][:200])
    (directory / "images/003.jpg").unlink()
    yield directory
    for name, data in saved.items():
        (directory / name).write_bytes(data)


def test_a_broken_image_ends_the_run_with_its_name(broken, tmp_path):
    with pytest.raises(
        DataError, match=r"(?s)2 images of 60 .*on_unreadable=skip.*images/0(12|03)\.jpg: "
    ):
        train(config_of(broken), tmp_path, StopAt())


def test_broken_images_can_be_skipped_and_are_reported(broken, tmp_path):
    (entry,) = train(config_of(broken, on_unreadable="skip"), tmp_path, StopAt())
    assert (entry["queries"], entry["database"]) == (9, 49)
    assert entry["unreadable_images"] == 2
    listed = (tmp_path / "unreadable.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == ["images/003.jpg", "images/012.jpg"]
    assert "no such file" in listed[0]
    config = config_of(broken, on_unreadable="skip")
    again = evaluate_checkpoint(config, tmp_path, "latest")
    assert again["map_expected"] == entry["last"]["map_expected"]
    (folder,) = tmp_path.glob("evaluation*")
    saved = json.loads((folder / "results.json").read_text())[0]
    assert (saved["queries"], saved["database"]) == (9, 49)


@pytest.mark.thorough
def test_ctrl_c_ends_the_decoding_threads_without_a_word(directory, tmp_path):
    options = flags(
        batch_size=16, num_epochs=400, evaluation__batch_size=16, evaluation__every_epochs=400
    )
    data = [f"--config.data.dir={directory}", "--config.data.resize=10"]
    command = [sys.executable, "main.py", "--config=configs/lists.py", f"--workdir={tmp_path}"]
    process = subprocess.Popen(
        [*command, *options, *data, "--config.data.num_workers=8"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log, end = tmp_path / "metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > 3) and process.poll() is None:
        assert time.monotonic() < end, "nothing was logged"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    last = [line for line in output.splitlines() if not line.startswith("epoch")][-1]
    assert "stopped by SIGINT after step" in last
    for word in ("Traceback", "Exception", "leaked", "warning"):
        assert word not in output
