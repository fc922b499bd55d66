"""DCH: deep Cauchy hashing (Cao et al., CVPR 2018).

An image pair at distance d is similar with the probability g / (g + d) of a Cauchy distribution,
whose scale g says which Hamming radius codes are drawn into. Of outputs z, d is a cosine distance
in units of bits, (K/2) (1 - cos); a similar pair loses log(1 + d/g), a dissimilar one log(1 + g/d).
The distance of |z| from a vector of ones is drawn to 0 likewise.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.bank_pairs import PairSums
from hybridhash_jax.methods.hybridhash import similarity
from hybridhash_jax.methods.method import Examples, Method, mean_where, wide
from hybridhash_jax.methods.pairwise.pairs import (
    pairs_within,
    products,
    squared_distances,
    sums_by_kind,
)
from input_pipeline.options import Option

OPTIONS = (
    Option("variant", "whose loss it is", ("paper", "official", "official_cosine")),
    Option("gamma", "scale of the Cauchy distribution, in bits", above=0),
    Option("quantization", "weight of the quantization term", at_least=0),
)


@dataclasses.dataclass(frozen=True)
class DCH(Method):
    """The published method.

    `variant` "paper", which DeepHash-pytorch has too, is the loss of the module's docstring, the
    mean over similar pairs plus that over dissimilar ones, an image with itself included.
    "official" is what the authors' code trains: squared distances of tanh z, and a mean over pairs
    of different images in which only similar ones are weighted. "official_cosine" is so, with the
    code's cosine distances.
    """

    variant: str = "paper"
    gamma: float = 20.0
    quantization: float | None = None  # lambda; None: 0.1 of the paper, 0 of the code

    title, paper = "DCH", "Cao et al., CVPR 2018"
    head = "linear"
    group = "dch"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {
            "dch.variant": "official",
            "optimizer.name": "sgd",
            # The head learns ten times as fast as the backbone.
            "optimizer.learning_rate": 0.05,
            "optimizer.learning_rate_factors": ("^(?!hash_head/|method/)=0.1",),
            "optimizer.weight_decay": 5e-4,
            "optimizer.schedule": "constant",
            "batch_size": 128,
            "num_epochs": 51,  # 2,000 iterations: 39 are an epoch
        },
    }
    grid: ClassVar = {"gamma": (10.0, 20.0, 40.0)}

    @property
    def fewest_images(self) -> int:
        """Those of a pair."""
        return 2

    def loss(
        self, outputs: jax.Array, examples: Examples, state: None, step: jax.Array
    ) -> tuple[jax.Array, None]:
        """See `paper_loss` and `official_loss`."""
        del step
        weight = self.quantization
        batch = outputs, examples.labels, examples.mask
        if self.variant == "paper":
            weight = 0.1 if weight is None else weight
            return paper_loss(*batch, gamma=self.gamma, quantization=weight), state
        options = {"gamma": self.gamma, "quantization": weight or 0.0}
        return official_loss(*batch, **options, cosine="cosine" in self.variant), state


def paper_loss(
    outputs: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    *,
    gamma: float,
    quantization: float,
) -> Float[Array, ""]:
    """The loss of the module's docstring; at cosines of 0.99 and more d is constant."""
    z = wide(outputs)
    bits = z.shape[1]
    norms = _root(jnp.square(z).sum(axis=1))
    cosines = products(z, z) / jnp.maximum(norms[:, None] * norms[None, :], 1e-4)
    distances = bits / 2 * (1 - jnp.minimum(cosines, 0.99))
    similar = similarity(labels, labels)
    pairs = _cauchy(distances, similar, pairs_within(mask, with_itself=True), gamma)
    to_ones = jnp.abs(z).sum(axis=1) / jnp.maximum(norms * bits**0.5, 1e-4)
    to_code = jnp.log1p(bits / 2 * (1 - jnp.minimum(to_ones, 0.99)) / gamma)
    return pairs.loss() + quantization * mean_where(to_code, mask)


def official_loss(
    outputs: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    *,
    gamma: float,
    quantization: float,
    cosine: bool,
) -> Float[Array, ""]:
    """The loss of the authors' code; a similar pair weighs |S| / |S1|, images themselves counted."""
    h = jnp.tanh(wide(outputs))
    bits = h.shape[1]
    if cosine:
        squares = jnp.square(h).sum(axis=1)
        norms = _root(squares[:, None] * (squares + 1e-6)[None, :])
        distances = bits / 2 * (1 - products(h, h) / jnp.where(norms > 0, norms, 1) + 1e-6)
    else:
        distances = squared_distances(h, h) + 1e-3
    similar = similarity(labels, labels)
    different = pairs_within(mask)
    sums = _cauchy(distances, similar, different, gamma)
    count = jnp.sum(different, dtype=h.dtype)
    whole = pairs_within(mask, with_itself=True)
    weight = jnp.sum(whole, dtype=h.dtype) / jnp.maximum(jnp.sum(similar & whole, dtype=h.dtype), 1)
    pairs = (weight * sums.positive + sums.negative) / jnp.maximum(count, 1)
    to_code = jnp.square(jnp.abs(h) - 1).mean(axis=1)
    return pairs + quantization * mean_where(to_code, mask)


def _cauchy(
    distances: jax.Array, similar: jax.Array, pair_mask: jax.Array, gamma: float
) -> PairSums:
    of_similar, of_dissimilar = jnp.log1p(distances / gamma), jnp.log1p(gamma / distances)
    return sums_by_kind(of_similar, of_dissimilar, similar, pair_mask)


def _root(squares: jax.Array) -> jax.Array:
    """The square root, without a gradient at 0, where it would not be finite."""
    is_more = squares > 0
    return jnp.where(is_more, jnp.sqrt(jnp.where(is_more, squares, 1)), 0)
