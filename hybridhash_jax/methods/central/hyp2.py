"""HyP2: hybrid proxy-pair loss (Xu et al., ACM Multimedia 2022).

Trained proxies P [classes, K] and outputs x, compared by their cosine. The mean over labels of
1 - cos(x, P), plus the mean over the other classes of max(0, cos(x, P) - zeta), both over the whole
batch; plus beta times the mean of max(0, cos(x_i, x_j) - zeta) over pairs of images that have more
than one label each and none in common.

zeta = 1 - 2 d / K is the cosine of the best codes that there could be: d is the largest least
distance known of a binary linear code of length K with as many words as classes.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
import math
from typing import ClassVar

import jax
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.central.labelled import cosines, labelled
from hybridhash_jax.methods.hybridhash import similarity
from hybridhash_jax.methods.method import Examples, Method, State, mean_where, wide
from input_pipeline.options import Option

OPTIONS = (
    Option("beta", "weight of the pairs of images", at_least=0),
    Option("zeta", "cosine up to which others may be near", at_least=-1, at_most=1),
)

# Least distances of the best linear codes [length, dimension] that stay below Griesmer's bound,
# from tables of such codes; of the common lengths up to dimension 7 there are no others.
_BELOW_THE_BOUND = {(12, 5): 4, (16, 6): 6, (24, 6): 10, (32, 7): 14, (48, 7): 22}


@dataclasses.dataclass(frozen=True)
class HyP2(Method):
    """`zeta` None is that of the code length and the number of classes, see `zeta_of`."""

    beta: float = 0.5
    zeta: float | None = None

    title, paper = "HyP2", "Xu et al., ACM Multimedia 2022"
    head = "linear"
    group = "hyp2"
    options = OPTIONS
    # The authors' commands for AlexNet: 0.01, proxies 0.02.
    recipes: ClassVar = {
        "published": {
            "optimizer.name": "sgd",
            "optimizer.momentum": 0.9,
            "optimizer.nesterov": False,
            "optimizer.learning_rate": 0.01,
            "optimizer.learning_rate_factors": ("^method/=2",),
            "optimizer.weight_decay": 5e-4,
            "optimizer.schedule": "step",
            "optimizer.step_epochs": tuple(range(10, 100, 10)),
            "optimizer.step_factor": 0.5,
            "batch_size": 100,
            "num_epochs": 100,
        },
        "features": {"optimizer.learning_rate": 1e-2},
    }
    grid: ClassVar = {"zeta": (-0.1, 0.3)}

    def init_parameters(self, num_classes: int, bits: int, key: jax.Array) -> dict[str, jax.Array]:
        """`proxies` [classes, K], normal of variance 2 / classes."""
        deviation = math.sqrt(2 / num_classes)
        return {"proxies": deviation * jax.random.normal(key, (num_classes, bits))}

    def loss(
        self, outputs: jax.Array, examples: Examples, state: State, step: jax.Array
    ) -> tuple[jax.Array, State]:
        """See `hybrid_loss`; images without a label count no more than padding."""
        del step
        labels, proxies = examples.labels, examples.parameters["proxies"]
        zeta = zeta_of(outputs.shape[1], labels.shape[1]) if self.zeta is None else self.zeta
        mask = labelled(examples)
        loss = hybrid_loss(outputs, labels, mask, proxies, zeta=zeta, beta=self.beta)
        return loss, state


def hybrid_loss(
    outputs: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    proxies: Float[Array, "classes K"],
    *,
    zeta: float,
    beta: float,
) -> Float[Array, ""]:
    """The loss of the module's docstring over the images that `mask` keeps."""
    x = wide(outputs)
    to_proxies = cosines(x, proxies.astype(x.dtype))
    present = labels > 0
    loss = mean_where(1 - to_proxies, present & mask[:, None])
    loss += mean_where(jax.nn.relu(to_proxies - zeta), ~present & mask[:, None])
    several = mask & (present.sum(axis=1) > 1)
    apart = several[:, None] & several[None] & ~similarity(present, present)
    return loss + beta * mean_where(jax.nn.relu(cosines(x, x) - zeta), apart)


def zeta_of(bits: int, num_classes: int) -> float:
    """The cosine of two codes at the best least distance; see the module and `best_distance`."""
    return 1 - 2 * best_distance(bits, max(1, math.ceil(math.log2(num_classes)))) / bits


def best_distance(bits: int, dimension: int) -> int:
    """The least distance of the best binary linear code of a length and dimension; 1 or more.

    Griesmer's bound, but for the few lengths of a small table. It is an upper bound: of lengths or
    dimensions that the table was not made for, codes may stay below it by a little.
    """

    def length(distance: int) -> int:
        return sum(-(-distance // 2**i) for i in range(dimension))

    if known := _BELOW_THE_BOUND.get((bits, dimension)):
        return known
    return max((d for d in range(1, bits + 1) if length(d) <= bits), default=1)
