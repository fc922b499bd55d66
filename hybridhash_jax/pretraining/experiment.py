"""A classifier's run, with everything that it needs."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.config_rules import Config
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import make_layout
from hybridhash_jax.experiment import (
    compute_dtype,
    configured_mesh,
    configured_optimizer,
    create_experiment,
    prepare_images,
)
from hybridhash_jax.image_sources import Sources, create_sources
from hybridhash_jax.optimizer import frozen_mask
from hybridhash_jax.preprocess.mixing import Mixing
from hybridhash_jax.pretrained.workdirs import selected_step
from hybridhash_jax.pretraining.evaluate import Measure, compile_measure
from hybridhash_jax.pretraining.step import Augment, make_augment, make_classification_step
from hybridhash_jax.run_plan import RunPlan
from hybridhash_jax.state import TrainState, create_state, first_state
from hybridhash_jax.train_step import compile_train_step
from input_pipeline import loader
from input_pipeline.dataset import Dataset
from input_pipeline.images.unreadable import Unreadable


@dataclasses.dataclass(frozen=True)
class ClassificationExperiment(RunPlan):
    """What training and evaluation share. Made by `create_classification_experiment`.

    The data set's training images are trained on, its queries are the validation images, and its
    database is not used.

    Attributes:
      validation_rows: rows of the data set that top-1 and top-5 are measured on.
      measure: jitted, of one batch; see `evaluate.compile_measure`.
    """

    validation_rows: np.ndarray
    dtype: Any
    optimizer: optax.GradientTransformation
    measure: Measure
    num_parameters: int
    gflop_per_image: float

    @property
    def num_classes(self) -> int:
        """Outputs of the network."""
        return self.dataset.labels.shape[1]

    def best_step(self, history: Sequence[Mapping[str, Any]]) -> int | None:
        """The step of the best top-1, or the last; the first among equals."""
        return selected_step(history, self.config.evaluation.selected_by, "classify")

    def build_model(self) -> models.Network:
        """The network with parameters drawn from the seed."""
        return build_classifier(self.config, self.num_classes, self.dtype)

    def create_state(self) -> TrainState:
        """The state before the first step, its parameters drawn from the seed."""
        return create_state(
            lambda: nnx.split(self.build_model())[1],
            self.optimizer,
            lambda: None,
            self.layout.shardings,
            averaged=self.config.pretraining.ema_decay > 0,
        )

    def lower_evaluation(self, params: Any, batch: Mapping[str, jax.ShapeDtypeStruct]) -> Any:
        """The measurement of one batch, lowered."""
        measure: Any = self.measure
        return measure.lower(params, self.evaluation_shapes(batch, "image", "label", "mask"))

    def describe(self) -> str:
        """What will run, in a few lines."""
        config, mesh = self.config, self.mesh
        recipe = ", ".join(f"{name} {value}" for name, value in config.pretraining.items())
        return (
            f"NesT {config.model.variant} as a classifier: {self.num_parameters:,} parameters, "
            f"{self.gflop_per_image:.3g} GFLOP forward an image\n"
            f"parameters start from: {self.init_note}\n"
            f"data: {self.dataset.name}: {len(self.train_rows):,} training and "
            f"{len(self.validation_rows):,} validation images, {self.num_classes} classes\n"
            f"      {self.dataset.provenance}\n"
            f"devices: {mesh.size} x {mesh.devices.flat[0].device_kind}, {jax.process_count()} "
            f"process(es); {self.layout.describe()}; computing in "
            f"{jnp.dtype(self.dtype).name}\n"
            f"training: {config.num_epochs} epochs of {self.steps_per_epoch} steps, batch "
            f"{config.batch_size}; {config.optimizer.name}, learning rate "
            f"{config.optimizer.learning_rate:g} ({config.optimizer.schedule})\n"
            f"          {recipe}"
        )


def create_plan(config: Config, dataset: Dataset) -> RunPlan:
    """The run of `config.task`; of hashing that of the first code length. Errors as there."""
    if config.task == "classify":
        return create_classification_experiment(config, dataset)
    return create_experiment(config, config.bits[0], dataset)


def create_classification_experiment(config: Config, dataset: Dataset) -> ClassificationExperiment:
    """Builds everything for a run; nothing is trained or written yet.

    Raises:
      ValueError: images of several classes or none, or sizes, batch or patterns that do not fit.
    """
    train_rows, validation_rows = dataset.splits.train, dataset.splits.query
    _check_labels(dataset)
    mesh = configured_mesh(config)
    dtype = compute_dtype(config.model.dtype)
    steps_per_epoch = loader.steps_per_epoch(len(train_rows), config.batch_size)
    total_steps = steps_per_epoch * config.num_epochs
    num_classes = dataset.labels.shape[1]
    model = nnx.eval_shape(lambda: build_classifier(config, num_classes, dtype))
    graphdef, params = nnx.split(model)
    optimizer, learning_rate = configured_optimizer(config, params, total_steps, steps_per_epoch)
    sources = create_sources(dataset, config, model.image_size)
    options = config.pretraining

    def abstract_state(params: Any) -> TrainState:
        return first_state(params, optimizer, None, averaged=options.ema_decay > 0)

    layout = make_layout(jax.eval_shape(abstract_state, params), mesh)
    step = make_classification_step(
        graphdef,
        optimizer,
        _configured_augment(config, sources, model.image_size),
        mixing=Mixing(options.mixup, options.cutmix, options.mix_probability),
        label_smoothing=options.label_smoothing,
        ema_decay=options.ema_decay,
        schedule=learning_rate,
        dtype=dtype,
        frozen=frozen_mask(params, config.optimizer.frozen),
        layout=layout,
        accumulation_steps=config.accumulation_steps,
    )
    prepare = functools.partial(prepare_images, size=model.image_size, dtype=dtype)

    def classify(params: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(prepare(images))

    return ClassificationExperiment(
        config=config,
        dataset=dataset,
        mesh=mesh,
        layout=layout,
        dtype=dtype,
        train_rows=train_rows,
        validation_rows=validation_rows,
        sources=sources,
        unreadable=Unreadable(sources.names, skip=config.data.on_unreadable == "skip"),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        optimizer=optimizer,
        train_step=compile_train_step(step, mesh, layout),
        measure=compile_measure(classify, mesh, layout),
        run_key=sharding.replicate(jax.random.key(config.seed), mesh),
        num_parameters=sum(x.size for x in jax.tree.leaves(params)),
        gflop_per_image=models.forward_flops(model) / 1e9,
        init_note=config.init["from"] or f"random ({config.model.initializer}, seed {config.seed})",
    )


def build_classifier(config: Config, num_classes: int, dtype: Any) -> models.Network:
    """The network of `config.model` with a classification head."""
    options = dict(config.model) | {"dtype": dtype}
    return models.create_network(
        head="classifier", outputs=num_classes, rngs=nnx.Rngs(config.seed), **options
    )


def _configured_augment(config: Config, sources: Sources, size: int) -> Augment:
    return make_augment(
        size,
        horizontal_flip=config.data.horizontal_flip and sources.in_memory,
        crop_padding=config.data.crop_padding,
        magnitude=config.pretraining.augment_magnitude,
        random_erasing=config.pretraining.random_erasing,
    )


def _check_labels(dataset: Dataset) -> None:
    for name, rows in (("training", dataset.splits.train), ("query", dataset.splits.query)):
        if not len(rows):
            raise ValueError(
                f"{dataset.name} has no {name} images; task=classify trains on its training images "
                "and measures top-1 on its queries"
            )
        counts = dataset.labels[rows].sum(axis=1)
        if (counts != 1).any():
            raise ValueError(
                f"{(counts != 1).sum():,} of the {len(rows):,} {name} images of {dataset.name} "
                "have several labels or none; task=classify needs exactly one class an image. Use "
                "a data set with one class an image, or task=hash"
            )
