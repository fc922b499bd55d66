"""The training step: a pure function made by a factory, jitted in one place."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh

from hybridhash_jax.accumulation import gradients_through_outputs
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import Layout
from hybridhash_jax.methods import Examples, Method, Rows, WholeRows
from hybridhash_jax.models.batch_statistics import Statistics, normalised_by_batch
from hybridhash_jax.models.stochastic_depth import image_keys
from hybridhash_jax.parameters import (
    joined,
    module_paths,
    parameter_path,
    part_like,
    parts_by_flag,
    without_flagged,
)
from hybridhash_jax.preprocess.augmentation import Augment
from hybridhash_jax.state import TrainState, update_average

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
Inputs = tuple[jax.Array, jax.Array, jax.Array]  # of B images: pixels, keys, mask
Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]
# Of running statistics: TensorFlow's, which the backbones' weights were trained with, and of heads
# PyTorch's, which the methods were.
_MOMENTUM, _MOMENTUM_OF_HEADS = 0.99, 0.9
_SECOND = 5  # the stream of a step's key that the second view of the images draws from


def make_train_step(
    graphdef: Any,
    optimizer: optax.GradientTransformation,
    method: Method,
    augment: Augment,
    *,
    schedule: optax.Schedule | None = None,
    frozen: Any = None,
    ema_decay: float = 0.0,
    accumulation_steps: int = 1,
    layout: Layout | None = None,
    after: str | None = None,
    batch_norms: Collection[str] = (),
) -> Step:
    """The function (state, batch, key) -> (next state, metrics).

    The batch holds image uint8 [B, h, w, 3], label [B, classes], index [B] (rows of the training
    images; n for padding) and mask [B]. `key` is the run's; the step's own is folded from it.
    Metrics: loss, grad_norm and, with the optimizer's `schedule`, learning_rate.

    No gradient is taken where `frozen` (see `optimizer.frozen_mask`) is True: it is 0 then.
    `ema_decay` is of the parameters' moving average, if the state has one; `accumulation_steps`
    the parts that the batch is computed in, see `accumulation.gradients_through_outputs`. Without
    `layout` everything is on every device. With `after` the batch holds what that stage of the
    backbone gave instead of images. `batch_norms` are the paths of the batch norms that use the
    statistics of the batch (of each part of it); running ones follow them. A state with a teacher
    needs `frozen`.
    """
    rows: Rows = layout or WholeRows()
    trained = parts_by_flag(frozen) if method.second == "momentum" else False

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(key, state.step)
        crop_key, drop_key, mix_key, *augment_keys = jax.random.split(step_key, 5)
        labels, mask = batch["label"], batch["mask"]
        images = augment(batch["image"], (crop_key, *augment_keys))
        images, targets = method.mix(images, labels, mask, mix_key)
        inputs = images, image_keys(drop_key, len(images)), mask
        if method.second == "view":
            crop_key, drop_key, *augment_keys = jax.random.split(
                jax.random.fold_in(step_key, _SECOND), 4
            )
            again = augment(batch["image"], (crop_key, *augment_keys))
            inputs = _beside(inputs, (again, image_keys(drop_key, len(again)), mask))

        def apply(params: Any, inputs: Inputs) -> tuple[jax.Array, Statistics]:
            model = nnx.merge(graphdef, stop_gradients(params, frozen))
            modules = module_paths(model)
            norms = {path: modules[path] for path in batch_norms}
            with normalised_by_batch(norms, inputs[2]) as statistics:
                outputs = model(inputs[0], key=inputs[1], after=after)
            return outputs, statistics

        if layout is not None:
            apply = layout.on_whole_params(apply)
        teacher = of_teacher = None
        if method.second == "momentum":
            teacher = follow_teacher(state.teacher, state.params, method.momentum)
            followed = joined(state.params, teacher, trained)
            of_teacher = lax.stop_gradient(apply(followed, inputs)[0])

        def loss_of(outputs: jax.Array, params: Any) -> tuple[jax.Array, Any]:
            own = params.get("method", {})
            parameters = {name: value[...] for name, value in own.items()}
            second = of_teacher
            if method.second == "view":
                outputs, second = outputs[0::2], outputs[1::2]
            examples = Examples(labels, targets, mask, batch["index"], parameters, rows, second)
            return method.loss(outputs, examples, state.method, state.step)

        (loss, method_state), grads, statistics = gradients_through_outputs(
            apply, loss_of, state.params, inputs, accumulation_steps
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        if statistics:
            params = follow(params, statistics)
        average = state.ema
        if average is not None:
            average = update_average(average, params, state.step, ema_decay)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        if schedule is not None:
            metrics["learning_rate"] = jnp.asarray(schedule(state.step))
        step = state.step + 1
        return TrainState(step, params, opt_state, method_state, average, teacher), metrics

    return train_step


def _beside(first: Inputs, second: Inputs) -> Inputs:
    """Inputs of two views, image by image, so that both of an image are on its device."""
    pairs = zip(first, second, strict=True)
    one, two, three = (jnp.stack(pair, 1).reshape(-1, *pair[0].shape[1:]) for pair in pairs)
    return one, two, three


def follow_teacher(teacher: Any, params: Any, kept: float) -> Any:
    """The teacher's parameters, moved towards those of the network that it has too."""
    own = part_like(params, teacher)
    return jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, teacher, own)


def stop_gradients(params: Any, frozen: Any) -> Any:
    """`params`, constant where the pytree of booleans `frozen` is True; None: as they are."""
    if frozen is None:
        return params
    return jax.tree.map(lambda x, stop: lax.stop_gradient(x) if stop else x, params, frozen)


def follow(params: Any, statistics: Statistics) -> Any:
    """`params`, their running statistics moved towards those of a batch."""

    def moved(path: Any, own: jax.Array) -> jax.Array:
        name = parameter_path(path)
        new = statistics.get(name, own)
        kept = _MOMENTUM_OF_HEADS if name.startswith("hash_head/") else _MOMENTUM
        return own if new is own else own + (1 - kept) * (new - own)

    return jax.tree_util.tree_map_with_path(moved, params)


def compile_train_step(
    step: Step, mesh: Mesh, layout: Layout | None = None, idle: Any = None
) -> Step:
    """Jits the step over the mesh: batch split over all devices, state donated.

    The state lies as `layout` says, without one on every device. Parameters where the tree `idle`
    is True, with which the step computes nothing, stay outside of the program: hundreds of arrays
    that come and go unchanged take longer than a small head's step. They need a layout.
    """
    whole, split = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    state = whole if layout is None else layout.shardings
    if idle is None or not any(jax.tree.leaves(idle)):
        return _compiled(step, state, split, whole)
    assert layout is not None
    shapes, parts = layout.state.params, parts_by_flag(idle)

    def of_busy(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        zeros = jax.tree.map(lambda own: jnp.zeros(own.shape, own.dtype), shapes)
        full = dataclasses.replace(state, params=joined(zeros, state.params, parts))
        full, metrics = step(full, batch, key)
        return dataclasses.replace(full, params=without_flagged(full.params, parts)), metrics

    own = dataclasses.replace(
        layout.shardings, params=without_flagged(layout.shardings.params, parts)
    )
    compiled = _compiled(of_busy, own, split, whole)

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        busy = dataclasses.replace(state, params=without_flagged(state.params, parts))
        new, metrics = compiled(busy, batch, key)
        return dataclasses.replace(new, params=joined(state.params, new.params, parts)), metrics

    return train_step


def _compiled(step: Step, state: Any, split: Any, whole: Any) -> Step:
    return jax.jit(
        step, in_shardings=(state, split, whole), out_shardings=(state, whole), donate_argnums=0
    )


def compile_between_epochs(method: Method, layout: Layout) -> Callable[..., TrainState]:
    """Jits (state, images) -> the state before an epoch that sees the training images `images`.

    The epoch before it, if there is one, is ended first. The state is donated.
    """

    def between(state: TrainState, images: jax.Array) -> TrainState:
        def ended(own: Any) -> Any:
            return method.end_epoch(own, state.step, layout)

        own = lax.cond(state.step > 0, ended, lambda own: own, state.method)
        return dataclasses.replace(state, method=method.begin_epoch(own, images, layout))

    whole, shardings = sharding.replicated(layout.mesh), layout.shardings
    return jax.jit(
        between, in_shardings=(shardings, whole), out_shardings=shardings, donate_argnums=0
    )
