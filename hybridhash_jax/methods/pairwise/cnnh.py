"""CNNH: supervised hashing via image representation learning (Xia et al., AAAI 2014).

First codes, then a network. The similarity matrix S of the training images, -1 and +1, is factored:
H in [-1, 1]^(n x K) is to make (H H^T - K S)^2 small, by coordinate descent from random numbers.
The network then learns the signs of H, with the loss (tanh z - sgn H)^2. (That the paper's outputs
go through a tanh is told from memory.)
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int64, Shaped, UInt64

from hybridhash_jax.methods.memory_bank import rows_for
from hybridhash_jax.methods.method import Examples, Method, mean_where, wide
from hybridhash_jax.methods.pairwise.pairs import rows_at
from input_pipeline.compiled import compiled
from input_pipeline.options import Option

OPTIONS = (
    Option("variant", "whose loss it is", ("paper", "deephash")),
    Option("sweeps", "passes of the coordinate descent over all images", at_least=0),
    Option("seed", "of the numbers it starts from", at_least=0, at_most=2**63 - 1),
)


@dataclasses.dataclass(frozen=True)
class CNNH(Method):
    """The published method without its second output for classes.

    With `variant` "deephash", DeepHash-pytorch's, outputs z themselves learn the codes, not tanh z.
    """

    variant: str = "paper"
    sweeps: int = 5  # 10 in DeepHash-pytorch
    seed: int = 0

    title, paper = "CNNH", "Xia et al., AAAI 2014"
    head = "linear"
    group = "cnnh"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {  # of DeepHash-pytorch; the authors' is not known
            "optimizer.name": "adam",
            "optimizer.learning_rate": 1e-5,
            "optimizer.weight_decay": 0.0,
            "batch_size": 128,
            "num_epochs": 150,
        },
        "features": {"optimizer.learning_rate": 3e-4},
    }
    grid: ClassVar = {"sweeps": (1, 5, 10)}

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> jax.Array:
        """Zeros, float32 [rows, K] as a memory bank has them; `start` puts the codes there."""
        del key
        return jnp.zeros((rows_for(len(labels)), bits), jnp.float32)

    def start(self, state: Any, labels: np.ndarray) -> np.ndarray:
        """The codes of the training images, -1 and +1."""
        n, bits = len(labels), state.shape[1]
        first = np.random.default_rng(self.seed).uniform(-1, 1, (n, bits))
        embeddings, _ = factored(labels, first, self.sweeps)
        codes = np.zeros(state.shape, np.float32)
        codes[:n] = np.where(embeddings >= 0, 1, -1)
        return codes

    def row_leaves(self, state: Any) -> bool:
        """The codes."""
        return True

    def loss(
        self, outputs: jax.Array, examples: Examples, state: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The mean over images and bits of the squared error."""
        del step
        batch = outputs, examples.mask, examples.index
        outputs, mask, index = examples.rows.gather(batch)
        z = wide(outputs)
        values = z if self.variant == "deephash" else jnp.tanh(z)
        return code_loss(values, rows_at(index, state, examples.rows), mask), state


def code_loss(
    values: Float[Array, "B K"], codes: Float[Array, "B K"], mask: Shaped[Array, " B"]
) -> Float[Array, ""]:
    """The mean over the images that `mask` keeps, and bits, of (value - code)^2."""
    return mean_where(jnp.square(values - codes.astype(values.dtype)).mean(axis=1), mask)


def factored(
    labels: np.ndarray, first: Float64[np.ndarray, "n K"], sweeps: int
) -> tuple[Float64[np.ndarray, "n K"], float]:
    """H after some sweeps from `first`, and the mean of (H H^T - K S)^2.

    `labels` [n, classes] are multi-hot; images with a label in common are similar, and each is to
    itself. A sweep takes the coordinates in order, of an image after the other, each to its best
    value by Newton's step within [-1, 1]. One that does not lower the mean is undone and the last.
    """
    # Nothing of size n x n: images with the same labels are alike in S, so that sums of H over them
    # stand for them. R_i . H_j with R = H H^T - K S is H_i . (H^T H)_j - K S_i . H_j.
    distinct, groups = np.unique(np.asarray(labels) > 0, axis=0, return_inverse=True)
    words = _packed(distinct)
    groups = groups.reshape(-1).astype(np.int64)
    current = np.array(first, np.float64)
    mean = _mean(current, groups, words, *_sums(current, groups, len(words)))
    for _ in range(sweeps):
        previous = current.copy()
        _sweep(current, groups, words, *_sums(current, groups, len(words)))
        now = _mean(current, groups, words, *_sums(current, groups, len(words)))
        if not now < mean:
            return previous, mean
        mean = now
    return current, mean


def _packed(labels: np.ndarray) -> UInt64[np.ndarray, "groups words"]:
    """Booleans [groups, classes] as bits."""
    padded = np.zeros((len(labels), max(-(-labels.shape[1] // 64), 1) * 64), bool)
    padded[:, : labels.shape[1]] = labels
    return np.packbits(padded, axis=1).view(np.uint64)


@compiled
def _sums(
    embeddings: Float64[np.ndarray, "n K"], groups: Int64[np.ndarray, "n"], num_groups: int
) -> tuple[Float64[np.ndarray, "K K"], Float64[np.ndarray, "groups K"]]:
    """H^T H, and the sums of H by group."""
    n, bits = embeddings.shape
    products, sums = np.zeros((bits, bits)), np.zeros((num_groups, bits))
    for i in range(n):
        for j in range(bits):
            sums[groups[i], j] += embeddings[i, j]
            for k in range(bits):
                products[j, k] += embeddings[i, j] * embeddings[i, k]
    return products, sums


@compiled
def _pull(
    group: int,
    words: UInt64[np.ndarray, "groups words"],
    sums: Float64[np.ndarray, "groups K"],
    total: Float64[np.ndarray, "K"],
    out: Float64[np.ndarray, "K"],
) -> None:
    """Writes the sum of H over similar groups minus that over the others."""
    out[:] = -total
    for other in range(sums.shape[0]):
        shared = np.uint64(0)
        for word in range(words.shape[1]):
            shared |= words[group, word] & words[other, word]
        if shared:
            for k in range(out.shape[0]):
                out[k] += 2 * sums[other, k]


@compiled
def _mean(
    embeddings: Float64[np.ndarray, "n K"],
    groups: Int64[np.ndarray, "n"],
    words: UInt64[np.ndarray, "groups words"],
    products: Float64[np.ndarray, "K K"],
    sums: Float64[np.ndarray, "groups K"],
) -> float:
    """The mean of (H H^T - K S)^2."""
    n, bits = embeddings.shape
    total, pull = sums.sum(axis=0), np.empty(bits)
    inner = 0.0
    for group in range(sums.shape[0]):
        _pull(group, words, sums, total, pull)
        for k in range(bits):
            inner += sums[group, k] * pull[k]
    for i in range(n):
        if not words[groups[i]].any():  # without labels, yet similar to itself
            inner += 2 * np.square(embeddings[i]).sum()
    return (np.square(products).sum() - 2 * bits * inner) / n / n + bits * bits


@compiled
def _sweep(
    embeddings: Float64[np.ndarray, "n K"],
    groups: Int64[np.ndarray, "n"],
    words: UInt64[np.ndarray, "groups words"],
    products: Float64[np.ndarray, "K K"],
    sums: Float64[np.ndarray, "groups K"],
) -> None:
    """One sweep in place; `products` and `sums` follow."""
    n, bits = embeddings.shape
    total, pull = sums.sum(axis=0), np.empty(bits)
    for i in range(n):
        own, group = embeddings[i], groups[i]
        _pull(group, words, sums, total, pull)
        itself = 0.0 if words[group].any() else 2.0
        square = np.square(own).sum()
        for j in range(bits):
            old, column = own[j], products[j]
            slope = (own * column).sum() - bits * (pull[j] + itself * old)
            curvature = column[j] + old * old + square - bits
            if curvature == 0:
                continue
            change = min(max(-slope / curvature, -1 - old), 1 - old)
            grown = 2 * change * old + change * change
            for k in range(bits):
                if k != j:
                    column[k] += change * own[k]
                    products[k, j] = column[k]
            column[j] += grown
            square += grown
            own[j] = old + change
            sums[group, j] += change
            total[j] += change
