"""The parts of a run that a configuration names: method, network, mesh, optimizer, augmentation."""

import copy
import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from hybridhash_jax import models
from hybridhash_jax.accumulation import check_parts
from hybridhash_jax.config_fields import Config, ConfigError
from hybridhash_jax.config_rules import check_batch, check_config
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import Layout, make_layout
from hybridhash_jax.methods import METHODS, PLAIN, RECIPES, Method
from hybridhash_jax.optimizer import frozen_mask, make_optimizer, make_schedule
from hybridhash_jax.parameters import (
    constants,
    norms_in_training,
    parts_by_flag,
    without_flagged,
)
from hybridhash_jax.preprocess.augmentation import Augment, make_augment
from hybridhash_jax.runtime.console import logger, progress
from hybridhash_jax.state import TrainState, first_state
from input_pipeline.dataset import Dataset
from input_pipeline.images.vectors import Vectors
from input_pipeline.order import TrainingOrder


def create_method(config: Config, total_steps: int | None = None) -> Method:
    """The method of `config.task` and `config.method.name`, with its options.

    `total_steps` are those of the run, where they are known.
    """
    kind = METHODS["classification" if config.task == "classify" else config.method.name]
    names = {field.name for field in dataclasses.fields(kind)}
    # Of given embeddings another model was trained.
    from_scratch = config.init.weights is None and config.model.variant != models.GIVEN
    given = {"seed": config.seed, "from_scratch": from_scratch, **config[kind.group]}
    if total_steps:
        given["total_steps"] = total_steps
    return kind(**{name: value for name, value in given.items() if name in names})


def with_recipe(config: Config, given: Collection[str] = ()) -> Config:
    """A copy in which the fields that method.recipe stands for are filled in, and it is None.

    Fields in `given`, by dotted name, stay. "published" leaves nothing of the optimizer to `config`
    but what is frozen. A ConfigError for a recipe that the method does not have.
    """
    name, kind = config.method.recipe, METHODS.get(config.method.name)
    if name not in (None, *RECIPES):
        raise ConfigError(f"method.recipe={name!r}; accepted: {', '.join(RECIPES)}")
    filled: Any = copy.deepcopy(config)
    if name is None or kind is None:
        return filled
    if name == "published" and name not in kind.recipes:
        has = [key for key, method in METHODS.items() if name in method.recipes]
        raise ConfigError(
            f"method.name={config.method.name} has no recipe {name!r}; these have: {', '.join(has)}"
        )
    filled.method.recipe = None
    plain = PLAIN if name == "published" else {}
    for field, value in {**plain, **kind.recipes.get(name, {})}.items():
        if field not in given:
            group, _, last = field.rpartition(".")
            (filled[group] if group else filled)[last] = value
    return filled


METHOD = "method"  # where a network keeps what its method trains


class MethodParameters(nnx.Module):
    """What a method trains beside the network."""

    def __init__(self, arrays: Mapping[str, Any]):
        for name, array in arrays.items():
            setattr(self, name, nnx.Param(array))


def build_network(
    config: Config,
    method: Method,
    bits: int,
    num_classes: int,
    width: int | None = None,
    key: jax.Array | None = None,
) -> models.Network:
    """The network of `config.model` with the head that the method needs.

    `width` is that of given embeddings; None where the data are images. `key` is that of the seed.
    """
    key = jax.random.key(config.seed) if key is None else key
    network = network_that_encodes(config, method, bits, width, key)
    own = method.init_parameters(num_classes, bits, key)
    if own:
        setattr(network, METHOD, MethodParameters(own))
    return network


def network_that_encodes(
    config: Config, method: Method, bits: int, width: int | None, key: jax.Array
) -> models.Network:
    """`build_network` without what the method trains beside it, which no code depends on."""
    options = dict(config.model) | {"dtype": compute_dtype(config.model.dtype)}
    _check_input(config, width)
    if width is not None:
        options["width"] = width
    if method.is_fitted:
        options["head_kind"] = "linear"  # whatever the methods beside it are given
    return models.create_network(head=method.head, outputs=bits, rngs=nnx.Rngs(key), **options)


def _check_input(config: Config, width: int | None) -> None:
    variant, given = config.model.variant, models.GIVEN
    if width is not None and variant != given:
        raise ConfigError(
            f"the data are embeddings and model.variant={variant!r} takes images; use "
            f"--config.model.variant={given}"
        )
    if width is not None and config.task == "classify":
        raise ConfigError("task='classify' trains on images, and the data are embeddings")
    if width is None and variant == given:
        raise ConfigError(
            f"model.variant={given!r} takes embeddings, and data.name={config.data.name} are "
            "images; use --config=configs/embeddings.py, or another variant"
        )


def training_order(config: Config, method: Method, count: int) -> TrainingOrder:
    """What each step sees of `count` training images."""
    epoch = method.epoch(count)
    return TrainingOrder(count, config.batch_size, config.seed, epoch.images, epoch.passes)


def check_lengths(config: Config, method: Method, images: int, width: int) -> None:
    """Refuses code lengths that a method cannot have, all before the first is trained.

    `images` is how many it learns from, `width` that of their features; errors are ValueErrors.
    """
    if method.learns == "codes":
        for bits in config.bits:
            method.check_bits(bits, images, width)


def configured_frozen(config: Config, params: Any) -> Any:
    """A pytree of booleans like `params`: what the run never changes, see `frozen_mask`."""
    return frozen_mask(params, (*config.optimizer.frozen, *constants(params)))


def started(method: Method, state: TrainState, labels: np.ndarray, shardings: Any) -> TrainState:
    """A first state with what the method computes of all training labels before training."""
    if not method.starts_on_host:
        return state
    with progress(f"preparing {method.title}"):
        own = method.start(state.method, labels)
    if note := method.note(own):
        logger.info("%s: %s", method.title, note)
    own = sharding.of_first_process(jax.tree.map(np.asarray, own))
    # Not by device_put, which gathers every process's copy to compare them.
    own = jax.tree.map(
        lambda x, where: jax.make_array_from_callback(x.shape, where, lambda part: x[part]),
        own, shardings.method,
    )  # fmt: skip
    return dataclasses.replace(state, method=own)


def batch_norms(config: Config, frozen: Any) -> tuple[str, ...]:
    """Paths of the batch norms that go by the batch: those of the head, and by model.batch_norm."""
    norms = norms_in_training(frozen)
    if config.model.batch_norm == "batch":
        return norms
    return tuple(path for path in norms if path.startswith("hash_head/"))


def ema_decay(config: Config, method: Method) -> float:
    """Of the parameters' moving average; 0 for none."""
    return config.pretraining.ema_decay if method.learns == "classes" else 0.0


def configured_augment(
    config: Config, method: Method, in_memory: bool, backbone: models.Backbone
) -> Augment:
    """Augmentation of training images; those from files were cropped and flipped before."""
    options: dict[str, Any] = {"mean": backbone.pixel_mean, "std": backbone.pixel_std}
    if method.learns == "classes":
        options["magnitude"] = config.pretraining.augment_magnitude
        options["random_erasing"] = config.pretraining.random_erasing
    return make_augment(
        backbone.image_size,
        horizontal_flip=config.data.horizontal_flip and in_memory,
        crop_padding=config.data.crop_padding,
        **options,
    )


def checked_run(config: Config, *, trains: bool = True) -> Config:
    """The configuration with its recipe filled in, see `with_recipe`.

    Refuses what no run can have (ConfigError) or these devices cannot run (ValueError); where it
    `trains`, also a batch that nothing is learned from.
    """
    check_config(config)
    config = with_recipe(config)
    check_config(config)
    if trains:
        check_batch(config, create_method(config))
    configured_mesh(config)
    return config


def configured_mesh(config: Config, devices: Sequence[Any] | None = None) -> Mesh:
    """The devices that `config` asks for; a ValueError says which mesh and batches would fit."""
    mesh = sharding.make_mesh(config.num_devices, **config.mesh, devices=devices)
    sharding.check_batch_size("batch_size", config.batch_size, mesh)
    check_parts(config.batch_size, config.accumulation_steps, mesh.size)
    sharding.check_batch_size("evaluation.batch_size", config.evaluation.batch_size, mesh)
    return mesh


def configured_optimizer(
    config: Config,
    method: Method,
    params: Any,
    total_steps: int,
    steps_per_epoch: int,
    *,
    trains: bool = True,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """What `config.optimizer` asks for, and its learning rate as a function of the step.

    Where nothing `trains`, the optimizer keeps nothing, its patterns may be of another network, and
    no schedule is asked for: a fit is one step, of which no warm-up leaves any.
    """
    if method.is_fitted or not trains:
        return optax.set_to_zero(), optax.constant_schedule(0.0)
    options = dict(config.optimizer)
    options["frozen"] = (*config.optimizer.frozen, *constants(params))
    longest = config.num_epochs / 10
    if options["warmup_epochs"] > longest:
        logger.info(
            "the warm-up takes %g epochs, a tenth of the run, instead of %g",
            longest,
            options["warmup_epochs"],
        )
        options["warmup_epochs"] = longest
    names = ("schedule", "warmup_epochs", "step_epochs", "step_factor", "learning_rate")
    schedule = make_schedule(
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        **{name: options.pop(name) for name in names},
    )
    return make_optimizer(params, learning_rate=schedule, **options), schedule


def compute_dtype(name: str) -> Any:
    """The type that model.dtype means on this machine."""
    if name == "auto":
        return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return jnp.dtype(name)


def embedding_width(dataset: Dataset) -> int | None:
    """Numbers of an embedding; None where the data are images."""
    images = dataset.images
    return images.array.shape[1] if isinstance(images, Vectors) else None


def configured_layout(
    config: Config,
    method: Method,
    optimizer: optax.GradientTransformation,
    bits: int,
    params: Any,
    labels: jax.ShapeDtypeStruct,
    mesh: Mesh,
) -> Layout:
    """How the first state of `make_first_state` lies on the mesh, from shapes alone."""
    make = functools.partial(make_first_state, config, method, optimizer, bits)
    abstract = jax.eval_shape(make, params, labels, jax.random.key(config.seed))
    return make_layout(abstract, method.row_leaves(abstract.method), mesh)


def make_first_state(
    config: Config,
    method: Method,
    optimizer: optax.GradientTransformation,
    bits: int,
    params: Any,
    labels: jax.Array,
    key: jax.Array,
) -> TrainState:
    """The state before the first step, for `labels` [n, classes] of the training images."""
    own = method.init_state(labels, bits, key)
    averaged, teacher = ema_decay(config, method) > 0, None
    if method.second == "momentum":
        left_out = parts_by_flag(configured_frozen(config, params))
        teacher = jax.tree.map(jnp.copy, without_flagged(params, left_out))
    return first_state(params, optimizer, own, averaged=averaged, teacher=teacher)
