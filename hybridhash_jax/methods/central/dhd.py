"""DHD: deep hash distillation (Jang et al., ECCV 2022).

Two views of every image, of which one, the teacher, leads the other, the student. With outputs
x_t and x_s in (-1, 1) and trained proxies P [classes, K], the sum of
- softmax cross-entropy of cos(x_t, P) / tau against the labels divided by their number;
- `distillation` times the mean of 1 - cos(x_s, x_t), without a gradient to x_t;
- `quantization` times the mean of BCE(g(x_t - 1), y) + BCE(g(x_t + 1), 1 - y), where g(d) is
  exp(-d^2 / (2 sigma^2)) with sigma = 0.5 and y = 1 for outputs of 0 and above, else 0.

The authors augment the teacher's view less than the student's; here both are augmented alike.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.central.labelled import (
    cosines,
    cross_entropy,
    labelled,
    mean_over,
    unit,
)
from hybridhash_jax.methods.method import Examples, Method, State, wide
from input_pipeline.options import Option

OPTIONS = (
    Option("temperature", "what cosines to proxies are divided by", above=0),
    Option("distillation", "weight of the views' agreement", at_least=0),
    Option("quantization", "weight of the quantization term", at_least=0),
)
_SIGMA = 0.5


@dataclasses.dataclass(frozen=True)
class DHD(Method):
    """The teacher is the network's own output of a step, the student `Examples.second`."""

    temperature: float = 0.2
    distillation: float = 0.1
    quantization: float = 0.1

    title, paper = "DHD", "Jang et al., ECCV 2022"
    head = "layer_norm_tanh"
    group = "dhd"
    options = OPTIONS
    second = "view"
    # The authors' longest run; they stop when the test queries no longer gain.
    recipes: ClassVar = {
        "published": {
            "optimizer.name": "adam",
            "optimizer.learning_rate": 3e-4,
            "optimizer.learning_rate_factors": ("^(?!hash_head/|method/)=0.05",),
            "optimizer.weight_decay": 1e-5,
            "optimizer.schedule": "warmup_cosine",
            "batch_size": 128,
            "num_epochs": 500,
        },
        "features": {"optimizer.learning_rate": 1e-2},
    }
    grid: ClassVar = {"temperature": (0.2, 0.4)}

    def init_parameters(self, num_classes: int, bits: int, key: jax.Array) -> dict[str, jax.Array]:
        """`proxies` [classes, K], uniform as Glorot's with the gain of tanh, 5/3."""
        limit = 5 / 3 * (6 / (num_classes + bits)) ** 0.5
        shape = num_classes, bits
        return {"proxies": jax.random.uniform(key, shape, minval=-limit, maxval=limit)}

    def loss(
        self, outputs: jax.Array, examples: Examples, state: State, step: jax.Array
    ) -> tuple[jax.Array, State]:
        """The sum of the module's docstring; images without a label count no more than padding."""
        del step
        student = outputs if examples.second is None else examples.second
        labels, mask = examples.labels, labelled(examples)
        proxies = examples.parameters["proxies"]
        loss = proxy_loss(outputs, labels, mask, proxies, temperature=self.temperature)
        loss += self.distillation * distillation_loss(student, outputs, mask)
        return loss + self.quantization * quantization_loss(outputs, mask), state


def proxy_loss(
    outputs: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    proxies: Float[Array, "classes K"],
    *,
    temperature: float,
) -> Float[Array, ""]:
    """The cross-entropy to the proxies, a mean over the images that `mask` keeps."""
    x = wide(outputs)
    return cross_entropy(cosines(x, proxies.astype(x.dtype)) / temperature, labels, mask)


def distillation_loss(
    student: Float[Array, "B K"], teacher: Float[Array, "B K"], mask: Bool[Array, " B"]
) -> Float[Array, ""]:
    """The mean of 1 - cos(student, teacher); no gradient flows to the teacher."""
    fixed = jax.lax.stop_gradient(unit(wide(teacher)))
    return mean_over(1 - jnp.sum(unit(wide(student)) * fixed, axis=1), mask)


def quantization_loss(outputs: Float[Array, "B K"], mask: Bool[Array, " B"]) -> Float[Array, ""]:
    """The two cross-entropies of the module's docstring, a mean over bits and images of `mask`."""
    # By symmetry a function of |x|: -log g(|x| - 1) - log(1 - g(|x| + 1)). The first logarithm is
    # taken off its exponential, and the second is of a number above 0.8.
    size = jnp.abs(wide(outputs))
    near = jnp.square(size - 1) / (2 * _SIGMA**2)
    far = jnp.square(size + 1) / (2 * _SIGMA**2)
    return mean_over(near - jnp.log1p(-jnp.exp(-far)), mask)
