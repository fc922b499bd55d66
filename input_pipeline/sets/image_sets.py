"""Data sets of image files: three list files, a folder a class, or packed records of either."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from etils import epath

from input_pipeline.dataset import Dataset
from input_pipeline.errors import DataError
from input_pipeline.images.encoded import EncodedImages, FileReader
from input_pipeline.lists import listed
from input_pipeline.lists.label_lists import LabelList
from input_pipeline.packed import records
from input_pipeline.sets.folders import scan_folder
from input_pipeline.splits import LIST_PROTOCOLS, DatabaseRule, ListProtocol, Splits, class_splits

_CHECK = "python -m input_pipeline.check lists every problem of the lists and the images"
_SHOWN = 5


def load_lists(
    name: str,
    directory: str,
    *,
    lists_directory: str,
    train: str = "train.txt",
    query: str = "test.txt",
    database: str = "database.txt",
) -> Dataset:
    """Joins three list files (HashNet's format) into a data set.

    Args:
      name: a key of `splits.LIST_PROTOCOLS`, whose sizes the lists must have.
      directory: what the paths in the lists are relative to.
      lists_directory: where the lists are; `classes.txt` there names the classes, a line each.
      train, query, database: names of the list files.

    Raises:
      DataError: a list is missing or malformed, has other sizes than `name`'s, an image is both
        query and database or query and train, or two lists disagree about an image's labels.
    """
    parts = listed.load_lists(lists_directory, train=train, query=query, database=database)
    _check_lists(name, *parts)
    joined = listed.join_lists(*parts)
    return _make(
        name,
        EncodedImages(joined.names, FileReader(directory, joined.names)),
        joined.labels,
        joined.splits,
        _class_names(epath.Path(lists_directory) / "classes.txt", joined.labels.shape[1]),
        f"image files in {directory} by the lists in {lists_directory}",
    )


def load_folder(
    directory: str,
    *,
    seed: int,
    query_per_class: int,
    train_per_class: int,
    database: DatabaseRule,
) -> Dataset:
    """Takes each subfolder as a class and draws the splits.

    Raises:
      DataError: no such folder, or no class with images in it.
      ValueError: a class with too few images.
    """
    found = scan_folder(Path(directory))
    try:
        splits = class_splits(found.class_ids, seed, query_per_class, train_per_class, database)
    except ValueError as error:
        listed_names = ", ".join(f"{i} = {name}" for i, name in enumerate(found.class_names[:20]))
        raise ValueError(
            f"{directory}: {error}. Sizes are data.query_per_class and data.train_per_class. "
            f"Classes: {listed_names}"
        ) from None
    ignored = f"; {len(found.ignored)} other files ignored" if found.ignored else ""
    return _make(
        "folder",
        EncodedImages(found.names, FileReader(directory, found.names)),
        np.eye(len(found.class_names), dtype=np.uint8)[found.class_ids],
        splits,
        found.class_names,
        f"image files in {directory}, a class a subfolder{ignored}",
    )


def load_class_folders(directory: str, *, seed: int, validation_per_class: int) -> Dataset:
    """Takes training and validation images from subfolders that are classes, as ImageNet has them.

    With `train` and `val` in the folder, each with a subfolder a class, those are the two parts.
    Otherwise its subfolders are the classes, and some images of each are drawn for validation.
    The validation images are the queries; the training images are also the database.

    Args:
      directory: the folder.
      seed: draws the validation images, where there is no `val`.
      validation_per_class: how many of each class, where there is no `val`.

    Raises:
      DataError: no such folder, no class with images in it, or a class of `val` not in `train`.
      ValueError: a class without an image to train on.
    """
    root = Path(directory).expanduser()
    if not ((root / "train").is_dir() and (root / "val").is_dir()):
        return _held_out_folders(directory, seed, validation_per_class)
    train, val = scan_folder(root / "train"), scan_folder(root / "val")
    strange = sorted(set(val.class_names) - set(train.class_names))
    if strange:
        raise DataError(
            f"{root / 'val'} has classes that {root / 'train'} has not: "
            f"{', '.join(strange[:_SHOWN])}; name the subfolders of both alike"
        )
    ids = {name: i for i, name in enumerate(train.class_names)}
    val_ids = np.array([ids[val.class_names[i]] for i in val.class_ids], np.int64)
    names = [f"train/{name}" for name in train.names] + [f"val/{name}" for name in val.names]
    rows, count = np.arange(len(names), dtype=np.int64), len(train.names)
    return _make(
        "class_folders",
        EncodedImages(names, FileReader(os.fspath(root), names)),
        np.eye(len(ids), dtype=np.uint8)[np.concatenate([train.class_ids, val_ids])],
        Splits(rows[:count], rows[count:], rows[:count]),
        train.class_names,
        f"image files in {directory}, train and val, a class a subfolder",
    )


def _held_out_folders(directory: str, seed: int, per_class: int) -> Dataset:
    found = scan_folder(Path(directory))
    counts = np.bincount(found.class_ids)
    if counts.min() <= per_class:
        small = found.class_names[int(counts.argmin())]
        raise ValueError(
            f"{directory}: class {small} has {counts.min()} images, of which {per_class} would be "
            "held out for validation and none left to train on; give a smaller "
            "--config.data.query_per_class"
        )
    splits = class_splits(found.class_ids, seed, per_class, 0, "rest")
    return _make(
        "class_folders",
        EncodedImages(found.names, FileReader(directory, found.names)),
        np.eye(len(found.class_names), dtype=np.uint8)[found.class_ids],
        Splits(splits.database, splits.query, splits.database),
        found.class_names,
        f"image files in {directory}, a class a subfolder; {per_class} of each for validation",
    )


def load_packed(name: str, directory: str) -> Dataset:
    """Opens what `input_pipeline.pack` made; the splits are those it was packed with.

    Args:
      name: as for `load_lists`, or "folder".
      directory: a local or a bucket path.

    Raises:
      DataError: nothing packed there, or incomplete, or other sizes than `name`'s.
    """
    packed = records.open_packed(directory)
    parts = (packed.train, packed.query, packed.database)
    # What packing left out as unreadable is missing from the lists as well.
    _check_lists("lists" if packed.left_out else name, *parts)
    joined = listed.join_lists(*parts)
    resized = f", shorter side {packed.resize} px" if packed.resize else ""
    left_out = f", {len(packed.left_out)} unreadable images left out" if packed.left_out else ""
    return _make(
        name,
        EncodedImages(joined.names, packed.open_reader(), packed.resize, packed.apply_orientation),
        joined.labels,
        joined.splits,
        packed.class_names,
        f"packed records in {packed.directory}{resized}{left_out}",
    )


def _check_lists(name: str, train: LabelList, query: LabelList, database: LabelList) -> None:
    expected = LIST_PROTOCOLS.get(name, ListProtocol())
    problems = listed.list_problems(train, query, database)
    problems += listed.size_problems(train, query, database, expected)
    if problems:
        shown = "\n  ".join(problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError(f"the lists cannot be used for {name}:\n  {shown}{more}\n{_CHECK}")


def _class_names(path: epath.Path, count: int) -> tuple[str, ...]:
    """The file's lines where there is one, else numbers."""
    if not path.is_file():
        return tuple(str(i) for i in range(count))
    names = tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
    if len(names) != count:
        raise DataError(f"{path} names {len(names)} classes, but the lists have {count} labels")
    return names


def _make(
    name: str,
    images: EncodedImages,
    labels: np.ndarray,
    splits: Splits,
    class_names: Sequence[str],
    provenance: str,
) -> Dataset:
    return Dataset(
        name=name,
        protocol=name,
        class_names=tuple(class_names),
        images=images,
        labels=labels,
        splits=splits,
        top_k=LIST_PROTOCOLS.get(name, ListProtocol()).top_k,
        provenance=provenance,
        official=None,
        checksum=_checksum(images.names, labels, splits),
    )


def _checksum(names: Sequence[str], labels: np.ndarray, splits: Splits) -> str:
    digest = hashlib.sha256("\n".join(names).encode())
    for array in (labels, splits.train, splits.query, splits.database):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
