"""One code length of a configuration, with everything that a run of it needs."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from hybridhash_jax import models
from hybridhash_jax.accumulation import check_parts
from hybridhash_jax.config_rules import Config, check_config
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import make_layout
from hybridhash_jax.encode import Encode, compile_encode
from hybridhash_jax.image_sources import create_sources
from hybridhash_jax.methods.memory_bank import MemoryBank, create_bank
from hybridhash_jax.optimizer import frozen_mask, make_optimizer, make_schedule
from hybridhash_jax.preprocess import pixels as preprocess
from hybridhash_jax.pretrained.workdirs import selected_step
from hybridhash_jax.run_plan import RunPlan
from hybridhash_jax.state import TrainState, create_state, first_state
from hybridhash_jax.train_step import compile_train_step, make_train_step
from input_pipeline import loader
from input_pipeline.dataset import Dataset
from input_pipeline.images.unreadable import Unreadable
from input_pipeline.splits import hold_out


@dataclasses.dataclass(frozen=True)
class Experiment(RunPlan):
    """What training and evaluation share. Made by `create_experiment`.

    Attributes:
      held_out: rows of the data set that are kept for validation.
      top_k: cut-off of mAP; None is all.
      encode: jitted, (params, images uint8) -> packed codes on every device.
    """

    bits: int
    dtype: Any
    held_out: np.ndarray
    top_k: int | None
    graphdef: Any
    optimizer: optax.GradientTransformation
    encode: Encode
    num_parameters: int
    gflop_per_image: float

    def build_model(self) -> models.Network:
        """The network with parameters drawn from the seed."""
        return _build_model(self.config, self.bits, self.dtype)

    def create_state(self) -> TrainState:
        """The state before the first step, its parameters drawn from the seed."""
        config = self.config

        def init_params() -> Any:
            return nnx.split(self.build_model())[1]

        def bank() -> MemoryBank | None:
            return _empty_bank(config, self.bits, self.dataset, len(self.train_rows))

        return create_state(init_params, self.optimizer, bank, self.layout.shardings)

    def best_step(self, history: Sequence[Mapping[str, Any]]) -> int | None:
        """The step of the evaluation that evaluation.selected_by selects, the first among equals."""
        return selected_step(history, self.config.evaluation.selected_by)

    def lower_evaluation(self, params: Any, batch: Mapping[str, jax.ShapeDtypeStruct]) -> Any:
        """Encoding, lowered."""
        encode: Any = self.encode
        return encode.lower(params, self.evaluation_shapes(batch, "image")["image"])

    def describe(self) -> str:
        """What will run, in a few lines."""
        config, splits, mesh = self.config, self.dataset.splits, self.mesh
        cut_off = "all" if self.top_k is None else f"the first {self.top_k:,}"
        held_out = f" ({len(self.held_out):,} held out)" if len(self.held_out) else ""
        model = (
            f"HybridHash {config.model.variant}, {self.bits} bits: {self.num_parameters:,} "
            f"parameters, {self.gflop_per_image:.3g} GFLOP forward an image"
        )
        data = (
            f"data: {self.dataset.name}, protocol {self.dataset.protocol}: "
            f"{len(self.train_rows):,} training{held_out}, {len(splits.query):,} query and "
            f"{len(splits.database):,} database images, {self.dataset.labels.shape[1]} classes; "
            f"mAP over {cut_off}\n      {self.dataset.provenance}"
        )
        devices = (
            f"devices: {mesh.size} x {mesh.devices.flat[0].device_kind}, "
            f"{jax.process_count()} process(es); {self.layout.describe()}; "
            f"computing in {jnp.dtype(self.dtype).name}"
        )
        training = (
            f"training: {config.num_epochs} epochs of {self.steps_per_epoch} steps, batch "
            f"{config.batch_size}; {config.optimizer.name}, learning rate "
            f"{config.optimizer.learning_rate:g} ({config.optimizer.schedule}); "
            f"pairs against the {config.loss.pairs}"
        )
        if config.optimizer.learning_rate_factors:
            training += f"; rates times {', '.join(config.optimizer.learning_rate_factors)}"
        if config.optimizer.frozen:
            training += f"; frozen: {', '.join(config.optimizer.frozen)}"
        start = f"parameters start from: {self.init_note}"
        return f"{model}\n{start}\n{data}\n{devices}\n{training}"


def create_experiment(config: Config, bits: int, dataset: Dataset) -> Experiment:
    """Builds everything for one code length; nothing is trained or written yet.

    Raises:
      ValueError: sizes, batch or patterns that do not fit; the message says what would.
    """
    mesh = configured_mesh(config)
    dtype = compute_dtype(config.model.dtype)
    train_rows, held_out = dataset.splits.train, np.zeros(0, np.int64)
    if config.evaluation.selected_by == "validation":
        fraction = config.evaluation.validation_fraction
        train_rows, held_out = hold_out(train_rows, fraction, config.data.split_seed)
    steps_per_epoch = loader.steps_per_epoch(len(train_rows), config.batch_size)
    total_steps = steps_per_epoch * config.num_epochs

    model = nnx.eval_shape(lambda: _build_model(config, bits, dtype))
    graphdef, params = nnx.split(model)
    optimizer, learning_rate = configured_optimizer(config, params, total_steps, steps_per_epoch)

    def abstract_state(params: Any) -> TrainState:
        bank = _empty_bank(config, bits, dataset, len(train_rows))
        return first_state(params, optimizer, bank)

    layout = make_layout(jax.eval_shape(abstract_state, params), mesh)
    prepare = functools.partial(prepare_images, size=model.image_size, dtype=dtype)
    sources = create_sources(dataset, config, model.image_size)
    augment = functools.partial(
        preprocess.augment,
        horizontal_flip=config.data.horizontal_flip and sources.in_memory,
        crop_padding=config.data.crop_padding,
    )
    step = make_train_step(
        graphdef,
        optimizer,
        lambda images, key: prepare(augment(images, key)),
        schedule=learning_rate,
        accumulation_steps=config.accumulation_steps,
        frozen=frozen_mask(params, config.optimizer.frozen),
        layout=layout,
        **config.loss,
    )

    def embed(params: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(prepare(images))

    return Experiment(
        config=config,
        bits=bits,
        dataset=dataset,
        mesh=mesh,
        layout=layout,
        dtype=dtype,
        train_rows=train_rows,
        held_out=held_out,
        top_k=config.evaluation.top_k or dataset.top_k,
        sources=sources,
        unreadable=Unreadable(sources.names, skip=config.data.on_unreadable == "skip"),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        graphdef=graphdef,
        optimizer=optimizer,
        train_step=compile_train_step(step, mesh, layout),
        encode=compile_encode(embed, mesh, layout),
        run_key=sharding.replicate(jax.random.key(config.seed), mesh),
        num_parameters=sum(x.size for x in jax.tree.leaves(params)),
        gflop_per_image=models.forward_flops(model) / 1e9,
        init_note=config.init["from"] or f"random ({config.model.initializer}, seed {config.seed})",
    )


def _build_model(config: Config, bits: int, dtype: Any) -> models.Network:
    options = dict(config.model) | {"dtype": dtype}
    return models.create_network(outputs=bits, rngs=nnx.Rngs(config.seed), **options)


def _empty_bank(config: Config, bits: int, dataset: Dataset, rows: int) -> MemoryBank | None:
    if config.loss.pairs == "batch":
        return None
    return create_bank(rows, bits, dataset.labels.shape[1])


def check_run(config: Config) -> None:
    """Refuses what cannot run on these devices, before data are fetched.

    Raises:
      ConfigError: values that no run can have.
      ValueError: a mesh or batches that do not fit the devices.
    """
    check_config(config)
    configured_mesh(config)


def configured_mesh(config: Config) -> Mesh:
    """The devices that `config` asks for.

    Raises:
      ValueError: the mesh does not cover them, or they cannot divide the batches; the message
        says what would do.
    """
    mesh = sharding.make_mesh(config.num_devices, **config.mesh)
    sharding.check_batch_size("batch_size", config.batch_size, mesh)
    check_parts(config.batch_size, config.accumulation_steps, mesh.size)
    sharding.check_batch_size("evaluation.batch_size", config.evaluation.batch_size, mesh)
    return mesh


def configured_optimizer(
    config: Config, params: Any, total_steps: int, steps_per_epoch: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """What `config.optimizer` asks for, and its learning rate as a function of the step."""
    options = dict(config.optimizer)
    schedule = make_schedule(
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        **{
            name: options.pop(name)
            for name in ("schedule", "warmup_epochs", "step_epochs", "step_factor")
        },
        learning_rate=options.pop("learning_rate"),
    )
    return make_optimizer(params, learning_rate=schedule, **options), schedule


def prepare_images(images: jax.Array, size: int, dtype: Any) -> jax.Array:
    """Images of bytes resized to the network's `size` and normalised."""
    return preprocess.normalize(preprocess.resize(images, size), dtype)


def compute_dtype(name: str) -> Any:
    """The type that model.dtype means on this machine."""
    if name == "auto":
        return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return jnp.dtype(name)
