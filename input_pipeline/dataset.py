"""The one type that every data set is loaded into."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from input_pipeline.images.encoded import EncodedImages
from input_pipeline.images.vectors import Vectors
from input_pipeline.splits import Splits


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set together with one protocol's splits of it.

    `checksum` is that of images and labels; for files of names, labels and splits, for vectors of
    all these. Results are comparable only where checksum, protocol and split seed agree.
    """

    name: str  # a key of `datasets.SOURCES`
    protocol: str  # a key of `splits.PROTOCOLS`; for image files the same as the name
    class_names: tuple[str, ...]
    # uint8 [N, H, W, 3] or grey [N, H, W, 1], the files to decode, or what another model made of the images
    images: np.ndarray | EncodedImages | Vectors
    labels: np.ndarray  # uint8 [N, classes], multi-hot
    splits: Splits  # rows of `images` and `labels`
    top_k: int | None  # the protocol's mAP@top_k; None ranks the whole database
    provenance: str  # one sentence about where the images come from
    official: bool | None  # whether they are the published files; None if that cannot be told
    checksum: str


def one_hot(class_ids: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels uint8 [N, classes] of images that have one class each."""
    return np.eye(num_classes, dtype=np.uint8)[class_ids]


def empty_splits(dataset: Dataset) -> dict[str, str]:
    """What is to be said of each split that has no images, by its name."""
    splits = dataset.splits.by_name()
    sizes = ", ".join(f"{name} {len(rows):,}" for name, rows in splits.items())
    of_file = isinstance(dataset.images, Vectors)
    return {
        name: f"the {name} split of {dataset.name} has no images ({sizes}); "
        + (f"a file that says the splits needs rows `{name}`; of drawn ones, " if of_file else "")
        + "take fewer for the others, or choose another --config.data.database"
        for name, rows in splits.items()
        if not len(rows)
    }


def checksum(*arrays: np.ndarray, names: Sequence[str] = ()) -> str:
    """The first 16 hex digits of a SHA-256 over names and arrays with their shapes."""
    digest = hashlib.sha256("\n".join(names).encode())
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
