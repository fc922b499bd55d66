"""One function from a data set's and a protocol's name to images, labels and splits in memory."""

import hashlib
import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from input_pipeline.cifar10 import CLASS_NAMES, PooledImages, read_cifar10
from input_pipeline.cifar10_tfds import read_cifar10_tfds
from input_pipeline.splits import PROTOCOLS, Splits, class_splits

# "archive": the files a data set is published as (for digits, those inside scikit-learn).
SOURCES = {"cifar10": ("archive", "tfds"), "digits": ("archive",)}
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory together with one protocol's splits of it.

    Attributes:
      name: "cifar10" or "digits".
      protocol: a key of `splits.PROTOCOLS`.
      class_names: one name a class.
      images: uint8 [N, H, W, 3].
      labels: uint8 [N, classes], multi-hot.
      splits: rows of `images` and `labels` that train, query and fill the database.
      top_k: the protocol's mAP@top_k; None ranks the whole database.
      provenance: one sentence about where the images come from.
      official: whether they are the published files; None if that cannot be told.
      checksum: first 16 hex digits of a SHA-256 over images and labels. Results are comparable
        only where checksum, protocol and split seed agree.
    """

    name: str
    protocol: str
    class_names: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    splits: Splits
    top_k: int | None
    provenance: str
    official: bool | None
    checksum: str


def load_dataset(
    name: str,
    protocol: str,
    *,
    source: str = "archive",
    directory: str | None = None,
    split_seed: int = 0,
    download: bool = True,
) -> Dataset:
    """Loads all images of a data set and draws a protocol's splits.

    Args:
      name: "cifar10" or "digits".
      protocol: a key of `splits.PROTOCOLS` that belongs to the data set.
      source: "archive", or "tfds" for CIFAR-10 that TFDS has prepared as array_record.
      directory: where the files are; None for the source's usual place. Digits need none.
      split_seed: in [0, 2**64); the same seed gives the same splits on every machine.
      download: whether missing archive files may be downloaded.

    Raises:
      ValueError: for an unknown name, protocol or source, or images too few for the protocol.
      DataError: if files are missing, damaged or cannot be downloaded.
    """
    _check_names(name, protocol, source)
    if name == "digits":
        pooled, class_names = _read_digits(), DIGIT_NAMES
    elif source == "tfds":
        pooled, class_names = read_cifar10_tfds(directory), CLASS_NAMES
    else:
        pooled, class_names = read_cifar10(directory, download=download), CLASS_NAMES
    rules = PROTOCOLS[protocol]
    splits = class_splits(
        pooled.class_ids, split_seed, rules.query_per_class, rules.train_per_class, rules.database
    )
    labels = np.eye(len(class_names), dtype=np.uint8)[pooled.class_ids]
    return Dataset(
        name=name,
        protocol=protocol,
        class_names=class_names,
        images=pooled.images,
        labels=labels,
        splits=splits,
        top_k=rules.top_k,
        provenance=pooled.provenance,
        official=pooled.official,
        checksum=_checksum(pooled.images, labels),
    )


def _check_names(name: str, protocol: str, source: str) -> None:
    if name not in SOURCES:
        raise ValueError(f"unknown data set {name!r}; accepted: {_listed(SOURCES)}")
    accepted = [key for key, rules in PROTOCOLS.items() if rules.dataset == name]
    if protocol not in accepted:
        raise ValueError(f"{name} has no protocol {protocol!r}; accepted: {_listed(accepted)}")
    if source not in SOURCES[name]:
        raise ValueError(f"{name} has no source {source!r}; accepted: {_listed(SOURCES[name])}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _read_digits() -> PooledImages:
    """scikit-learn's 1,797 handwritten digits: 8x8 grey values 0..16, here RGB bytes."""
    from sklearn.datasets import load_digits  # imported late: it takes a second

    values, target = load_digits(return_X_y=True)
    grey = np.round(np.reshape(values, (-1, 8, 8)) * (255 / 16)).astype(np.uint8)
    return PooledImages(
        images=np.repeat(grey[..., None], 3, axis=-1),
        class_ids=np.asarray(target, np.int64),
        provenance=(
            "the 1,797 handwritten digits of 8x8 pixels bundled with scikit-learn "
            f"{importlib.metadata.version('scikit-learn')}"
        ),
        official=None,  # there is no published figure they would have to match
    )


def _checksum(images: np.ndarray, labels: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in (images, labels):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
