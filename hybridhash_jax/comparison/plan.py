"""Which runs a comparison consists of, and what it leaves out."""

import copy
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from configs import default
from hybridhash_jax import configured, models
from hybridhash_jax.config_fields import Config, ConfigError
from hybridhash_jax.config_rules import compared_methods
from hybridhash_jax.image_sources import check_enough, training_rows
from hybridhash_jax.methods import METHODS, Method
from hybridhash_jax.workdir import names
from input_pipeline.dataset import Dataset

Values = Mapping[str, Any]  # of fields of the configuration, by dotted name


@dataclasses.dataclass(frozen=True)
class Shared:
    """The configuration that all runs begin with, and the fields that no recipe changes."""

    config: Config
    given: frozenset[str] = frozenset()

    def of_method(self, method: str, values: Values | None = None) -> Config:
        """The configuration of one method's runs: its recipe, and the `values` that were chosen.

        It is that of an ordinary run, and says nothing of the comparison. A ConfigError for a
        recipe that the method does not have.
        """
        own: Any = copy.deepcopy(self.config)
        own.comparison = default.get_config().comparison
        own.method.name = method
        if METHODS[method].is_fitted:
            own.method.recipe = None  # nothing of it is trained
        own = configured.with_recipe(own, {*self.given, *(values or ())})
        own.update_from_flattened_dict(dict(values or {}))
        return own

    def of_run(self, run: "Run", values: Values) -> Config:
        """The configuration of one run, with the values that were chosen for its method."""
        own = self.of_method(run.cell.method, values)
        own.seed, own.bits = run.seed, (run.cell.bits,)
        return own.lock()

    def method(self, name: str) -> Method:
        """The method with its options."""
        return configured.create_method(self.of_method(name))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method at one code length."""

    method: str
    bits: int


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a cell: `cell` with `seed`."""

    cell: Cell
    seed: int

    @property
    def folder(self) -> str:
        """Its workdir, relative to that of the comparison."""
        return f"{names.COMPARED}/{self.cell.method}/seed{self.seed}/{self.cell.bits}bits"

    def __str__(self) -> str:
        return f"{self.cell.method}, {self.cell.bits} bits, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A method, or one code length of it, that is not compared, and the `reason` in words."""

    method: str
    bits: int | None
    reason: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cells, by method and then by length, the seeds of each, and what was left out."""

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def runs(self) -> list[Run]:
        """All runs: every cell with the first seed, then with the next, so that a table fills."""
        return [Run(cell, seed) for seed in self.seeds for cell in self.cells]

    @property
    def methods(self) -> list[str]:
        """Those that are compared, each once."""
        return list(dict.fromkeys(cell.method for cell in self.cells))

    def lengths(self, method: str) -> list[int]:
        """The code lengths of one method, the shortest first."""
        return sorted(cell.bits for cell in self.cells if cell.method == method)


def make_plan(shared: Shared, dataset: Dataset) -> Plan:
    """Finds out what can be compared; nothing is trained.

    Raises:
      ValueError: nothing is left to compare, or the data or devices fit no method.
    """
    cells: list[Cell] = []
    left_out: list[LeftOut] = []
    backbone: models.Backbone | None = None
    for name in compared_methods(shared.config):
        try:
            own = shared.of_method(name)
        except ConfigError as error:
            left_out.append(LeftOut(name, None, str(error)))
            continue
        own = configured.checked_run(own)
        fitted = METHODS[name].is_fitted
        check_enough(dataset, None if fitted else own.batch_size, searches=True)
        if reason := _label_problem(own, dataset):
            left_out.append(LeftOut(name, None, reason))
            continue
        for bits in sorted(shared.config.bits):
            backbone = backbone or _backbone(own, dataset)
            if reason := _length_problem(own, dataset, bits, backbone):
                left_out.append(LeftOut(name, bits, reason))
            else:
                cells.append(Cell(name, bits))
    if not cells:
        reasons = "\n  ".join(f"{one.method}: {one.reason}" for one in left_out)
        raise ValueError(
            f"no method is left to compare:\n  {reasons}\nGive others with "
            "--config.comparison.methods, or other --config.bits"
        )
    return Plan(tuple(cells), tuple(shared.config.comparison.seeds), tuple(left_out))


def folder_of(workdir: Path, run: Run) -> Path:
    """The workdir of one run."""
    return workdir / run.folder


def _label_problem(config: Config, dataset: Dataset) -> str | None:
    """Why the method cannot learn these labels; None if it can."""
    try:
        training_rows(config, configured.create_method(config), dataset)
    except ValueError as error:
        return str(error)
    return None


def _backbone(config: Config, dataset: Dataset) -> models.Backbone:
    """The backbone that all share, without parameters."""
    width = configured.embedding_width(dataset)
    method = configured.create_method(config)
    build = functools.partial(configured.build_network, config, method, 1, 1, width)
    return nnx.eval_shape(build).backbone


def _length_problem(
    config: Config, dataset: Dataset, bits: int, backbone: models.Backbone
) -> str | None:
    """Why the method cannot have codes of this length; None if it can."""
    method = configured.create_method(config)
    labels = dataset.labels[training_rows(config, method, dataset)[0]]
    width = configured.embedding_width(dataset)
    if backbone.grid == 1:  # a head on vectors is built without what gives the vectors
        heads = {name: config.model[name] for name in ("head_kind", "head_width", "head_dropout")}
        config, width = ConfigDict(config.to_dict()), backbone.width
        config.model.update(dict(default.get_config().model, variant=models.GIVEN, **heads))
    try:
        method.check_bits(bits, len(labels), backbone.width)
        build = functools.partial(configured.build_network, config, method, bits)
        nnx.eval_shape(lambda: build(labels.shape[1], width))
        key = jax.random.key(config.seed)
        jax.eval_shape(lambda labels: method.init_state(labels, bits, key), labels)
    except ValueError as error:
        return str(error)
    return None
