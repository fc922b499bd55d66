"""The training step: a pure function made by a factory, jitted in one place."""

from collections.abc import Callable, Mapping
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
from hybridhash_jax.methods import losses
from hybridhash_jax.methods.memory_bank import MemoryBank, update_bank
from hybridhash_jax.models.stochastic_depth import image_keys
from hybridhash_jax.state import TrainState

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


def make_train_step(
    graphdef: Any,
    optimizer: optax.GradientTransformation,
    preprocess: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    pairs: str = "bank",
    unseen: str = "ignored",
    alpha: float = 0.5,
    schedule: optax.Schedule | None = None,
    frozen: Any = None,
    accumulation_steps: int = 1,
    layout: Layout | None = None,
) -> Step:
    """The function (state, batch, key) -> (next state, metrics).

    Args:
      graphdef: the network's structure, from `nnx.split`.
      optimizer: its updates are applied to the parameters.
      preprocess: (image uint8 [B, h, w, 3], key) -> normalised [B, H, W, 3], augmented with key.
      pairs, unseen, alpha: see `losses`. With pairs="bank" the batch is written into the bank
        before the loss is taken.
      schedule: the optimizer's learning rate, to be reported as a metric.
      frozen: booleans like the parameters, True where no gradient is taken (it is 0 then, and
        what would compute it is dropped); None takes all. See `optimizer.frozen_mask`.
      accumulation_steps: parts that the batch is computed in, with the same result in less
        memory; see `accumulation.gradients_through_outputs`.
      layout: how the state lies on its mesh; None needs no care, everything is on every device.

    The batch holds image, label [B, classes], index [B] (rows of the bank; n for padding) and
    mask [B]. `key` is the run's; the step's own is folded from it. Metrics: loss, grad_norm
    and, with a schedule, learning_rate.
    """
    if pairs not in losses.PAIRS:
        raise ValueError(f"loss.pairs={pairs!r} is unknown; accepted: {', '.join(losses.PAIRS)}")

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        augment_key, drop_key = jax.random.split(jax.random.fold_in(key, state.step))
        images = preprocess(batch["image"], augment_key)
        keys = image_keys(drop_key, len(images))
        labels, mask = batch["label"], batch["mask"]

        def embed(params: Any, inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
            model = nnx.merge(graphdef, stop_gradients(params, frozen))
            return model(inputs[0], key=inputs[1])

        def loss_of(embeddings: jax.Array) -> tuple[jax.Array, MemoryBank | None]:
            if pairs == "batch":
                return losses.batch_loss(embeddings, labels, mask, alpha=alpha), None
            assert state.bank is not None
            gathered = (embeddings, labels, mask, batch["index"])
            if layout is not None:
                gathered = layout.gather_batch(gathered)
            bank = update_bank(state.bank, gathered[3], gathered[0], gathered[1])
            loss = losses.bank_loss(
                *gathered[:3],
                bank.embeddings,
                bank.labels,
                bank.seen,
                alpha=alpha,
                unseen=unseen,
                num_images=bank.num_images,
                over_rows=None if layout is None else layout.over_bank_rows,
            )
            return loss, bank

        if layout is not None:
            embed = layout.on_whole_params(embed)
        (loss, bank), grads = gradients_through_outputs(
            embed, loss_of, state.params, (images, keys), accumulation_steps
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        if schedule is not None:
            metrics["learning_rate"] = jnp.asarray(schedule(state.step))
        return TrainState(state.step + 1, params, opt_state, bank), metrics

    return train_step


def stop_gradients(params: Any, frozen: Any) -> Any:
    """`params`, constant where the pytree of booleans `frozen` is True; None takes all as they are."""
    if frozen is None:
        return params
    return jax.tree.map(lambda x, stop: lax.stop_gradient(x) if stop else x, params, frozen)


def compile_train_step(step: Step, mesh: Mesh, layout: Layout | None = None) -> Step:
    """Jits the step over the mesh: batch split over all devices, state donated.

    The state lies as `layout` says, without one on every device.
    """
    whole, split = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    state = whole if layout is None else layout.shardings
    return jax.jit(
        step, in_shardings=(state, split, whole), out_shardings=(state, whole), donate_argnums=0
    )
