"""From a training batch's bytes to the network's images: crops, flips, RandAugment, erasing."""

from collections.abc import Callable, Sequence

import jax

from hybridhash_jax.preprocess import pixels, rand_augment

Keys = tuple[jax.Array, jax.Array, jax.Array]
Augment = Callable[[jax.Array, Keys], jax.Array]


def make_augment(
    size: int,
    *,
    horizontal_flip: bool = False,
    crop_padding: int = 0,
    magnitude: float = 0.0,
    random_erasing: float = 0.0,
    mean: Sequence[float] = pixels.MEAN,
    std: Sequence[float] = pixels.STD,
) -> Augment:
    """The function (images uint8 [B, h, w, C], keys) -> normalised float32 [B, size, size, 3].

    Images are RGB, or grey with one channel; see `pixels.complete`.

    The three keys are those of crops and flips (see `pixels.augment`), of RandAugment and of
    erasing; `random_erasing` is its probability. `mean` and `std` are those of `pixels.normalize`.
    """

    def augment(images: jax.Array, keys: Keys) -> jax.Array:
        crop_key, change_key, erase_key = keys
        images = pixels.complete(images, size)
        images = pixels.augment(
            images, crop_key, horizontal_flip=horizontal_flip, crop_padding=crop_padding
        )
        images = pixels.resize(images, size)
        images = rand_augment.rand_augment(images, change_key, magnitude)
        images = pixels.normalize(images, mean=mean, std=std)
        return rand_augment.random_erasing(images, erase_key, random_erasing)

    return augment


def prepare_images(
    images: jax.Array,
    size: int,
    *,
    mean: Sequence[float] = pixels.MEAN,
    std: Sequence[float] = pixels.STD,
) -> jax.Array:
    """An evaluation batch uint8 [B, h, w, 3 or 1], as the network sees it: `size` pixels, normalised."""
    images = pixels.resize(pixels.complete(images, size), size)
    return pixels.normalize(images, mean=mean, std=std)
