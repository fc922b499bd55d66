"""One function from a data set's and a protocol's name to images, labels and splits."""

import hashlib
import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from input_pipeline.dataset import Dataset
from input_pipeline.sets import image_sets
from input_pipeline.sets.arrays import load_arrays
from input_pipeline.sets.cifar10 import CLASS_NAMES, PooledImages, read_cifar10
from input_pipeline.sets.cifar10_tfds import read_cifar10_tfds
from input_pipeline.splits import LIST_PROTOCOLS, PROTOCOLS, DatabaseRule, class_splits

# "archive": the files a data set is published as (for digits, those inside scikit-learn).
# "files": image files; "packed": what input_pipeline.pack made of them; "arrays": NumPy files.
SOURCES = {
    "cifar10": ("archive", "tfds"),
    "digits": ("archive",),
    **dict.fromkeys(LIST_PROTOCOLS, ("files", "packed")),
    "folder": ("files", "packed"),
    "class_folders": ("files", "packed"),
    "arrays": ("arrays",),
    "tiny_imagenet32": ("arrays",),
}
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class ListFiles:
    """Where a list-file set's lists are.

    Attributes:
      directory: their folder; None: that of the images.
      train, query, database: the files' names in it.
    """

    directory: str | None = None
    train: str = "train.txt"
    query: str = "test.txt"
    database: str = "database.txt"


@dataclass(frozen=True)
class FolderSplits:
    """How a folder with one subfolder a class is split; see `splits.class_splits`.

    Attributes:
      query_per_class, train_per_class: images of each class.
      database: "rest", "train_and_rest" or "train".
    """

    query_per_class: int = 100
    train_per_class: int = 500
    database: DatabaseRule = "rest"


def load_dataset(
    name: str,
    protocol: str,
    *,
    source: str = "archive",
    directory: str | None = None,
    split_seed: int = 0,
    download: bool = True,
    lists: ListFiles | None = None,
    folder: FolderSplits | None = None,
) -> Dataset:
    """Finds all images of a data set, in memory or as files, and a protocol's splits.

    Args:
      name: a key of `SOURCES`.
      protocol: of `splits.PROTOCOLS` for images in memory; else the same as `name`.
      source: one of the name's `SOURCES`.
      directory: where the files are; None for the source's usual place. Digits need none, and
        image files must have one.
      split_seed: in [0, 2**64); the same seed gives the same splits on every machine. List
        files are splits already.
      download: whether missing archive files may be downloaded.
      lists: for list-file sets.
      folder: for "folder"; query_per_class also for "class_folders".

    Raises:
      ValueError: for an unknown name, protocol or source, or images too few for the protocol.
      DataError: if files are missing, damaged or cannot be downloaded, or lists break a rule.
    """
    _check_names(name, protocol, source)
    if source in ("files", "packed", "arrays"):
        if directory is None:
            raise ValueError(
                f"{name} is not downloaded: say where its {source} are, --config.data.dir=FOLDER"
            )
        if source == "packed":
            return image_sets.load_packed(name, directory)
        if source == "arrays":
            return load_arrays(name, directory)
        if name == "class_folders":
            held_out = (folder or FolderSplits()).query_per_class
            return image_sets.load_class_folders(
                directory, seed=split_seed, validation_per_class=held_out
            )
        if name == "folder":
            rules = folder or FolderSplits()
            return image_sets.load_folder(
                directory,
                seed=split_seed,
                query_per_class=rules.query_per_class,
                train_per_class=rules.train_per_class,
                database=rules.database,
            )
        lists = lists or ListFiles()
        return image_sets.load_lists(
            name,
            directory,
            lists_directory=lists.directory or directory,
            train=lists.train,
            query=lists.query,
            database=lists.database,
        )
    return _load_in_memory(name, protocol, source, directory, split_seed, download)


def _load_in_memory(
    name: str, protocol: str, source: str, directory: str | None, split_seed: int, download: bool
) -> Dataset:
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
    accepted = [key for key, rules in PROTOCOLS.items() if rules.dataset == name] or [name]
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
