"""From a configuration to everything that a run needs."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Self

import grain
import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from hybridhash_jax import configured, models, pretrained
from hybridhash_jax.config_fields import Config
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import Layout, compile_on_batches
from hybridhash_jax.features import fitting
from hybridhash_jax.features.kept import KeptFeatures, plan_features
from hybridhash_jax.image_sources import Sources, create_sources, fitting_batches, training_rows
from hybridhash_jax.methods import Method
from hybridhash_jax.parameters import num_trainable, with_values
from hybridhash_jax.preprocess.augmentation import prepare_images
from hybridhash_jax.runtime.console import logger, progress
from hybridhash_jax.state import TrainState, create_state
from hybridhash_jax.train_step import (
    Step,
    compile_between_epochs,
    compile_train_step,
    make_train_step,
)
from input_pipeline import loader
from input_pipeline.dataset import Dataset
from input_pipeline.images.unreadable import Unreadable
from input_pipeline.images.vectors import Vectors
from input_pipeline.order import TrainingOrder

ShouldStop = Callable[[], bool]
Batches = grain.DatasetIterator[loader.Batch]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run, of one code length. Made by `create_experiment`."""

    config: Config
    dataset: Dataset
    method: Method
    bits: int  # of a code; or the number of classes
    train_rows: np.ndarray  # rows of the data set
    held_out: np.ndarray  # rows of its training split that are kept for validation
    top_k: int | None  # cut-off of mAP; None is all
    mesh: Mesh
    layout: Layout
    sources: Sources  # of the data set's images, or embeddings
    kept: KeptFeatures | None  # in place of images, where the backbone begins with frozen stages
    unreadable: Unreadable  # as far as this process met them
    order: TrainingOrder  # of the training rows
    steps_per_epoch: int
    total_steps: int
    graphdef: Any
    optimizer: optax.GradientTransformation
    train_step: Step  # jitted
    between_epochs: Callable[..., TrainState]  # jitted; see `begin_epoch`
    num_parameters: int  # trainable ones, frozen or not
    gflop_per_image: float
    image_size: int
    init_note: str  # what the parameters start from, in words

    @property
    def num_classes(self) -> int:
        """Classes of the data set."""
        return self.dataset.labels.shape[1]

    def build_network(self, key: jax.Array | None = None) -> models.Network:
        """The network with parameters drawn from the seed, whose key may be given."""
        width = configured.embedding_width(self.dataset)
        return configured.build_network(
            self.config, self.method, self.bits, self.num_classes, width, key
        )

    def stages(self, params: Any, inputs: jax.Array) -> dict[str, jax.Array]:
        """Every stage of the network for inputs of `eval_batches`, without augmentation.

        They are images uint8 [B, h, w, 3], kept features, or embeddings.
        """
        network: models.Network = nnx.merge(self.graphdef, params)
        backbone, after = network.backbone, self.kept and self.kept.plan.stage
        if after is None and not isinstance(self.dataset.images, Vectors):
            pixels = {"mean": backbone.pixel_mean, "std": backbone.pixel_std}
            inputs = prepare_images(inputs, self.image_size, **pixels)
        return network.stages(inputs, after=after)

    def apply(self, params: Any, inputs: jax.Array) -> jax.Array:
        """The network's outputs [B, bits], see `stages`."""
        return self.stages(params, inputs)["embeddings"]

    def open_features(self, params: Any, should_stop: ShouldStop = lambda: False) -> None:
        """Computes the features that are kept, or finds them, before the first batch is made."""
        if self.kept:
            batches = functools.partial(self._batches_of, self.sources)
            self.kept.open(params, self.sources, self.unreadable, batches, should_stop)

    @property
    def vectors_id(self) -> str | None:
        """What the vectors in batches are; None where they are images or maps."""
        of_kept = self.kept.vectors_id if self.kept else None
        return "embeddings" if isinstance(self.dataset.images, Vectors) else of_kept

    def create_state(self) -> TrainState:
        """The state before the first step, its parameters drawn from the seed."""

        def make(labels: jax.Array, key: jax.Array) -> TrainState:
            params = nnx.split(self.build_network(key))[1]
            return configured.make_first_state(
                self.config, self.method, self.optimizer, self.bits, params, labels, key
            )

        labels = self.dataset.labels[self.train_rows]
        key = jax.random.key(self.config.seed)  # from outside: all seeds share one program
        return create_state(make, self.layout.shardings, labels, key)

    def load_weights(self, state: TrainState) -> tuple[TrainState, pretrained.Loaded | None]:
        """The state with parameters from init.weights, and what was loaded; None without it."""
        options = dict(self.config.init)
        if (path := options.pop("weights")) is None:
            return state, None
        network = self.build_network()
        with progress(f"loading weights from {path}"):
            loaded = pretrained.load_pretrained(network, path, **options)
        logger.info("%s", loaded.describe())
        return state.starting_at(self.layout.place_params(nnx.split(network)[1])), loaded

    def starting_from(self, note: str | None) -> Self:
        """The same with another `init_note`; None changes nothing."""
        return dataclasses.replace(self, init_note=note or self.init_note)

    @functools.cached_property
    def run_key(self) -> jax.Array:
        """All randomness inside the step is folded from it."""
        return sharding.replicate(jax.random.key(self.config.seed), self.mesh)

    def begin_epoch(self, state: TrainState, step: int) -> TrainState:
        """The state before the epoch that begins after `step` steps; the one before it is ended."""
        if not self.method.acts_between_epochs:
            return state
        images = self.order.of_epoch(step // self.steps_per_epoch).astype(np.int32)
        return self.between_epochs(state, sharding.replicate(images, self.mesh))

    def begin(self, state: TrainState) -> TrainState:
        """What a run starts from: `fit`, and what the method computes before its first epoch."""
        state = self.fit(state)
        labels = self.dataset.labels[self.train_rows]
        state = configured.started(self.method, state, labels, self.layout.shardings)
        return state if self.method.is_fitted else self.begin_epoch(state, 0)

    def fit(self, state: TrainState) -> TrainState:
        """A first state with all that is taken from features of the training images.

        What features are normalised by, unless init.weights brought it, and the head of a fitted
        method, whose only step it is; a ValueError for features that it cannot be fitted to.
        """
        if not fitting.is_needed(self.method, state.params):
            return state
        rows = fitting.chosen_rows(self.method, self.train_rows)
        compute = compile_on_batches(
            lambda params, inputs: self.stages(params, inputs)["features"], self.mesh, self.layout
        )
        with contextlib.closing(self.eval_batches(rows)) as batches:
            features = fitting.read_features(compute, state.params, batches, len(rows), self.mesh)
        values = fitting.fitted_values(self.method, features, self.bits, state.params)
        state = state.starting_at(self.layout.place_params(with_values(state.params, values)))
        return dataclasses.replace(state, step=state.step + int(self.method.is_fitted))

    @property
    def batch_sources(self) -> Sources:
        """What batches are made from: kept features once they are open, else the images."""
        if self.kept is None:
            return self.sources
        assert self.kept.sources is not None, "open_features was not called"
        return self.kept.sources

    def train_batches(self, start_step: int) -> Batches:
        """This process's slices of the training batches from `start_step` on, without end."""
        return loader.make_train_iterator(
            self.batch_sources.train,
            self.dataset.labels,
            self.train_rows,
            order=self.order,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            unreadable=self.unreadable,
        )

    def eval_batches(self, rows: np.ndarray) -> Batches:
        """This process's slices of one pass over `rows`, in order."""
        return self._batches_of(self.batch_sources, rows)

    def _batches_of(self, sources: Sources, rows: np.ndarray) -> Batches:
        return loader.make_eval_batches(
            sources.evaluation,
            self.dataset.labels,
            rows,
            batch_size=self.config.evaluation.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            unreadable=self.unreadable,
        )

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

    def close(self) -> None:
        """Ends the threads that decode images."""
        self.sources.close()


def create_experiment(
    config: Config,
    dataset: Dataset,
    length: int | None = None,
    *,
    trains: bool = True,
    devices: Sequence[Any] | None = None,
) -> Experiment:
    """Builds everything for one run; nothing is trained or written yet.

    `length` is the bits of a code, None the first of config.bits. What does not train takes any number
    of training images, of a classifier also none. `devices` that are only described are for compiling.

    Raises:
      ValueError: sizes, batch, labels or patterns that do not fit; the message says what would.
    """
    mesh = configured.configured_mesh(config, devices)
    config = fitting_batches(config, dataset, mesh.size)
    method = configured.create_method(config)
    train_rows, held_out = training_rows(config, method, dataset, trains=trains)
    num_classes = dataset.labels.shape[1]
    bits = num_classes if method.learns == "classes" else length or config.bits[0]
    order = configured.training_order(config, method, len(train_rows))
    steps_per_epoch = max(order.steps_per_epoch, 1)
    total_steps = steps_per_epoch * config.num_epochs
    if method.is_fitted:
        steps_per_epoch = total_steps = 1  # the fit
    method = configured.create_method(config, total_steps)
    width = configured.embedding_width(dataset)
    build = functools.partial(configured.build_network, config, method, bits, num_classes, width)
    network = nnx.eval_shape(build)
    if trains:
        configured.check_lengths(config, method, len(train_rows), network.backbone.width)
    graphdef, params = nnx.split(network)
    optimizer, schedule = configured.configured_optimizer(
        config, method, params, total_steps, steps_per_epoch, trains=trains
    )
    frozen = configured.configured_frozen(config, params)
    plan = plan_features(config, method, network, frozen, dataset)
    labels = jax.ShapeDtypeStruct((len(train_rows), num_classes), dataset.labels.dtype)
    layout = configured.configured_layout(config, method, optimizer, bits, params, labels, mesh)
    sources = create_sources(dataset, config, network.image_size)
    augment = configured.configured_augment(config, method, sources.in_memory, network.backbone)
    step = make_train_step(
        graphdef,
        optimizer,
        method,
        augment if plan is None and width is None else lambda features, keys: features,
        schedule=schedule,
        accumulation_steps=config.accumulation_steps,
        frozen=frozen,
        ema_decay=configured.ema_decay(config, method),
        layout=layout,
        after=plan and plan.stage,
        batch_norms=configured.batch_norms(config, frozen),
    )
    return Experiment(
        config=config,
        dataset=dataset,
        method=method,
        bits=bits,
        train_rows=train_rows,
        held_out=held_out,
        top_k=config.evaluation.top_k or dataset.top_k,
        mesh=mesh,
        layout=layout,
        sources=sources,
        kept=plan and KeptFeatures(plan, config, dataset, graphdef, mesh, layout),
        unreadable=Unreadable(sources.names, skip=config.data.on_unreadable == "skip"),
        order=order,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        graphdef=graphdef,
        optimizer=optimizer,
        train_step=compile_train_step(step, mesh, layout, plan and plan.is_done(params)),
        between_epochs=compile_between_epochs(method, layout),
        num_parameters=num_trainable(params),
        gflop_per_image=models.forward_flops(network) / 1e9,
        image_size=network.image_size,
        init_note=config.init.weights or f"random ({config.model.initializer}, seed {config.seed})",
    )
