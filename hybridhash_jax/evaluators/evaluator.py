"""The contract of all evaluators."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hybridhash_jax.codes.files import CodeSet
from hybridhash_jax.encode import EvaluationStopped
from hybridhash_jax.experiment import Experiment
from hybridhash_jax.runtime.console import logger, progress
from hybridhash_jax.state import TrainState

ShouldStop = Callable[[], bool]
OnImages = Callable[[int], object]


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation: its numbers as metrics.jsonl keeps them, and the codes it was taken of.

    Step, epoch, parameters_fingerprint, evaluate_seconds and images_per_second are always in the
    record. Codes are without the images that cannot be read; None for classes.
    """

    record: dict[str, Any]
    codes: tuple[CodeSet, CodeSet] | None = None


class Evaluator(abc.ABC):
    """Measures the states of one experiment."""

    # Numbers that results tell of the selected, best and last evaluation; the first says which is
    # best. And others of the selected record.
    measured: ClassVar[tuple[str, ...]]
    told: ClassVar[tuple[str, ...]]
    num_images: int  # that an evaluation looks at

    def __init__(self, experiment: Experiment):
        self.experiment = experiment

    @abc.abstractmethod
    def measure(
        self, state: TrainState, should_stop: ShouldStop, on_images: OnImages
    ) -> Evaluation:
        """Looks at all images and measures; `evaluate` adds step and epoch to the record.

        Raises:
          DataError: an image cannot be read and data.on_unreadable is "error".
          EvaluationStopped: `should_stop`, asked before each batch, said so.
          ValueError: outputs are NaN (a classifier's also infinite), or no image could be read.
        """

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """What results say of the run that only this evaluator knows."""

    @abc.abstractmethod
    def table(self, entries: Sequence[Mapping[str, Any]]) -> str:
        """The results of some runs in a few lines."""

    def collect(self, state: TrainState, record: dict[str, Any], stop: ShouldStop) -> Evaluation:
        """An evaluation that was made before, with its codes made again where it has some."""
        del state, stop
        return Evaluation(record)

    def keep(self, folder: Path, evaluation: Evaluation) -> None:
        """Writes what an evaluation found, other than its numbers; the first process does."""
        del folder, evaluation

    def kept(self, folder: Path, record: dict[str, Any]) -> Evaluation | None:
        """What `keep` wrote of the evaluation with this record; None if that is not there."""
        del folder
        return Evaluation(record)

    def write_report(
        self,
        workdir: Path,
        evaluation: Evaluation,
        source: str,
        entry: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Writes the report of an evaluation and says where it is; returns its content, or {}.

        `source` is what was evaluated, in words. `entry` is of results.json, if it is the end of a
        training run, which is told of as well.
        """
        del workdir, evaluation, source, entry
        return {}

    def evaluate(
        self,
        state: TrainState,
        step: int,
        should_stop: ShouldStop = lambda: False,
        on_images: OnImages = lambda images: None,
        *,
        epoch: float | None = None,
    ) -> Evaluation:
        """Measures the state after `step` steps; errors as `measure`.

        `epoch` is what to call it where other images were trained on.
        """
        found = self.measure(state, should_stop, on_images)
        epoch = step / self.experiment.steps_per_epoch if epoch is None else epoch
        record = {"step": step, "epoch": epoch}
        record |= found.record
        if warning := self.warning(record):
            logger.warning("%s", warning)
        return dataclasses.replace(found, record=record)

    def warning(self, record: Mapping[str, Any]) -> str | None:
        """What is wrong with an evaluation, in words; None for nothing."""
        del record
        return None

    def evaluate_with_progress(
        self,
        state: TrainState,
        step: int,
        should_stop: ShouldStop = lambda: False,
        epoch: float | None = None,
    ) -> Evaluation | None:
        """`evaluate`, telling how far it is; None if it was asked to stop."""
        with progress("evaluating", self.num_images) as told:
            try:
                return self.evaluate(state, step, should_stop, told.update, epoch=epoch)
            except EvaluationStopped:
                return None
