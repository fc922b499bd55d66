"""What values a configuration may have, checked before anything is loaded or written."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from configs import default
from hybridhash_jax import metrics, optimizer
from hybridhash_jax.methods import losses
from hybridhash_jax.models import CHOICES, VARIANTS
from hybridhash_jax.preprocess.rand_augment import MAX_MAGNITUDE
from input_pipeline.datasets import SOURCES
from input_pipeline.images.unreadable import ON_UNREADABLE
from input_pipeline.splits import DATABASE_RULES

TASKS = ("hash", "classify")
DTYPES = ("auto", "float32", "bfloat16")
SELECTED_BY = ("query", "last", "validation")


# An ml_collections ConfigDict. Type checkers know nothing of its fields.
Config: TypeAlias = Any


class ConfigError(ValueError):
    """A configuration that cannot be run; the message says what would be accepted."""


_CHOICES: dict[str, tuple[str, ...]] = {
    "task": TASKS,
    "model.variant": tuple(VARIANTS),
    **{f"model.{name}": accepted for name, accepted in CHOICES.items()},
    "model.dtype": DTYPES,
    "data.name": tuple(SOURCES),
    "data.database": DATABASE_RULES,
    "data.on_unreadable": ON_UNREADABLE,
    "loss.pairs": losses.PAIRS,
    "loss.unseen": losses.UNSEEN,
    "optimizer.name": optimizer.OPTIMIZERS,
    "optimizer.schedule": optimizer.SCHEDULES,
    "evaluation.selected_by": SELECTED_BY,
    "evaluation.metrics_on": metrics.PLACES,
}
# field: (lowest, is it itself allowed?)
_LOWEST: dict[str, tuple[float, bool]] = {
    "seed": (0, True),
    "batch_size": (1, True),
    "accumulation_steps": (1, True),
    "num_epochs": (1, True),
    "log_every_steps": (1, True),
    "num_devices": (1, True),
    "mesh.data": (1, True),
    "mesh.fsdp": (1, True),
    "data.split_seed": (0, True),
    "data.crop_padding": (0, True),
    "data.query_per_class": (1, True),
    "data.train_per_class": (1, True),
    "data.resize": (1, True),
    "data.num_workers": (0, True),
    "data.max_pixels": (1, True),
    "loss.alpha": (0, False),
    "optimizer.learning_rate": (0, False),
    "optimizer.warmup_epochs": (0, True),
    "optimizer.step_factor": (0, False),
    "optimizer.weight_decay": (0, True),
    "optimizer.clip_norm": (0, False),
    "optimizer.momentum": (0, True),
    "optimizer.beta1": (0, True),
    "optimizer.beta2": (0, True),
    "pretraining.label_smoothing": (0, True),
    "pretraining.mixup": (0, True),
    "pretraining.cutmix": (0, True),
    "pretraining.mix_probability": (0, True),
    "pretraining.random_erasing": (0, True),
    "pretraining.augment_magnitude": (0, True),
    "pretraining.ema_decay": (0, True),
    "evaluation.every_epochs": (1, True),
    "evaluation.batch_size": (1, True),
    "evaluation.top_k": (1, True),
    "checkpoint.every_epochs": (0, False),
    "checkpoint.keep_latest": (1, True),
}
_BELOW_ONE = (
    "optimizer.momentum",
    "optimizer.beta1",
    "optimizer.beta2",
    "pretraining.label_smoothing",
    "pretraining.ema_decay",
)
_HIGHEST: dict[str, float] = {
    "pretraining.mix_probability": 1,
    "pretraining.random_erasing": 1,
    "pretraining.augment_magnitude": MAX_MAGNITUDE,
}
# Fields that change nothing about the results of a run that goes on.
_MAY_DIFFER = (
    "accumulation_steps",
    "log_every_steps",
    "num_devices",
    "mesh.data",
    "mesh.fsdp",
    "model.remat",
    "data.dir",
    "data.download",
    "data.lists",
    "data.on_unreadable",
    "data.num_workers",
    "evaluation.batch_size",
    "evaluation.metrics_on",
    "evaluation.report",
    "checkpoint.every_epochs",
    "checkpoint.keep_latest",
)


def check_config(config: Config) -> None:
    """Refuses impossible values, all of them in one message.

    Raises:
      ConfigError: what was given, and what is accepted.
    """
    fields = dict(flat_fields(config))
    problems = []
    for name, accepted in _CHOICES.items():
        if fields[name] not in accepted:
            problems.append(f"{name}={fields[name]!r}; accepted: {', '.join(accepted)}")
    for name, (lowest, inclusive) in _LOWEST.items():
        value = fields[name]
        if value is None:
            continue
        if not math.isfinite(value) or value < lowest or (value == lowest and not inclusive):
            problems.append(
                f"{name}={value}; it must be {'at least' * inclusive or 'above'} {lowest}"
            )
    for name in _BELOW_ONE:
        if fields[name] >= 1:
            problems.append(f"{name}={fields[name]}; it must be below 1")
    for name, highest in _HIGHEST.items():
        if fields[name] > highest:
            problems.append(f"{name}={fields[name]}; it must be at most {highest:g}")
    if fields["task"] == "classify" and fields["evaluation.selected_by"] == "query":
        problems.append(
            "evaluation.selected_by='query' is for hashing; accepted for task=classify: "
            "validation (the best top-1), last"
        )
    problems += _bits_problems(fields["bits"])
    problems += _factor_problems(fields["optimizer.learning_rate_factors"])
    fraction = fields["evaluation.validation_fraction"]
    if not 0 < fraction < 1:
        problems.append(f"evaluation.validation_fraction={fraction}; it must be between 0 and 1")
    if problems:
        raise ConfigError("the configuration cannot be run:\n  " + "\n  ".join(problems))


def _bits_problems(bits: Any) -> list[str]:
    good = isinstance(bits, tuple) and bits and all(isinstance(b, int) for b in bits)
    if not good or min(bits) < 1 or max(bits) > 1024 or len(set(bits)) < len(bits):
        return [f"bits={bits!r}; different code lengths from 1 to 1024, such as 32 or 16,32,64"]
    return []


def _factor_problems(entries: Any) -> list[str]:
    problems = []
    for entry in entries:
        try:
            optimizer.parse_factor(entry)
        except ValueError as error:
            problems.append(str(error))
    return problems


def flat_fields(config: Config, prefix: str = "") -> Iterator:
    """(dotted name, value) of every field."""
    for name, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            yield from flat_fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def to_json(config: Config) -> str:
    """The configuration as JSON; tuples become lists."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def check_workdir(config: Config, saved_path: Path) -> None:
    """Refuses a workdir whose saved configuration differs in a way that matters.

    Fields that came after it was saved count as saved at their defaults, which change nothing.

    Raises:
      ConfigError: names every such field with both values.
    """
    try:
        saved = dict(flat_fields(json.loads(saved_path.read_text())))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{saved_path} cannot be read ({error}); it says what this workdir's run is. Restore "
            "it, or choose another workdir."
        ) from None
    saved = dict(flat_fields(json.loads(to_json(default.get_config())))) | saved
    given = dict(flat_fields(json.loads(to_json(config))))
    # What only classifiers use may differ between runs that hash.
    passed_over = "pretraining." if saved["task"] == given["task"] == "hash" else "\0"
    different = [
        f"{name}: {saved.get(name)!r} there, {given.get(name)!r} here"
        for name in sorted(saved.keys() | given.keys())
        if saved.get(name) != given.get(name)
        and name not in _MAY_DIFFER
        and not name.startswith(passed_over)
    ]
    if different:
        raise ConfigError(
            f"{saved_path.parent} holds a run with another configuration:\n  "
            + "\n  ".join(different)
            + "\nChoose another --workdir, or give the same values to go on with that run."
        )
