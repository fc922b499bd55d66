"""HashNet: deep learning to hash by continuation (Cao et al., ICCV 2017).

With h = tanh(beta z), theta = alpha h_i . h_j loses softplus(theta) - s theta in every pair of
images of a batch. beta rises in training, which takes h to the signs of z. A pair is weighted by
how rare its kind is, and a similar one by how much of two images' labels is shared:
c = |y_i and y_j| / |y_i or y_j|. (The weight c is told from memory of the paper.)
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Shaped

from hybridhash_jax.methods.hybridhash import alpha_for, alpha_problem, similarity
from hybridhash_jax.methods.method import Examples, Method, wide
from hybridhash_jax.methods.pairwise.pairs import pairs_within, products, sums_by_kind
from input_pipeline.options import Option

_STAIRS = 50  # beta rises at every 50th part of the steps, as published

OPTIONS = (
    Option("variant", "weights of pairs", ("paper", "official", "caffe", "updated", "deephash")),
    Option("alpha", "scale of the inner products", problem=alpha_problem),
    Option("class_num", "weight of similar pairs, official and caffe", above=0),
    Option("beta_growth", "how far beta rises: beta^2 from 1 to 1 + this", at_least=0),
    Option("beta_steps", "steps in which it does; None is the run's", at_least=1),
)


@dataclasses.dataclass(frozen=True)
class HashNet(Method):
    """The published method; `variant` says what a similar pair weighs against a dissimilar one.

    "paper": c / |S1| against 1 / |S0|, of their numbers |S1| and |S0|. "updated": so without c, as
    the authors' pairwise_loss_updated. "official": class_num against 1, of the sum of weights, as
    their PyTorch code. "caffe": class_num 4 |y_i and y_j|^2 / (|y_i| |y_j|) against 1, as the
    gradient of their Caffe code. "deephash", DeepHash-pytorch's: as "updated", and an image also
    meets itself; alpha is 0.1 there, and beta_growth 7.
    """

    variant: str = "paper"
    alpha: float | str = "10/bits"
    class_num: float = 1.0
    beta_growth: float = 50.0
    beta_steps: int | None = None  # None: those of the run
    total_steps: int = 10_000  # of the run, which fills it in

    title, paper = "HashNet", "Cao et al., ICCV 2017"
    head = "linear"
    group = "hashnet"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {
            "optimizer.name": "sgd",
            "optimizer.nesterov": True,
            # The head learns ten times as fast as the backbone.
            "optimizer.learning_rate": 3e-3,
            "optimizer.learning_rate_factors": ("^(?!hash_head/|method/)=0.1",),
            "optimizer.weight_decay": 5e-4,
            "optimizer.schedule": "step",
            # 10,000 iterations of two times 36 images, the rate halves each 2,000: 69.4 an epoch.
            "optimizer.step_epochs": (29, 58, 86, 115),
            "optimizer.step_factor": 0.5,
            "batch_size": 72,
            "num_epochs": 144,
        },
    }
    grid: ClassVar = {"alpha": ("3/bits", "10/bits", "30/bits")}

    @property
    def fewest_images(self) -> int:
        """Those of a pair."""
        return 2

    def loss(
        self, outputs: jax.Array, examples: Examples, state: None, step: jax.Array
    ) -> tuple[jax.Array, None]:
        """See `weighted_loss`."""
        z = wide(outputs)
        h = jnp.tanh(
            beta_at(step, self.beta_steps or self.total_steps, self.beta_growth).astype(z.dtype) * z
        )
        pair_mask = pairs_within(examples.mask, with_itself=self.variant == "deephash")
        value = weighted_loss(
            h,
            examples.labels,
            h,
            examples.labels,
            pair_mask,
            alpha=alpha_for(self.alpha, outputs.shape[1]),
            variant=self.variant,
            class_num=self.class_num,
        )
        return value, state


def beta_at(step: Int[Array, ""], steps: int, growth: float = 50.0) -> Float[Array, ""]:
    """Is sqrt(1 + growth * t), with the share t of `steps` in stairs of 1/50; it goes on after.

    By default sqrt(1 + 0.005 i) at iteration i of 10,000, renewed every 200, as published.
    """
    stairs = (_STAIRS * step) // steps
    return jnp.sqrt(1 + growth / _STAIRS * stairs.astype(jnp.float32))


def weighted_loss(
    h: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    others: Float[Array, "M K"],
    other_labels: Shaped[Array, "M classes"],
    pair_mask: Bool[Array, "B M"],
    *,
    alpha: float,
    variant: str = "paper",
    class_num: float = 1.0,
) -> Float[Array, ""]:
    """The loss over the pairs of one and the other that `pair_mask` keeps; see `HashNet`."""
    theta = alpha * products(h, others)
    of_similar = jax.nn.softplus(-theta)
    if variant in ("paper", "caffe"):
        of_similar *= shared_share(labels, other_labels, variant, theta.dtype)
    similar = similarity(labels, other_labels)
    sums = sums_by_kind(of_similar, jax.nn.softplus(theta), similar, pair_mask)
    if variant in ("official", "caffe"):
        weights = class_num * sums.similar + sums.dissimilar
        return (class_num * sums.positive + sums.negative) / jnp.where(weights > 0, weights, 1)
    return sums.loss()


def shared_share(
    labels: Shaped[Array, "B classes"],
    other_labels: Shaped[Array, "M classes"],
    variant: str,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "B M"]:
    """How much of two images' labels is shared: the Jaccard index, or by "caffe" what HashNet says."""
    y, others = ((x > 0).astype(dtype) for x in (labels, other_labels))
    shared = products(y, others)
    counts, other_counts = y.sum(axis=1)[:, None], others.sum(axis=1)[None, :]
    if variant == "caffe":
        return 4 * jnp.square(shared) / jnp.maximum(counts * other_counts, 1)
    return shared / jnp.maximum(counts + other_counts - shared, 1)
