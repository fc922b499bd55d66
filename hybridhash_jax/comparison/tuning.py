"""The choice of a method's hyper-parameters, on training images that are held out.

The queries of the data set are never looked at: the trials train and search in the training images
alone. All trained methods have the same budget of trials. The learning rates are tried first, with
the method's own option as its recipe has it; then, at the best of them, the option's other values.
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hybridhash_jax.comparison.plan import Plan, Shared, Values
from hybridhash_jax.config_fields import Config, ConfigError, flat_fields
from hybridhash_jax.config_rules import MAY_CHANGE
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.evaluators import create_evaluator
from hybridhash_jax.experiment import Experiment, create_experiment
from hybridhash_jax.methods import METHODS
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.state import TrainState
from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.config import differences, has_config, save_config
from input_pipeline.atomic_file import write_json
from input_pipeline.dataset import Dataset
from input_pipeline.splits import Splits, hold_out

RATE = "optimizer.learning_rate"
TRIALS = "trials.json"
_SHARE, _MOST, _FEW = 0.1, 500, 20  # of the training images that are held out
_SEED = 0  # of the trials
_Made = list[dict[str, Any]]  # trials: values, score (None: it diverged), seconds


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a method is run with.

    Attributes:
      values: fields of the configuration; none where nothing was tried.
      at_edge: those of them that are the first or last of the numbers that were tried.
      trials: all that were made: values, score, and seconds of each.
    """

    values: Values = dataclasses.field(default_factory=dict[str, Any])
    at_edge: tuple[str, ...] = ()
    trials: Sequence[dict[str, Any]] = ()


def validation_dataset(dataset: Dataset, seed: int) -> Dataset:
    """The training images alone: a tenth of them, 500 at most, are queries, the others the rest.

    They are trained on, and are the database. A ValueError where none would be left.
    """
    train = dataset.splits.train
    kept, held_out = hold_out(train, min(_SHARE, _MOST / max(len(train), 1)), seed)
    return dataclasses.replace(dataset, splits=Splits(train=kept, query=held_out, database=kept))


class Tuning:
    """The trials of all methods of a comparison, each method's in a folder of its own."""

    def __init__(self, shared: Shared, plan: Plan, dataset: Dataset, workdir: Path):
        self.shared, self.plan, self.workdir = shared, plan, workdir
        self.dataset = validation_dataset(dataset, shared.config.data.split_seed)
        self.bits = {name: _middle(plan.lengths(name)) for name in plan.methods}

    def folder(self, method: str) -> Path:
        """Where the trials of one method lie."""
        return self.workdir / names.CHOICES / method

    def is_needed(self, method: str) -> bool:
        """Has the method something to choose?"""
        return self.shared.config.comparison.trials > 0 and not METHODS[method].is_fitted

    def check(self) -> None:
        """Refuses, before anything trains, what cannot be chosen: see the messages."""
        left = len(self.dataset.splits.train)
        needed = [method for method in self.plan.methods if self.is_needed(method)]
        if needed:
            self._check_queries()
        for method in needed:
            own, folder = self._config(method), self.folder(method)
            different = differences(own, folder, MAY_CHANGE) if has_config(folder) else []
            if different:
                raise ConfigError(
                    f"the trials in {folder} were made otherwise:\n  "
                    + "\n  ".join(different)
                    + "\nGive the same values, choose another --workdir, or remove that folder and "
                    f"{self.workdir / names.COMPARED / method} to choose and train again"
                )
            if own.batch_size > left:
                raise ValueError(
                    f"batch_size={own.batch_size} is more than the {left:,} training images that "
                    "are left when hyper-parameters are chosen on some of them; give a smaller "
                    "--config.batch_size, or --config.comparison.trials=0"
                )

    def _check_queries(self) -> None:
        """Refuses held-out images that find nothing, and warns of few that find something."""
        labels, splits = self.dataset.labels, self.dataset.splits
        found = labels[splits.query] & labels[splits.database].any(axis=0)
        useful = int(found.any(axis=1).sum())
        told = (
            f"{useful} of {len(splits.query)} training images that are held out to choose "
            "hyper-parameters share a label with one of the others; give more training images a "
            "class, or --config.comparison.trials=0, which takes every method's own values"
        )
        if not useful:
            raise ValueError(told)
        if useful < _FEW:
            logger.warning("a choice by chance: only %s", told)

    def next_values(self, method: str) -> Values | None:
        """What to try next; None when all is tried."""
        if not self.is_needed(method):
            return None
        made = self._made(method)
        tried = [trial["values"] for trial in made]
        return next((values for values in self._grid(method, made) if values not in tried), None)

    def choice(self, method: str) -> Choice:
        """The best of the trials, the first among equals."""
        made = self._made(method) if self.is_needed(method) else []
        scored = [trial for trial in made if trial["score"] is not None]
        if not scored:
            return Choice(trials=made)
        values = max(scored, key=lambda trial: trial["score"])["values"]
        tried = self._tried(method, made)
        edge = tuple(name for name, value in values.items() if value in _ends(tried[name]))
        return Choice(values, edge, made)

    def _tried(self, method: str, made: _Made) -> dict[str, list[Any]]:
        """All values of each field; those of an option with the recipe's own."""
        fields = dict(flat_fields(self.shared.of_method(method)))
        own = {name for trial in made for name in trial["values"]} - {RATE}
        tried = {name: [fields[name]] for name in own} | {RATE: []}
        for trial in made:
            for name, value in trial["values"].items():
                tried[name].append(value)
        return tried

    def attempt(self, method: str, values: Values) -> None:
        """Trains and scores once, and keeps the score. The folder must be held."""
        made = self._made(method)
        if not made:
            save_config(self.folder(method), self._config(method))
        started = time.perf_counter()
        score = score_of(_trial(self.shared, method, values), self.dataset, self.bits[method])
        made.append(
            {"values": dict(values), "score": score, "seconds": time.perf_counter() - started}
        )
        write_json(self.folder(method) / TRIALS, made)

    def _config(self, method: str) -> Config:
        """What the trials of a method have in common."""
        own = self.shared.of_method(method)
        own.bits = (self.bits[method],)
        return own

    def check_budget(self) -> None:
        """Keeps how choices are made, for whoever goes on; refuses to make them otherwise.

        Values that were chosen in another way, or on other images, would stand beside each other in
        one table.
        """
        path, now = self.workdir / names.ALL_CHOICES, self.budget()
        if not path.exists():
            self.workdir.mkdir(parents=True, exist_ok=True)
            write_json(path, self.record())
            return
        try:
            before = json.loads(path.read_text())
            checksum = before["dataset_checksum"]
            different = [
                f"comparison.{field}: {before[name]} there, {now[name]} here"
                for field, name in (("trials", "most_trials"), ("rates", "rates"))
                if before[name] != now[name]
            ]
        except (OSError, ValueError, TypeError, KeyError):
            raise ValueError(f"{path} cannot be read; remove it to go on") from None
        if checksum != self.dataset.checksum:
            raise ValueError(
                f"the images are not those of {path}: dataset_checksum is {checksum!r} there and "
                f"{self.dataset.checksum!r} now. Put them back as they were, or choose another "
                "--workdir"
            )
        if different:
            raise ConfigError(
                f"the hyper-parameters of {self.workdir} are chosen otherwise:\n  "
                + "\n  ".join(different)
                + "\nGive the same values, or choose another --workdir"
            )

    def budget(self) -> dict[str, Any]:
        """How the choices were made."""
        sizes = {name: len(rows) for name, rows in self.dataset.splits.by_name().items()}
        return {
            "train_images": sizes["train"],
            "held_out_images": sizes["query"],
            "most_trials": self.shared.config.comparison.trials,
            "rates": list(self.shared.config.comparison.rates),
            "seed": _SEED,
        }

    def record(self) -> dict[str, Any]:
        """All that was tried and chosen, for tuning.json."""
        choices = {name: self.choice(name) for name in self.plan.methods if self.is_needed(name)}
        return {
            "dataset_checksum": self.dataset.checksum,
            **self.budget(),
            "methods": {
                name: {"bits": self.bits[name]} | dataclasses.asdict(choice)
                for name, choice in choices.items()
            },
        }

    def _made(self, method: str) -> _Made:
        path = self.folder(method) / TRIALS
        return read_trials(path) if path.exists() else []

    def _grid(self, method: str, made: _Made) -> list[dict[str, Any]]:
        """What is tried, as far as it is known: the option waits for the best rate."""
        budget = self.shared.config.comparison.trials
        fields = dict(flat_fields(self.shared.of_method(method)))
        rates = nearest(self.shared.config.comparison.rates, fields[RATE], budget)
        grid = [{RATE: rate} for rate in rates]
        if sum(len(trial["values"]) == 1 for trial in made) < len(rates):
            return grid
        best = self._best_rate(made)
        for name, values in METHODS[method].grid.items():
            field = name if "." in name else f"{METHODS[method].group}.{name}"
            others = [value for value in values if value != fields[field]]
            grid += [{RATE: best, field: value} for value in others]
        return grid[:budget] if best is not None else grid[: len(rates)]

    def _best_rate(self, made: _Made) -> float | None:
        plain = [t for t in made if len(t["values"]) == 1 and t["score"] is not None]
        return max(plain, key=lambda t: t["score"])["values"][RATE] if plain else None


def score_of(config: Config, dataset: Dataset, bits: int) -> float | None:
    """Trains as a run does, but writes nothing; mAP (expected) of the end, None if it diverged."""
    experiment = create_experiment(config, dataset, bits)
    try:
        state = experiment.create_state()
        state, _ = experiment.load_weights(state)
        experiment.open_features(state.params)
        trained = _trained(experiment, experiment.begin(state))
        if trained is None:
            return None
        found = create_evaluator(experiment).evaluate(trained, experiment.total_steps)
        return found.record["map_expected"]
    finally:
        experiment.close()


def _trained(experiment: Experiment, state: TrainState) -> TrainState | None:
    """The state after the last step; None as soon as a loss is not finite."""
    loss: Any = 0.0
    first = int(state.step)
    with contextlib.closing(experiment.train_batches(start_step=first)) as batches:
        for step in range(first, experiment.total_steps):
            batch = sharding.put_batch(next(batches), experiment.mesh)
            state, metrics = experiment.train_step(state, batch, experiment.run_key)
            if not np.isfinite(loss):  # of the step before, so that no device waits
                return None
            loss = metrics["loss"]
            if experiment.order.ends_epoch(step + 1):
                state = experiment.begin_epoch(state, step + 1)
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.params)))
    return state if np.isfinite(loss) and finite else None


def nearest(rates: Sequence[float], usual: float, most: int) -> list[float]:
    """At most so many of the rates, those nearest to the usual one as ratios; in their order."""
    by_distance = sorted(rates, key=lambda rate: abs(math.log(rate / usual)))
    return [rate for rate in sorted(rates) if rate in by_distance[:most]]


def _trial(shared: Shared, method: str, values: Values) -> Config:
    own = shared.of_method(method, values)
    own.seed = _SEED
    own.evaluation.selected_by = "last"
    return own.lock()


def _middle(lengths: Sequence[int]) -> int:
    return lengths[len(lengths) // 2]


def _ends(values: Sequence[Any]) -> list[Any]:
    """The least and the largest of several numbers; none of what has no order."""
    different = {value for value in values if type(value) in (int, float)}
    return [min(different), max(different)] if len(different) > 1 else []


def read_trials(path: Path) -> _Made:
    """The trials of a method; a ValueError says what to do where they cannot be read."""
    try:
        return list(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        raise ValueError(f"{path} cannot be read; remove it to try again") from None
