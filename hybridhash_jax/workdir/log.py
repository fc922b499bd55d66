"""What a run leaves behind while it goes: metrics.jsonl, TensorBoard events, a progress bar."""

import json
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import jax
from tqdm import tqdm

from hybridhash_jax.runtime.console import logger
from hybridhash_jax.runtime.failures import only_tells
from hybridhash_jax.workdir import names
from input_pipeline.atomic_file import write_atomically
from input_pipeline.progress import duration

_DRAWN_STEPS = 1000
_WAITING_WORTH_SAYING = 0.05  # of the time


class RunLog:
    """Writes a line a logged step or evaluation; on a terminal it also draws a progress bar.

    A run that goes on from a checkpoint drops what was logged after it, so that the file reads as
    if the run had never stopped. Only the first process writes.
    """

    def __init__(
        self,
        workdir: Path,
        total_steps: int,
        steps_per_epoch: int,
        start_step: int = 0,
        evaluated_steps: Collection[int] = (),
    ):
        """Goes on from `start_step`; evaluations are kept of `evaluated_steps` only."""
        self.path = workdir / names.LOG
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.start_step = start_step
        self.evaluated_steps = evaluated_steps
        self._writes = jax.process_index() == 0

    def __enter__(self) -> Self:
        self._first: tuple[float, int] | None = None  # when, after how many steps
        self._bar = tqdm(
            total=self.total_steps,
            initial=self.start_step,
            unit="step",
            disable=not (self._writes and sys.stderr.isatty()),
            dynamic_ncols=True,
            leave=False,
            bar_format="{desc} {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]",
        )
        self._file = self._events = None
        if self._writes:
            with only_tells(names.LOG):
                self._drop_later_lines()
                self._file = self.path.open("a")
            with only_tells(names.EVENTS):
                folder = self.path.parent / names.EVENTS
                self._events = _event_writer(folder, self.start_step)
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        for name, one in ((names.LOG, self._file), (names.EVENTS, self._events)):
            with only_tells(name):
                if one is not None:
                    one.close()

    def progress(self, step: int, loss: float, rate: float | None) -> None:
        """Moves the bar to `step` steps taken; `rate` is in images per second."""
        if not self._bar.disable:
            text = f"epoch {step / self.steps_per_epoch:.1f}, loss {loss:.4f}, {_speed(rate)}"
            self._bar.set_description_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def train(
        self, step: int, values: dict[str, float], rate: float | None, waiting: float | None
    ) -> None:
        """A logged step: loss, grad_norm, learning_rate, and what was measured since the last.

        `rate` is in images per second, `waiting` the share of the time without the next images.
        """
        epoch = step / self.steps_per_epoch
        measured = {"images_per_second": rate, "waiting_for_images": waiting}
        self._write("train", {"step": step, "epoch": epoch, **values, **measured})
        if self._bar.disable:
            speed = _speed(rate)
            if waiting is not None and waiting >= _WAITING_WORTH_SAYING:
                speed += f" ({waiting:.0%} of the time waiting for images)"
            loss, left = values["loss"], self._time_left(step)
            logger.info("epoch %.2f, step %d: loss %.4f, %s%s", epoch, step, loss, speed, left)

    def _time_left(self, step: int) -> str:
        """By the pace since the first line, evaluations and all; compiling came before it."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, step
            return ""
        began, first = self._first
        return f", {duration((now - began) / (step - first) * (self.total_steps - step))} left"

    def evaluation(self, record: dict[str, Any]) -> None:
        """An evaluation's record."""
        self._write("evaluation", record)
        logger.info("%s", describe(record))

    def _drop_later_lines(self) -> None:
        kept = [
            line
            for line in read_log(self.path.parent)
            if (line["kind"] == "train" and line["step"] <= self.start_step)
            or (line["kind"] == "evaluation" and line["step"] in self.evaluated_steps)
        ]
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        if not self._writes:
            return
        with only_tells(names.LOG):
            if self._file is not None:
                self._file.write(json.dumps({"kind": kind, **values}) + "\n")
                self._file.flush()
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float) and k != "step"}
        with only_tells(names.EVENTS):
            for name, value in numbers.items():
                if self._events is not None:
                    self._events.add_scalar(f"{kind}/{name}", value, values["step"])


def _speed(rate: float | None) -> str:
    return f"{rate:,.0f} images/s" if rate else "compiling"


def describe(record: dict[str, Any]) -> str:
    """An evaluation in one line."""
    if "top1" in record:
        return (
            f"epoch {record['epoch']:g}: top-1 {record['top1']:.4f}, top-5 {record['top5']:.4f}, "
            f"loss {record['loss']:.4f} on {record['validation']:,} validation images; "
            f"{record['images_per_second']:,.0f} images/s"
        )
    return (
        f"epoch {record['epoch']:g}: mAP {record['map_expected']:.4f} (expected), "
        f"{record['map_stable']:.4f} (stable); bit balance {record['bit_balance']:.3f}, "
        f"{record['distinct_codes']:,} distinct codes; "
        f"{record['images_per_second']:,.0f} images/s encoded, "
        f"{record['evaluate_seconds']:.1f} s in all"
    )


def read_log(workdir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line cut short by a kill is left out."""
    path, lines = workdir / names.LOG, []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def drawn_steps(workdir: Path) -> list[dict[str, float]]:
    """Epoch, loss and learning rate of logged steps, some 1,000 of them, for training.png."""
    steps = [line for line in read_log(workdir) if line["kind"] == "train"]
    every = max(1, len(steps) // _DRAWN_STEPS)
    names_drawn = ("epoch", "loss", "learning_rate")
    return [{name: line[name] for name in names_drawn} for line in steps[::every]]


def _event_writer(directory: Path, start_step: int):
    from tensorboardX import SummaryWriter  # slow to import; only the first process needs it

    return SummaryWriter(str(directory), purge_step=start_step + 1 if start_step else None)
