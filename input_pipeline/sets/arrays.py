"""Reads images and classes from four NumPy files, for example Tiny-ImageNet at 32 pixels."""

from pathlib import Path

import numpy as np

from input_pipeline.dataset import Dataset, checksum, one_hot
from input_pipeline.errors import DataError
from input_pipeline.lists.label_lists import read_class_names
from input_pipeline.splits import Splits
from input_pipeline.vectors.array_files import ArrayFileError, map_array

_PARTS = ("train", "val")


def load_arrays(name: str, directory: str) -> Dataset:
    """Joins train_images.npy, train_labels.npy, val_images.npy and val_labels.npy of a folder.

    Images are uint8 [N, H, W, 3], labels integers [N], classes from 0. The validation images are
    the queries; the training images are also the database. A file classes.txt may name the
    classes, a line each; otherwise they are called by their numbers.
    """
    root = Path(directory).expanduser().absolute()
    images = [_load(root / f"{part}_images.npy") for part in _PARTS]
    labels = [_load(root / f"{part}_labels.npy") for part in _PARTS]
    for part, some_images, some_labels in zip(_PARTS, images, labels, strict=True):
        _check(root / part, some_images, some_labels, images[0].shape[1:])
    class_ids = np.concatenate([np.asarray(part, np.int64) for part in labels])
    count = int(class_ids.max()) + 1
    class_names = read_class_names(root) or tuple(map(str, range(count)))
    if len(class_names) < count:
        raise DataError(
            f"{root}/classes.txt names {len(class_names)} classes, but labels go up to {count - 1}"
        )
    pooled = np.concatenate(images)
    train, query = np.split(np.arange(len(pooled), dtype=np.int64), [len(images[0])])
    return Dataset(
        name=name,
        protocol=name,
        class_names=class_names,
        images=pooled,
        labels=one_hot(class_ids, len(class_names)),
        splits=Splits(train, query, train),
        top_k=None,
        provenance=f"arrays in {root}",
        official=None,
        checksum=checksum(pooled, class_ids),
    )


def _load(path: Path) -> np.ndarray:
    try:
        return map_array(path)
    except ArrayFileError as error:
        raise DataError(
            f"{error}; the folder needs train_images.npy, train_labels.npy, val_images.npy and "
            "val_labels.npy. Say where it is with --config.data.dir=FOLDER"
        ) from error


def _check(path: Path, images: np.ndarray, labels: np.ndarray, size: tuple[int, ...]) -> None:
    given = f"{path}_images.npy holds {images.dtype} {images.shape}"
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise DataError(f"{given}; expected uint8 [N, H, W, 3], N at least 1")
    if images.shape[1:] != size:
        raise DataError(f"{given}, but the training images are {size}; make them the same size")
    given = f"{path}_labels.npy holds {labels.dtype} {labels.shape}"
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise DataError(f"{given}; expected an integer for each of the {len(images):,} images")
    if labels.min() < 0 or labels.max() > 65_535:
        raise DataError(f"{given}, {labels.min()} to {labels.max()}; classes are numbered from 0")
