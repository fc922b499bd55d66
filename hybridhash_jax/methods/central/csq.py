"""CSQ: central similarity quantization (Yuan et al., CVPR 2020).

Every class has a centre, a code of its own far from the others, and images learn the bits of their
class's centre. With h = tanh(z) of the network's output z and a centre c in {-1, +1}^K, the loss is
the mean over bits of BCE((1 + h) / 2, (1 + c) / 2) plus lambda * (|h| - 1)^2. Without the pairwise
term of the paper, which none of its published commands uses.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (JAX's own types are not complete, and Optax has none.)

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.central.centres import balanced_row, hash_centres, published_centres
from hybridhash_jax.methods.central.labelled import labelled, mean_over
from hybridhash_jax.methods.method import Examples, Method, wide
from input_pipeline.options import Option

OPTIONS = (
    Option("quantization", "weight of the quantization term", at_least=0),
    Option("centres", "which codes the classes have", ("spread", "published")),
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Centres:
    """What the images are drawn to: float32, -1 and +1."""

    codes: jax.Array  # [classes, K]
    ties: jax.Array  # [K], for the bits on which an image's labels are even


@dataclasses.dataclass(frozen=True)
class CSQ(Method):
    """`quantization` is lambda: 1e-4 in DeepHash-pytorch, 0.05 or 1e-3 in the authors' commands.

    `centres` "spread": `centres.hash_centres`; "published": the list that the authors begin with.
    """

    quantization: float = 1e-4
    centres: str = "spread"
    seed: int = 0  # of centres and ties

    title, paper = "CSQ", "Yuan et al., CVPR 2020"
    head = "linear"
    group = "csq"
    options = OPTIONS
    # The authors' commands for a ResNet; 90 epochs there.
    recipes: ClassVar = {
        "published": {
            "csq.quantization": 0.05,
            "optimizer.name": "adam",
            "optimizer.learning_rate": 1e-3,
            "optimizer.learning_rate_factors": ("^(?!hash_head/|method/)=0.01",),
            "optimizer.weight_decay": 0.0,
            "optimizer.schedule": "step",
            "optimizer.step_epochs": tuple(range(10, 90, 10)),
            "optimizer.step_factor": 0.7,
            "batch_size": 64,
            "num_epochs": 90,
        },
        "features": {"optimizer.learning_rate": 3e-4},
    }
    grid: ClassVar = {"quantization": (1e-4, 1e-2)}

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> Centres:
        """Centres of as many classes as the labels have."""
        del key
        make = published_centres if self.centres == "published" else hash_centres
        return Centres(
            jnp.asarray(make(labels.shape[1], bits, self.seed), jnp.float32),
            jnp.asarray(balanced_row(bits, self.seed, 0), jnp.float32),
        )

    def loss(
        self, outputs: jax.Array, examples: Examples, state: Centres, step: jax.Array
    ) -> tuple[jax.Array, Centres]:
        """See `central_loss`; images without a label count no more than padding."""
        del step
        targets = centres_of_labels(examples.labels, state.codes, state.ties)
        mask = labelled(examples)
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
    z = wide(outputs)
    # BCE((1 + tanh z) / 2, (1 + c) / 2) without a logarithm of 0.
    losses = jax.nn.softplus(-2 * targets.astype(z.dtype) * z)
    losses += quantization * jnp.square(jnp.abs(jnp.tanh(z)) - 1)
    return mean_over(losses, mask)


def centres_of_labels(
    labels: Shaped[Array, "B classes"], centres: Float[Array, "classes K"], ties: Float[Array, " K"]
) -> Float[Array, "B K"]:
    """Each image's centre: by bit what most centres of its labels have, `ties` where they are even.

    `labels` are multi-hot; the result is of -1 and +1.
    """
    votes = labels.astype(centres.dtype) @ centres
    return jnp.where(votes == 0, ties[None], jnp.sign(votes))
