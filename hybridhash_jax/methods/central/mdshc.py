"""MDSHC: deep hashing with minimal-distance-separated hash centres (Wang et al., CVPR 2023).

Every class has a centre c in {-1, +1}^K, any two of them at the Gilbert-Varshamov distance or more,
see `separation`. With outputs u in (-1, 1), p = softmax over classes of sqrt(K) cos(u, c), and the
memory bank of U, the last outputs of a network that follows the trained one, the loss is the sum of
- the mean over images and classes of -[y log p + (1 - y) log(1 - p)];
- `pairs` times the mean over pairs of the same class of log(1 + exp((1 - cos(u, U)) / 2)), after
  the first `start_epoch` epochs;
- `quantization` times the mean of (|u| - 1)^2.

Bank rows not seen yet have no pairs; in the authors' code they are random, which no longer shows
when the pairs set in. The batch is written into the bank before the loss is taken.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.central.centres import hash_centres, least_distance
from hybridhash_jax.methods.central.labelled import cosines, labelled, mean_over
from hybridhash_jax.methods.central.separation import gilbert_varshamov_distance, separate
from hybridhash_jax.methods.hybridhash import similarity
from hybridhash_jax.methods.memory_bank import MemoryBank, create_bank, update_bank
from hybridhash_jax.methods.method import Examples, Method, Rows, everywhere, wide
from input_pipeline.options import Option

OPTIONS = (
    Option("pairs", "weight of the pairs of a class", at_least=0),
    Option("quantization", "weight of the quantization term", at_least=0),
    Option("start_epoch", "epochs before the pairs count", at_least=0),
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SeparatedCentres:
    """Centres, and what goes with them."""

    codes: jax.Array  # [classes, K] float32, -1 and +1
    epochs: jax.Array  # int32, those that have ended
    bank: MemoryBank


@dataclasses.dataclass(frozen=True)
class MDSHC(Method):
    """The published method; `distance_of_centres` says whether its centres are far enough."""

    pairs: float = 1.0
    quantization: float = 1e-4
    start_epoch: int = 9

    title, paper = "MDSHC", "Wang et al., CVPR 2023"
    head = "batch_norm_tanh"
    group = "mdshc"
    options = OPTIONS
    second = "momentum"
    # How many epochs is not known: the authors stop when ten tests in turn bring no gain.
    recipes: ClassVar = {
        "published": {
            "optimizer.name": "rmsprop",
            "optimizer.learning_rate": 1e-5,
            "optimizer.weight_decay": 1e-5,
            "optimizer.schedule": "constant",
            "optimizer.clip_norm": 5.0,
            "batch_size": 64,
            "num_epochs": 150,
        },
    }
    grid: ClassVar = {"pairs": (0.0, 1.0)}

    def check_labels(self, labels: np.ndarray) -> None:
        """Refuses images of several classes."""
        several = int(((np.asarray(labels) > 0).sum(axis=1) > 1).sum())
        if several:
            raise ValueError(
                f"{several:,} of {len(labels):,} training images have several labels, and MDSHC draws "
                "each image to the one centre of its class; take csq, which has a rule for several"
            )

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> SeparatedCentres:
        """CSQ's centres, which `start` may move, and an empty bank."""
        del key
        num_classes = labels.shape[1]
        return SeparatedCentres(
            jnp.asarray(hash_centres(num_classes, bits), jnp.float32),
            jnp.zeros((), jnp.int32),
            create_bank(len(labels), bits, num_classes),
        )

    def start(self, state: SeparatedCentres, labels: np.ndarray) -> SeparatedCentres:
        """Moves the centres apart, where they are too near."""
        codes = np.asarray(state.codes).astype(np.int8)
        separated = separate(codes, gilbert_varshamov_distance(*codes.shape))
        return dataclasses.replace(state, codes=jnp.asarray(separated, jnp.float32))

    def row_leaves(self, state: SeparatedCentres) -> Any:
        """The bank's arrays."""
        bank = everywhere(True, state.bank)
        return dataclasses.replace(everywhere(False, state), bank=bank)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: SeparatedCentres, step: jax.Array
    ) -> tuple[jax.Array, SeparatedCentres]:
        """The sum of the module's docstring; images without a label count no more than padding."""
        del step
        second = outputs if examples.second is None else examples.second
        labels, mask, rows = examples.labels, labelled(examples), examples.rows
        loss = centre_loss(outputs, labels, mask, state.codes)
        loss += self.quantization * quantization_loss(outputs, mask)
        whole = rows.gather((outputs, labels, mask, examples.index, second))
        bank = update_bank(state.bank, whole[3], whole[4], whole[1])
        compared = jax.lax.stop_gradient(bank.embeddings), bank.labels, bank.seen
        pairs = rows.sum_over(pair_sums)(whole[:3], compared).mean()
        loss += jnp.where(state.epochs >= self.start_epoch, self.pairs * pairs, 0)
        return loss, dataclasses.replace(state, bank=bank)

    def note(self, state: SeparatedCentres) -> str:
        """Whether the centres are as far from one another as they should be."""
        least, wanted = distance_of_centres(state)
        reached = "reach" if least >= wanted else "do not reach"
        return (
            f"the centres are at least {least} bits from one another and {reached} the "
            f"Gilbert-Varshamov distance, {wanted}"
        )

    def end_epoch(self, state: SeparatedCentres, step: jax.Array, rows: Rows) -> SeparatedCentres:
        """Counts the epoch."""
        del step, rows
        return dataclasses.replace(state, epochs=state.epochs + 1)


def distance_of_centres(state: SeparatedCentres) -> tuple[int, int]:
    """The least distance of the centres, and the Gilbert-Varshamov distance that they should have."""
    codes = np.asarray(state.codes)
    return least_distance(codes), gilbert_varshamov_distance(*codes.shape)


def centre_loss(
    outputs: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    centres: Float[Array, "classes K"],
) -> Float[Array, ""]:
    """The first term of the module's docstring over the images that `mask` keeps."""
    u = wide(outputs)
    logits = math.sqrt(outputs.shape[1]) * cosines(u, centres.astype(u.dtype))
    log_p = jax.nn.log_softmax(logits)
    # 1 - p of the likeliest class is the sum of the others: 1 minus a rounded p may be 0.
    top = jnp.arange(logits.shape[1])[None] == jnp.argmax(logits, axis=1, keepdims=True)
    rest = jnp.sum(jnp.where(top, 0, jnp.exp(log_p)), axis=1, keepdims=True)
    of_top = jnp.log(jnp.maximum(rest, jnp.finfo(u.dtype).tiny))
    of_others = jnp.log1p(-jnp.exp(jnp.where(top, -1, log_p)))
    return mean_over(-jnp.where(labels > 0, log_p, jnp.where(top, of_top, of_others)), mask)


def quantization_loss(outputs: Float[Array, "B K"], mask: Bool[Array, " B"]) -> Float[Array, ""]:
    """The mean of (|u| - 1)^2 over bits and the images that `mask` keeps."""
    return mean_over(jnp.square(jnp.abs(wide(outputs)) - 1), mask)


class PairSums(NamedTuple):
    """Of the pairs' losses, and of their weights; additive over rows of a bank."""

    losses: jax.Array
    weights: jax.Array

    def mean(self) -> jax.Array:
        """0 for no pair."""
        return self.losses / jnp.where(self.weights == 0, 1, self.weights)


Arrays = tuple[jax.Array, jax.Array, jax.Array]


def pair_sums(batch: Arrays, bank: Arrays) -> PairSums:
    """The pairs of a class, of a batch and some rows: outputs, multi-hot labels, which count."""
    outputs, labels, mask = batch
    others, other_labels, used = bank
    weights = similarity(labels, other_labels) & mask[:, None] & used[None, :]
    return weighted_pair_sums(outputs, others, weights.astype(wide(outputs).dtype))


def weighted_pair_sums(
    outputs: Float[Array, "B K"], others: Float[Array, "M K"], weights: Float[Array, "B M"]
) -> PairSums:
    """The sums of log(1 + exp((1 - cos) / 2)), weighted."""
    u = wide(outputs)
    losses = jax.nn.softplus((1 - cosines(u, others.astype(u.dtype))) / 2)
    return PairSums(jnp.sum(weights * losses), jnp.sum(weights))
