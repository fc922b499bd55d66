"""OrthoHash (Hoe et al., NeurIPS 2021): one cosine loss against a fixed code of each class.

With v, the head's output after batch norm, and codes t_c in {-1, +1}^K that are drawn once, the
logits are s * (cos(v, t_c) - m [c is a label]), and the loss is softmax cross-entropy against the
labels divided by their number. In the form "arc" the logit of a label is s * cos(acos(x) + m). An
optional term, a weight times the mean of 1 - cos(v, sign(v)), draws outputs to their codes.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.central.centres import greedy_centres
from hybridhash_jax.methods.central.labelled import (
    cosines,
    cross_entropy,
    labelled,
    mean_over,
    unit,
)
from hybridhash_jax.methods.method import Examples, Method, signs, wide
from input_pipeline.options import Option

OPTIONS = (
    Option("margin", "what the cosine of a label loses, or its angle gains", at_least=0),
    Option("margin_on", "what the margin changes", ("cosine", "angle")),
    Option("scale", "what the cosines are multiplied by", above=0),
    Option("codebook", "how the classes' codes are drawn", ("random", "greedy")),
    Option("quantization", "weight of the quantization term", at_least=0),
)


@dataclasses.dataclass(frozen=True)
class OrthoHash(Method):
    """`scale` None is sqrt(K), as in the paper; its code has 8 at any length.

    `codebook` "random": signs at random; "greedy": far apart, `centres.greedy_centres`.
    """

    margin: float = 0.2
    margin_on: str = "cosine"
    scale: float | None = None
    codebook: str = "random"
    quantization: float = 0.0

    title, paper = "OrthoHash", "Hoe et al., NeurIPS 2021"
    head = "batch_norm"
    group = "orthohash"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {
            "optimizer.name": "adam",
            "optimizer.learning_rate": 1e-4,
            "optimizer.learning_rate_factors": ("^(?!hash_head/|method/)=0.1",),
            "optimizer.weight_decay": 5e-4,
            "optimizer.schedule": "step",
            "optimizer.step_epochs": (80,),
            "optimizer.step_factor": 0.1,
            "batch_size": 256,
            "num_epochs": 100,
        },
    }
    grid: ClassVar = {"margin": (0.2, 0.4)}

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> jax.Array:
        """The codebook, float32 [classes, K]; it stays as it is."""
        shape = labels.shape[1], bits
        if self.codebook == "greedy":
            return jnp.asarray(greedy_centres(*shape), jnp.float32)
        return jax.random.rademacher(key, shape, jnp.float32)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `ortho_loss`; images without a label count no more than padding."""
        del step
        loss = ortho_loss(
            outputs,
            examples.labels,
            labelled(examples),
            state,
            margin=self.margin,
            margin_on=self.margin_on,
            scale=math.sqrt(outputs.shape[1]) if self.scale is None else self.scale,
            quantization=self.quantization,
        )
        return loss, state


def ortho_loss(
    outputs: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    codebook: Float[Array, "classes K"],
    *,
    margin: float,
    margin_on: str = "cosine",
    scale: float,
    quantization: float = 0.0,
) -> Float[Array, ""]:
    """The loss of the module's docstring, a mean over the images that `mask` keeps."""
    v = wide(outputs)
    logits = cosines(v, codebook.astype(v.dtype))
    if margin_on == "angle":
        # The derivative of acos is infinite at 1.
        of_labels = jnp.cos(jnp.arccos(jnp.clip(logits, -0.99999, 0.99999)) + margin)
    else:
        of_labels = logits - margin
    loss = cross_entropy(scale * jnp.where(labels > 0, of_labels, logits), labels, mask)
    if quantization:
        agreement = jnp.sum(unit(v) * unit(signs(v)), axis=1)
        loss += quantization * mean_over(1 - agreement, mask)
    return loss
