"""Classification: the backbone learns classes before it learns codes.

Cross-entropy with label smoothing (Szegedy et al., CVPR 2016) on images that mixup and CutMix have
mixed. Its outputs are logits, measured by top-1 and top-5.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (JAX's own types are not complete, and Optax has none.)

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Shaped

from hybridhash_jax.methods.method import Examples, Method
from hybridhash_jax.preprocess.mixing import Mixing, mix
from input_pipeline.options import Option

OPTIONS = (
    Option("label_smoothing", "weight spread over all classes", at_least=0, below=1),
    Option("mixup", "parameter of the Beta distribution; 0 is off", at_least=0),
    Option("cutmix", "parameter of the Beta distribution; 0 is off", at_least=0),
    Option("mix_probability", "chance of an image being mixed", at_least=0, at_most=1),
    Option("ema_decay", "of the parameters' moving average; 0 is none", at_least=0, below=1),
)


@dataclasses.dataclass(frozen=True)
class Classification(Method):
    """Supervised pre-training; its options are those of `OPTIONS`."""

    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0

    head = "classifier"
    title = "classification"
    learns = "classes"
    group = "pretraining"
    options = OPTIONS

    def check_labels(self, labels: np.ndarray) -> None:
        """Refuses images with several labels or none."""
        odd = int((labels.sum(axis=1) != 1).sum())
        if odd:
            raise ValueError(
                f"{odd:,} of {len(labels):,} images have several labels or none; task=classify "
                "needs exactly one class an image. Use a data set with one class an image, or "
                "task=hash"
            )

    def mix(
        self, images: jax.Array, labels: jax.Array, mask: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Smooths the labels and mixes images and targets; see `preprocess.mixing.mix`."""
        targets = optax.smooth_labels(labels.astype(jnp.float32), self.label_smoothing)
        mixing = Mixing(self.mixup, self.cutmix, self.mix_probability)
        return mix(images, targets, mask, key, mixing)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: None, step: jax.Array
    ) -> tuple[jax.Array, None]:
        """Mean cross-entropy with the targets over the images that count."""
        del step
        return mean_cross_entropy(outputs, examples.targets, examples.mask), state


def mean_cross_entropy(
    logits: Float[Array, "B classes"], targets: Shaped[Array, "B classes"], mask: Bool[Array, " B"]
) -> Float[Array, ""]:
    """Mean of -sum(targets * log softmax(logits)) over the images that `mask` keeps; 0 for none.

    `targets` are probabilities. Computed in float32; 0 where no image is kept.
    """
    losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), targets.astype(jnp.float32))
    count = jnp.sum(mask, dtype=jnp.float32)
    return jnp.sum(jnp.where(mask, losses, 0)) / jnp.maximum(count, 1)


def is_among_top(
    logits: Float[Array, "B classes"], class_ids: Int[Array, " B"], k: int
) -> Bool[Array, " B"]:
    """Whether the right class is among the k largest logits.

    Of equal logits the class of the lower number comes first, so a network that cannot tell
    classes apart gains nothing by it. A NaN is never among the first.
    """
    right = jnp.take_along_axis(logits, class_ids[:, None], axis=1)
    later = jnp.arange(logits.shape[1])[None, :] > class_ids[:, None]
    behind = (logits < right) | ((logits == right) & later)
    place = logits.shape[1] - 1 - jnp.sum(behind, axis=1)
    return (place < k) & ~jnp.isnan(logits).any(axis=1)
