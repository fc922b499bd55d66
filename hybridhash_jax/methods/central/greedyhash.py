"""GreedyHash (Su et al., NeurIPS 2018): a classifier of codes, whose gradient skips the sign.

With b = sign(z), whose gradient is handed on to z as it is, and a trained matrix W [classes, K]:
softmax cross-entropy of W b, plus a weight times the mean of | (|z| - 1)^3 |. The paper has one
label an image; of several, the cross-entropy is against the labels divided by their number, as
later authors do.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.central.labelled import (
    cross_entropy,
    labelled,
    mean_over,
    product,
)
from hybridhash_jax.methods.method import Examples, Method, State, signs, wide
from input_pipeline.options import Option

OPTIONS = (Option("penalty", "weight of what draws outputs to -1 and +1", at_least=0),)


@dataclasses.dataclass(frozen=True)
class GreedyHash(Method):
    """`penalty` is 0.1 for CIFAR-10 and 1 for ImageNet in the authors' code."""

    penalty: float = 0.1

    title, paper = "GreedyHash", "Su et al., NeurIPS 2018"
    head = "linear"
    group = "greedyhash"
    options = OPTIONS
    # CIFAR-10, its first protocol.
    recipes: ClassVar = {
        "published": {
            "optimizer.name": "sgd",
            "optimizer.momentum": 0.9,
            "optimizer.nesterov": False,
            "optimizer.learning_rate": 1e-3,
            "optimizer.weight_decay": 5e-4,
            "optimizer.schedule": "step",
            "optimizer.step_epochs": (30,),
            "optimizer.step_factor": 0.1,
            "batch_size": 32,
            "num_epochs": 50,
        },
        "features": {"optimizer.learning_rate": 1e-3},
    }
    grid: ClassVar = {"penalty": (0.1, 1.0)}

    def init_parameters(self, num_classes: int, bits: int, key: jax.Array) -> dict[str, jax.Array]:
        """`classifier`, W [classes, K], uniform within 1 / sqrt(K)."""
        limit = 1 / math.sqrt(bits)
        shape = num_classes, bits
        return {"classifier": jax.random.uniform(key, shape, minval=-limit, maxval=limit)}

    def loss(
        self, outputs: jax.Array, examples: Examples, state: State, step: jax.Array
    ) -> tuple[jax.Array, State]:
        """See `greedy_loss`; images without a label count no more than padding."""
        del step
        classifier, mask = examples.parameters["classifier"], labelled(examples)
        loss = greedy_loss(outputs, examples.labels, mask, classifier, penalty=self.penalty)
        return loss, state


def greedy_loss(
    outputs: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    classifier: Float[Array, "classes K"],
    *,
    penalty: float,
) -> Float[Array, ""]:
    """The loss of the module's docstring, a mean over the images that `mask` keeps."""
    z = wide(outputs)
    codes = signs(z)
    # The sum is exactly `codes`, for the difference is exactly 0.
    straight = codes + (z - jax.lax.stop_gradient(z))
    loss = cross_entropy(product(straight, classifier.astype(z.dtype)), labels, mask)
    return loss + penalty * mean_over(jnp.abs(jnp.abs(z) - 1) ** 3, mask)
