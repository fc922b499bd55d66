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
from jaxtyping import Array, Float, Float64, Shaped, UInt64

from hybridhash_jax.methods.memory_bank import rows_for
from hybridhash_jax.methods.method import Examples, Method, mean_where, wide
from hybridhash_jax.methods.pairwise.pairs import rows_at
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
        codes = rows_at(index, state, examples.rows)
        has_code = jnp.any(codes != 0, axis=1)  # an unreadable image's replacement has none
        return code_loss(values, codes, mask & has_code), state


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
    # Here, since no other method needs Numba, which takes a quarter of a second to import.
    from hybridhash_jax.methods.pairwise.coordinate_descent import mean_of, sums_of, sweep

    # Nothing of size n x n: images with the same labels are alike in S, so that sums of H over them
    # stand for them. R_i . H_j with R = H H^T - K S is H_i . (H^T H)_j - K S_i . H_j.
    distinct, groups = np.unique(np.asarray(labels) > 0, axis=0, return_inverse=True)
    words = _packed(distinct)
    groups = groups.reshape(-1).astype(np.int64)
    current = np.array(first, np.float64)
    mean = mean_of(current, groups, words, *sums_of(current, groups, len(words)))
    for _ in range(sweeps):
        previous = current.copy()
        sweep(current, groups, words, *sums_of(current, groups, len(words)))
        now = mean_of(current, groups, words, *sums_of(current, groups, len(words)))
        if not now < mean:
            return previous, mean
        mean = now
    return current, mean


def _packed(labels: np.ndarray) -> UInt64[np.ndarray, "groups words"]:
    """Booleans [groups, classes] as bits."""
    padded = np.zeros((len(labels), max(-(-labels.shape[1] // 64), 1) * 64), bool)
    padded[:, : labels.shape[1]] = labels
    return np.packbits(padded, axis=1).view(np.uint64)
