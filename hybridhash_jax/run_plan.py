"""What a training run goes through, whatever it learns: batches, evaluations, checkpoints."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from hybridhash_jax import pretrained
from hybridhash_jax.config_rules import Config
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import Layout
from hybridhash_jax.image_sources import Sources
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.state import TrainState
from hybridhash_jax.train_step import Step
from input_pipeline import loader
from input_pipeline.dataset import Dataset
from input_pipeline.images.unreadable import Unreadable

Batches = grain.DatasetIterator[loader.Batch]


@dataclasses.dataclass(frozen=True)
class RunPlan(abc.ABC):
    """What the training loop needs of a run.

    Attributes:
      train_rows: rows of the data set that are trained on.
      sources: makes the images of training and evaluation batches.
      layout: where parameters, optimizer state and bank lie on the mesh.
      unreadable: images that could not be read, as far as this process met them.
      train_step: jitted, (state, batch, run_key) -> (next state, metrics).
      run_key: what all randomness inside the step is folded from.
      init_note: what the parameters start from, in words.
    """

    config: Config
    dataset: Dataset
    mesh: Mesh
    layout: Layout
    train_rows: np.ndarray
    sources: Sources
    unreadable: Unreadable
    steps_per_epoch: int
    total_steps: int
    train_step: Step
    run_key: jax.Array
    init_note: str

    @abc.abstractmethod
    def build_model(self) -> nnx.Module:
        """The network with parameters drawn from the seed."""

    @abc.abstractmethod
    def create_state(self) -> TrainState:
        """The state before the first step, its parameters drawn from the seed."""

    @abc.abstractmethod
    def describe(self) -> str:
        """What will run, in a few lines."""

    @abc.abstractmethod
    def best_step(self, history: Sequence[Mapping[str, Any]]) -> int | None:
        """The step of the evaluation that evaluation.selected_by selects, the first among equals."""

    def load_init(self, state: TrainState) -> tuple[TrainState, pretrained.Loaded | None]:
        """The state with parameters from init.from, and what was loaded; None where none is given.

        Raises:
          ValueError: the file cannot be read or does not fit.
        """
        init = self.config.init
        if init["from"] is None:
            return state, None
        model = self.build_model()
        options = {name: value for name, value in init.items() if name != "from"}
        loaded = pretrained.load_pretrained(model, init["from"], **options)
        logger.info("%s", loaded.describe())
        params = self.layout.place_params(nnx.split(model)[1])
        # The step gives its buffers away, so the average needs its own.
        ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
        return dataclasses.replace(state, params=params, ema=ema), loaded

    def starting_from(self, note: str | None) -> Self:
        """The same, with what a file is known to have given as `init_note`; None changes nothing."""
        return dataclasses.replace(self, init_note=note or self.init_note)

    @abc.abstractmethod
    def lower_evaluation(self, params: Any, batch: Mapping[str, jax.ShapeDtypeStruct]) -> Any:
        """What runs in an evaluation, lowered for `params` and images like those of a batch."""

    def train_batches(self, start_step: int) -> Batches:
        """This process's slices of the training batches from `start_step` on, without end."""
        return loader.make_train_iterator(
            self.sources.train,
            self.dataset.labels,
            self.train_rows,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            unreadable=self.unreadable,
        )

    def eval_batches(self, rows: np.ndarray) -> Batches:
        """This process's slices of one pass over `rows`, in order."""
        return loader.make_eval_batches(
            self.sources.evaluation,
            self.dataset.labels,
            rows,
            batch_size=self.config.evaluation.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            unreadable=self.unreadable,
        )

    def image_names(self, rows: np.ndarray) -> np.ndarray:
        """What the images of `rows` are called, str [N]: their file names, or "image ROW"."""
        names = self.sources.names
        found = [names[row] if len(names) else f"image {row}" for row in rows.tolist()]
        return np.asarray(found, np.str_)

    def close(self) -> None:
        """Ends the threads that decode images."""
        self.sources.close()

    def evaluates_at(self, step: int) -> bool:
        """Is an evaluation due after `step` steps?"""
        if step == 0:
            return self.config.evaluation.before_training
        every = self.config.evaluation.every_epochs * self.steps_per_epoch
        return step % every == 0 or step == self.total_steps

    def saves_at(self, step: int) -> bool:
        """Is a checkpoint due after `step` steps?"""
        every = max(1, round(self.config.checkpoint.every_epochs * self.steps_per_epoch))
        return step > 0 and (step % every == 0 or step == self.total_steps)

    def evaluation_shapes(
        self, batch: Mapping[str, jax.ShapeDtypeStruct], *names: str
    ) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes of an evaluation batch, from those of a training batch."""
        size = self.config.evaluation.batch_size
        return {
            name: jax.ShapeDtypeStruct(
                (size, *x.shape[1:]), x.dtype, sharding=sharding.batch_sharded(self.mesh)
            )
            for name, x in batch.items()
            if name in names
        }

    def images_in_step(self, step: int) -> int:
        """Images of the batch of `step`, without padding."""
        position = step % self.steps_per_epoch * self.config.batch_size
        return min(self.config.batch_size, len(self.train_rows) - position)
