"""The shipped digits configuration, shrunk to a network that compiles and trains in seconds."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from configs import digits
from hybridhash_jax.runtime.interrupt import StopRequest
from tests import compiler_flags

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"--config={ROOT / 'configs' / 'digits.py'}"
MAIN = [sys.executable, str(ROOT / "main.py"), CONFIG]

OVERRIDES: dict[str, Any] = {
    "bits": (8,),
    "batch_size": 128,  # 1,000 images: 8 steps an epoch, the last with 104 images
    "num_epochs": 3,
    "log_every_steps": 2,
    "num_devices": 1,
    "model.image_size": 8,
    "model.patch_size": 2,
    "model.embed_dims": (16, 16),
    "model.num_heads": (2, 2),
    "model.depths": (1, 1),
    "model.drop_path_rate": 0.2,
    "model.token_heads": 2,
    "loss.pairs": "bank",
    "optimizer.schedule": "constant",
    "optimizer.warmup_epochs": 0.0,
    "evaluation.every_epochs": 1,
    "evaluation.report": False,
    "checkpoint.every_epochs": 0.5,
}


def make_config(**overrides: Any):
    """The configuration; dots in names are written as two underscores."""
    config = digits.get_config()
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    config.update_from_flattened_dict(OVERRIDES | given)
    return config.lock()


def flags(**overrides: Any) -> list[str]:
    """The same as command-line flags of main.py."""
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    return [
        f"--config.{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in (OVERRIDES | given).items()
    ]


class StopAt(StopRequest):
    """Asks to stop when a step is reached, as a signal would, and leaves the signals to pytest."""

    def __init__(self, step: int | None = None):
        super().__init__()
        self.step = step

    def heard(self):
        return contextlib.nullcontext()

    def requested(self, step: int) -> bool:
        return step == self.step

    def requested_while_evaluating(self, step: int) -> bool:
        return self.requested(step)


# One device a process: the tests that start processes need no more.
ENVIRONMENT = os.environ | {"XLA_FLAGS": compiler_flags.QUICK}


def outcome(workdir: Path) -> dict[str, Any]:
    """What a finished run must give again: its results without times, and its log."""
    (entry,) = json.loads((workdir / "results.json").read_text())
    timed = ("seconds", "images_per_second", "waiting")

    def without_times(record: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in record.items() if not any(t in k for t in timed)}

    entry = without_times(entry)
    entry.pop("command")
    entry["evaluations"] = [without_times(record) for record in entry["evaluations"]]
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    entry["log"] = [without_times(json.loads(line)) for line in lines]
    return entry
