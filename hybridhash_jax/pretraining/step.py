"""The training step of a classifier: a pure function made by a factory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import DTypeLike

from hybridhash_jax import ema
from hybridhash_jax.accumulation import summed_gradients
from hybridhash_jax.distributed.state_sharding import Layout
from hybridhash_jax.methods import classification
from hybridhash_jax.models.stochastic_depth import image_keys
from hybridhash_jax.preprocess import pixels as preprocess
from hybridhash_jax.preprocess import rand_augment as image_augment
from hybridhash_jax.preprocess.mixing import Mixing, mix
from hybridhash_jax.state import TrainState
from hybridhash_jax.train_step import Batch, Metrics, Step, stop_gradients

Augment = Callable[[jax.Array, jax.Array], jax.Array]


def make_augment(
    size: int,
    *,
    horizontal_flip: bool,
    crop_padding: int,
    magnitude: float,
    random_erasing: float,
) -> Augment:
    """The function (images uint8 [B, h, w, 3], key) -> normalised float32 [B, size, size, 3].

    Args:
      size: the network's image size.
      horizontal_flip, crop_padding: see `preprocess.augment`.
      magnitude: see `image_augment.rand_augment`. random_erasing: its probability.
    """

    def augment(images: jax.Array, key: jax.Array) -> jax.Array:
        crop_key, change_key, erase_key = jax.random.split(key, 3)
        images = preprocess.augment(
            images, crop_key, horizontal_flip=horizontal_flip, crop_padding=crop_padding
        )
        images = preprocess.resize(images, size)
        images = image_augment.rand_augment(images, change_key, magnitude)
        images = preprocess.normalize(images)
        return image_augment.random_erasing(images, erase_key, random_erasing)

    return augment


def make_classification_step(
    graphdef: Any,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    mixing: Mixing,
    label_smoothing: float = 0.0,
    ema_decay: float = 0.0,
    schedule: optax.Schedule | None = None,
    dtype: DTypeLike = jnp.float32,
    frozen: Any = None,
    layout: Layout | None = None,
    accumulation_steps: int = 1,
) -> Step:
    """The function (state, batch, key) -> (next state, metrics).

    Args:
      graphdef: the network's structure, from `nnx.split`; it gives logits.
      optimizer: its updates are applied to the parameters.
      augment: from `make_augment`.
      mixing, label_smoothing: see `mixing.mix` and `classification.smooth_labels`.
      ema_decay: of the parameters' moving average, if the state has one.
      schedule: the optimizer's learning rate, to be reported as a metric.
      dtype: what the network is given.
      frozen: where no gradient is taken, see `train_step.make_train_step`.
      layout: how the state lies on its mesh; None needs no care, everything is on every device.
      accumulation_steps: parts that the batch is computed in, with the same result in less memory.

    The batch holds image, label [B, classes] one-hot and mask [B]. `key` is the run's; the step's
    own is folded from it. Metrics: loss, grad_norm and, with a schedule, learning_rate.
    """

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(key, state.step)
        augment_key, mix_key, drop_key = jax.random.split(step_key, 3)
        mask = batch["mask"]
        targets = classification.smooth_labels(batch["label"], label_smoothing)
        images = augment(batch["image"], augment_key)
        images, targets = mix(images, targets, mask, mix_key, mixing)

        keys, count = image_keys(drop_key, len(images)), jnp.maximum(jnp.sum(mask), 1)

        def share_of_loss(params: Any, part: tuple[jax.Array, ...]) -> jax.Array:
            images, keys, targets, mask = part
            model = nnx.merge(graphdef, stop_gradients(params, frozen))
            logits = model(images.astype(dtype), key=keys)
            mean = classification.soft_cross_entropy(logits, targets, mask)
            return mean * jnp.sum(mask) / count

        if layout is not None:
            share_of_loss = layout.on_whole_params(share_of_loss)
        loss, grads = summed_gradients(
            share_of_loss, state.params, (images, keys, targets, mask), accumulation_steps
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.ema
        if average is not None:
            average = ema.update_average(average, params, state.step, ema_decay)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        if schedule is not None:
            metrics["learning_rate"] = jnp.asarray(schedule(state.step))
        return TrainState(state.step + 1, params, opt_state, None, average), metrics

    return train_step
