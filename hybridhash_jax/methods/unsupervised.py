"""Codes of features without labels: LSH, PCA and ITQ, fitted at once instead of trained by steps.

Each gives the kernel [C, K] and the bias [K] of a linear head: the code of features x is the sign of
x @ kernel + bias. Features are centred, so the bias is -mean @ kernel.
"""

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float, Integer, Shaped

from hybridhash_jax.methods.method import Method
from input_pipeline.options import Option

ITQ_OPTIONS = (
    Option("iterations", "alternations of signs and rotation", at_least=1),
    Option("rows", "most rows of features that the rotation is fitted to", at_least=1),
)
_CHUNK = 1 << 22  # numbers of a chunk of features: 32 MiB of float64

Features = Shaped[np.ndarray, "n C"]


@dataclasses.dataclass(frozen=True)
class FittedMethod(Method):
    """A method that is fitted from features: it has `directions`, and no loss."""

    seed: int = 0  # of everything random

    head = "linear"
    is_fitted = True

    @abc.abstractmethod
    def directions(
        self, features: Features, bits: int, mean: Float[np.ndarray, " C"]
    ) -> Float[np.ndarray, "C K"]:
        """The kernel, float64: what features are multiplied by after `mean` was taken off."""

    def least_rows(self, bits: int) -> int:
        """The fewest rows of features that can be fitted to."""
        del bits
        return 1

    def check_bits(self, bits: int, images: int, width: int) -> None:
        """See `Method.check_bits`."""
        del width
        if images < (least := self.least_rows(bits)):
            raise ValueError(
                f"{images:,} rows of features, and {bits} bits need at least {least:,}; "
                "give more images or fewer bits"
            )

    def fit(self, features: Features, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Method.fit`."""
        check_features(features)
        self.check_bits(bits, *features.shape)
        mean = feature_mean(features)
        kernel = self.directions(features, bits, mean)
        return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)

    def loss(self, *_: Any, **__: Any) -> NoReturn:
        """Nothing calls it."""
        raise NotImplementedError(f"{type(self).__name__} is fitted and has no loss")


@dataclasses.dataclass(frozen=True)
class LSH(FittedMethod):
    """Random projections (Charikar, STOC 2002): bits differ as often as the angle is wide."""

    title, paper = "LSH", "Charikar, STOC 2002"
    group = "lsh"

    def directions(self, features: Features, bits: int, mean: np.ndarray) -> np.ndarray:
        """Of a Gaussian distribution."""
        return np.random.default_rng(self.seed).standard_normal((features.shape[1], bits))


@dataclasses.dataclass(frozen=True)
class PCA(FittedMethod):
    """The first principal components, of the largest variance first."""

    title = "PCA"
    group = "pca"

    def least_rows(self, bits: int) -> int:
        """So many, since n centred rows span n - 1 dimensions."""
        return bits + 1

    def check_bits(self, bits: int, images: int, width: int) -> None:
        """Features have as many principal components as dimensions."""
        _check_width(bits, width)
        super().check_bits(bits, images, width)

    def directions(self, features: Features, bits: int, mean: np.ndarray) -> np.ndarray:
        """Orthonormal."""
        return principal_components(features, mean, bits)


@dataclasses.dataclass(frozen=True)
class ITQ(PCA):
    """Iterative quantization (Gong & Lazebnik, CVPR 2011): PCA, rotated towards its own signs."""

    iterations: int = 50
    rows: int = 50_000  # most rows that the rotation is fitted to, evenly spaced

    title, paper = "ITQ", "Gong & Lazebnik, CVPR 2011"
    group = "itq"
    options = ITQ_OPTIONS

    def directions(self, features: Features, bits: int, mean: np.ndarray) -> np.ndarray:
        """Principal components times a rotation; orthonormal."""
        components = principal_components(features, mean, bits)
        count = min(self.rows, len(features))
        chosen = np.linspace(0, len(features) - 1, count).round().astype(np.int64)
        projected = np.empty((count, bits), np.float32)
        for place, rows in _chunks(features, chosen):
            projected[place] = (rows - mean) @ components
        return components @ itq_rotation(projected, self.iterations, self.seed)


def check_features(features: np.ndarray) -> None:
    """Refuses what are no floats [n, C], with a ValueError."""
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise ValueError(
            f"features must be floats [images, dimensions]; got {features.shape} of {features.dtype}"
        )


def feature_mean(features: Features) -> Float[np.ndarray, " C"]:
    """Mean of features of any float type, in float64.

    Raises:
      ValueError: features are no floats [n, C], or have NaN or infinite numbers.
    """
    check_features(features)
    total = np.zeros(features.shape[1])
    for _, rows in _chunks(features):
        total += rows.sum(axis=0)
    if not np.isfinite(total).all():
        raise ValueError(_not_finite(features))
    return total / len(features)


def _check_width(bits: int, width: int) -> None:
    if bits > width:
        raise ValueError(
            f"{bits} bits of features of {width} dimensions, which have {width} principal "
            f"components; take at most {width} bits, or LSH"
        )


def principal_components(
    features: Features, mean: Float[np.ndarray, " C"], count: int
) -> Float[np.ndarray, "C K"]:
    """The first principal components in float64, of the largest variance first.

    The largest entry of each is positive. A ValueError if there are fewer dimensions than `count`.
    """
    width = features.shape[1]
    _check_width(count, width)
    covariance = np.zeros((width, width))
    for _, rows in _chunks(features):
        rows -= mean
        covariance += rows.T @ rows
    vectors = np.linalg.eigh(covariance / len(features))[1][:, ::-1][:, :count]
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.where(vectors[largest, np.arange(count)] < 0, -1.0, 1.0)


def itq_rotation(
    projected: Float[np.ndarray, "n K"], iterations: int, seed: int
) -> Float[np.ndarray, "K K"]:
    """The orthogonal R that brings centred rows V near their signs: |sign(V R) - V R| is small.

    It begins random; each alternation takes the signs B, then the R of least |B - V R| (Procrustes).
    """
    bits = projected.shape[1]
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))
    rotation = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # uniform over the orthogonal matrices
    for _ in range(iterations):
        rotated = projected @ rotation.astype(projected.dtype)
        signs = np.copysign(1, rotated, dtype=projected.dtype)
        left, _, right = np.linalg.svd((projected.T @ signs).astype(np.float64))
        rotation = left @ right
    return rotation


def _chunks(
    features: Features, chosen: Integer[np.ndarray, " m"] | None = None
) -> Iterator[tuple[slice, Float[np.ndarray, "rows C"]]]:
    """Copies of rows in float64, of all or of `chosen` ones, and where they are among those."""
    size = max(_CHUNK // max(features.shape[1], 1), 1)
    for start in range(0, len(features) if chosen is None else len(chosen), size):
        place = slice(start, start + size)
        yield place, np.array(features[place if chosen is None else chosen[place]], np.float64)


def _not_finite(features: Features) -> str:
    broken = [
        start.start + np.flatnonzero(~np.isfinite(rows).all(axis=1))
        for start, rows in _chunks(features)
    ]
    rows = np.concatenate(broken)
    return (
        f"{len(rows):,} of {len(features):,} rows of features have NaN or infinite numbers, the "
        f"first is row {rows[0]:,}; compute them again, or leave those images out"
    )
