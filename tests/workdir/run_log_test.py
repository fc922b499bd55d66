"""metrics.jsonl and TensorBoard events of a run that may be stopped and started."""

import json
import re

from tensorboardX.proto import event_pb2

from hybridhash_jax.runtime import console
from hybridhash_jax.workdir.log import RunLog, read_log

VALUES = {"loss": 1.5, "grad_norm": 2.0, "learning_rate": 0.1}
RECORD = {
    "step": 4, "epoch": 2.0, "map_expected": 0.5, "map_stable": 0.4, "bit_balance": 0.1,
    "distinct_codes": 1234, "images_per_second": 10.0, "evaluate_seconds": 3.0,
}  # fmt: skip


def write(workdir, steps, start_step=0, evaluated=()):
    with RunLog(workdir, 10, 2, start_step, evaluated) as log:
        for step in steps:
            log.progress(step, 1.5, 100.0)
            log.train(step, VALUES | {"loss": 1.0 / step}, 100.0, 0.04 * step)
        log.evaluation(RECORD | {"step": steps[-1]})


def test_a_line_a_logged_step_and_evaluation(tmp_path):
    write(tmp_path, [1, 2])
    lines = read_log(tmp_path)
    assert [(x["kind"], x["step"]) for x in lines] == [
        ("train", 1), ("train", 2), ("evaluation", 2)
    ]  # fmt: skip
    assert lines[0] == {"kind": "train", "step": 1, "epoch": 0.5, **VALUES, "loss": 1.0,
                        "images_per_second": 100.0, "waiting_for_images": 0.04}  # fmt: skip


def test_going_on_from_a_step_drops_what_came_after_it(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # cut short by a kill
    write(tmp_path, [3, 4], start_step=2)
    assert [x["step"] for x in read_log(tmp_path)] == [1, 2, 3, 4, 4]


def test_an_evaluation_that_no_checkpoint_knows_is_dropped(tmp_path):
    write(tmp_path, [1, 2])
    write(tmp_path, [3], start_step=2, evaluated=(2,))
    kinds = [(x["kind"], x["step"]) for x in read_log(tmp_path)]
    assert ("evaluation", 2) in kinds
    write(tmp_path, [3], start_step=2)
    assert ("evaluation", 2) not in [(x["kind"], x["step"]) for x in read_log(tmp_path)]


def test_tensorboard_holds_the_same_numbers(tmp_path):
    write(tmp_path, [1, 2])
    found = {}
    for path in (tmp_path / "tensorboard").glob("events.*"):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = vars(event_pb2)["Event"].FromString(data[12 : 12 + length])
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
            data = data[12 + length + 4 :]
    assert found["train/loss", 2] == 0.5
    assert found["evaluation/map_expected", 2] == 0.5


def test_without_a_terminal_progress_is_plain_lines(tmp_path, capsys):
    console.set_up()
    write(tmp_path, [1, 2])
    out = capsys.readouterr().out
    clock, left = r"\d\d:\d\d:\d\d ", r", \d+:\d\d left\n"
    waiting = r" \(8% of the time waiting for images\)"
    assert re.search(f"{clock}epoch 0.50, step 1: loss 1.0000, 100 images/s\n", out)
    assert re.search(f"{clock}epoch 1.00, step 2: loss 0.5000, 100 images/s{waiting}{left}", out)
    assert "mAP 0.5000 (expected), 0.4000 (stable)" in out
    assert "1,234 distinct codes" in out


def test_lines_are_on_disk_at_once(tmp_path):
    with RunLog(tmp_path, total_steps=10, steps_per_epoch=2, start_step=0) as log:
        log.train(1, VALUES, None, None)
        line = (tmp_path / "metrics.jsonl").read_text()
        assert json.loads(line)["images_per_second"] is None
