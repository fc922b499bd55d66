"""CSQ: central similarity quantization (Yuan et al., CVPR 2020).

Every class has a centre, a code of its own far from the others, and images learn the bits of their
class's centre. With h = tanh(z) of the network's output z and a centre c in {-1, +1}^K, the loss is
the mean over bits of BCE((1 + h) / 2, (1 + c) / 2) plus lambda * (|h| - 1)^2.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (JAX's own types are not complete, and Optax has none.)

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.method import Examples, Method
from input_pipeline.options import Option
from input_pipeline.permutation import permutation

OPTIONS = (Option("quantization", "weight of the quantization term", at_least=0),)
_TRIES = 1000  # random rows refused before a smaller distance is accepted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Centres:
    """What the images are drawn to: float32, -1 and +1."""

    codes: jax.Array  # [classes, K]
    ties: jax.Array  # [K], for the bits on which an image's labels are even


@dataclasses.dataclass(frozen=True)
class CSQ(Method):
    """The published method without its pairwise term, which none of its published commands uses."""

    quantization: float = 1e-4  # lambda, the weight of (|h| - 1)^2; so in DeepHash-pytorch
    seed: int = 0  # of random centres and ties

    title, paper = "CSQ", "Yuan et al., CVPR 2020"
    head = "linear"
    group = "csq"
    options = OPTIONS
    recipes: ClassVar = {"features": {"optimizer.learning_rate": 3e-4}}

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> Centres:
        """Centres of as many classes as the labels have."""
        del key
        ties = _balanced_row(bits, self.seed, 0)
        return Centres(
            jnp.asarray(hash_centres(labels.shape[1], bits, self.seed), jnp.float32),
            jnp.asarray(ties, jnp.float32),
        )

    def loss(
        self, outputs: jax.Array, examples: Examples, state: Centres, step: jax.Array
    ) -> tuple[jax.Array, Centres]:
        """See `central_loss`; images without a label count no more than padding."""
        del step
        targets = centres_of_labels(examples.labels, state.codes, state.ties)
        mask = examples.mask & (examples.labels.sum(axis=1) > 0)
        return central_loss(outputs, targets, mask, quantization=self.quantization), state


def central_loss(
    outputs: Float[Array, "B K"],
    targets: Float[Array, "B K"],
    mask: Bool[Array, " B"],
    *,
    quantization: float,
) -> Float[Array, ""]:
    """The loss of the module's docstring, a mean over the images that `mask` keeps.

    `outputs` are its z, `targets` its c, of -1 and +1, and `quantization` is its lambda.
    """
    # BCE((1 + tanh z) / 2, (1 + c) / 2) without a logarithm of 0.
    losses = jax.nn.softplus(-2 * targets * outputs)
    losses += quantization * jnp.square(jnp.abs(jnp.tanh(outputs)) - 1)
    count = jnp.sum(mask, dtype=losses.dtype) * outputs.shape[1]
    return jnp.sum(jnp.where(mask[:, None], losses, 0)) / jnp.maximum(count, 1)


def centres_of_labels(
    labels: Shaped[Array, "B classes"], centres: Float[Array, "classes K"], ties: Float[Array, " K"]
) -> Float[Array, "B K"]:
    """Each image's centre: by bit what most centres of its labels have, `ties` where they are even.

    `labels` are multi-hot; the result is of -1 and +1.
    """
    votes = labels.astype(centres.dtype) @ centres
    return jnp.where(votes == 0, ties, jnp.sign(votes))


def hash_centres(num_classes: int, bits: int, seed: int = 0) -> np.ndarray:
    """Codes of -1 and +1, int8 [classes, K], far from one another.

    Rows of a Hadamard matrix H (Sylvester's) where K is a power of two and there are at most 2 K
    classes: of [H; -H], all distances K/2 but for complements. Otherwise random rows with as many
    +1 as -1, each taken only if it is far enough from those before: the distance asked for begins
    at K/2 and falls by one whenever 1,000 rows in turn are refused.
    """
    if bits & (bits - 1) == 0 and num_classes <= 2 * bits:
        hadamard = np.ones((1, 1), np.int8)
        while len(hadamard) < bits:
            hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
        return np.concatenate([hadamard, -hadamard])[:num_classes]
    chosen, distance, drawn, refused = np.zeros((0, bits), np.int8), bits // 2, 0, 0
    while len(chosen) < num_classes:
        drawn += 1
        row = _balanced_row(bits, seed, drawn)
        if ((chosen != row).sum(axis=1) >= distance).all():
            chosen, refused = np.concatenate([chosen, row[None]]), 0
        elif (refused := refused + 1) == _TRIES:
            distance, refused = distance - 1, 0
    return chosen


def _balanced_row(bits: int, seed: int, number: int) -> np.ndarray:
    """A random row of bits // 2 times +1, else -1; the same on every machine."""
    row = np.full(bits, -1, np.int8)
    row[permutation(bits, seed, number)[: bits // 2]] = 1
    return row
