"""Data sets of image files: three list files, a folder a class, or packed records of either."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.dataset import Dataset, checksum, one_hot
from input_pipeline.errors import DataError
from input_pipeline.images.encoded import EncodedImages, FileReader
from input_pipeline.lists import listed
from input_pipeline.lists.folder_splits import (
    QUERY_SHARE,
    FolderSplits,
    draw_splits,
    per_class_or_share,
)
from input_pipeline.lists.label_lists import LabelList, read_class_names
from input_pipeline.lists.listed import LIST_FILES
from input_pipeline.messages import one_line, shortened
from input_pipeline.packed import records
from input_pipeline.sets.folders import FolderImages, scan_folder
from input_pipeline.splits import LIST_PROTOCOLS, ListProtocol, Splits, class_splits


@dataclass(frozen=True)
class ListFiles:
    """Where a list-file set's lists are: their folder (None: that of the images) and names."""

    directory: str | None = None
    train: str = LIST_FILES["train"]
    query: str = LIST_FILES["query"]
    database: str = LIST_FILES["database"]


def load_lists(name: str, directory: str, files: ListFiles) -> Dataset:
    """Joins three list files (HashNet's format), whose paths are relative to `directory`.

    `name` is a key of `splits.LIST_PROTOCOLS`, whose sizes the lists must have; `classes.txt`
    beside them names the classes, a line each. DataError for what `list_problems` finds.
    """
    folder = os.path.expanduser(files.directory or directory)
    parts = listed.load_lists(folder, (files.train, files.query, files.database))
    joined = _join(name, parts)
    class_names, count = read_class_names(folder), joined.labels.shape[1]
    if class_names and len(class_names) != count:
        raise DataError(
            f"{folder}/classes.txt names {len(class_names)} classes, but the lists have {count} "
            "labels"
        )
    return _make(
        name,
        EncodedImages(joined.names, FileReader(directory, joined.names)),
        joined.labels,
        joined.splits,
        class_names or tuple(map(str, range(count))),
        f"image files in {directory} by the lists in {folder}",
    )


def load_folder(directory: str, seed: int, rules: FolderSplits) -> Dataset:
    """Takes each subfolder as a class and draws the splits; ValueError for too small a class."""
    found = scan_folder(directory)
    if reason := found.one_class_only():
        raise ValueError(f"{directory}: {reason}")
    splits = draw_splits(directory, found.class_ids, found.class_names, seed, rules)
    return _make_folder("folder", directory, found, splits, "")


def load_class_folders(directory: str, seed: int, validation_per_class: int | None) -> Dataset:
    """Takes training and validation images from subfolders that are classes, as ImageNet has them.

    With `train` and `val` in the folder, each with a subfolder a class, those are the two parts.
    With `val` alone there are no training images, which is enough to evaluate. Otherwise its
    subfolders are the classes, and the seed draws some images of each for validation. The
    validation images are the queries; the training images are also the database.
    """
    root = Path(directory).expanduser()
    if _holds_val_alone(root):
        val = scan_folder(root / "val")
        names = [f"val/{name}" for name in val.names]
        alone = FolderImages(names, val.class_ids, val.class_names, ())
        none = np.zeros(0, np.int64)
        splits = Splits(none, np.arange(len(names), dtype=np.int64), none)
        return _make_folder("class_folders", os.fspath(root), alone, splits, ", in val alone")
    if not ((root / "train").is_dir() and (root / "val").is_dir()):
        return _held_out_folders(directory, seed, validation_per_class)
    train, val = scan_folder(root / "train"), scan_folder(root / "val")
    strange = sorted(set(val.class_names) - set(train.class_names))
    if strange:
        raise DataError(
            f"{root / 'val'} has classes that {root / 'train'} has not: {shortened(list(map(one_line, strange)))}; "
            "name the subfolders of both alike"
        )
    ids = {name: i for i, name in enumerate(train.class_names)}
    val_ids = np.array([ids[val.class_names[i]] for i in val.class_ids], np.int64)
    names = [f"train/{name}" for name in train.names] + [f"val/{name}" for name in val.names]
    both = FolderImages(names, np.concatenate([train.class_ids, val_ids]), train.class_names, ())
    train_rows, val_rows = np.split(np.arange(len(names), dtype=np.int64), [len(train.names)])
    splits = Splits(train_rows, val_rows, train_rows)
    return _make_folder("class_folders", os.fspath(root), both, splits, ", in train and val")


def _holds_val_alone(root: Path) -> bool:
    """Is there a `val` with folders in it, and no other folder?"""
    folders = [path.name for path in root.glob("[!.]*") if path.is_dir()]
    return folders == ["val"] and any(path.is_dir() for path in (root / "val").iterdir())


def _held_out_folders(directory: str, seed: int, per_class: int | None) -> Dataset:
    found = scan_folder(directory)
    counts = np.bincount(found.class_ids)
    drawn_of_each = per_class_or_share(per_class, counts, QUERY_SHARE)
    if (counts <= drawn_of_each).any():
        least = int(counts.argmin())
        raise ValueError(
            f"{directory}: class {one_line(found.class_names[least])} has {counts[least]} images, of which "
            f"{drawn_of_each[least]} would be "
            "held out for validation and none left to train on; give a smaller "
            "--config.data.query_per_class"
        )
    drawn = class_splits(found.class_ids, seed, drawn_of_each, 0, "rest")
    splits = Splits(drawn.database, drawn.query, drawn.database)
    held_out = f"; {per_class or 'a tenth'} of each for validation"
    return _make_folder("class_folders", directory, found, splits, held_out)


def load_packed(name: str, directory: str) -> Dataset:
    """Opens what `input_pipeline.pack` made, on a disk or a bucket, with the splits it had."""
    packed = records.open_packed(directory)
    # What packing left out as unreadable is missing from the lists as well.
    name_of_sizes = "lists" if packed.left_out else name
    joined = _join(name_of_sizes, packed.lists)
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


def _join(name: str, parts: Sequence[LabelList]) -> listed.ListedImages:
    train, query, database = parts
    expected = LIST_PROTOCOLS.get(name, ListProtocol())
    problems = listed.list_problems(train, query, database, expected)
    if problems:
        shown = shortened([problem.summary for problem in problems], separator="\n  ")
        raise DataError(
            f"the lists cannot be used for {name}:\n  {shown}\npython -m input_pipeline.check "
            "lists every problem of the lists and the images"
        )
    return listed.join_lists(train, query, database)


def _make_folder(
    name: str, directory: str, found: FolderImages, splits: Splits, more: str
) -> Dataset:
    left_out = ["; ".join(found.left_out())] if found.ignored else []
    return _make(
        name,
        EncodedImages(found.names, FileReader(directory, found.names)),
        one_hot(found.class_ids, len(found.class_names)),
        splits,
        found.class_names,
        "; left out: ".join([f"image files in {directory}, a class a subfolder{more}", *left_out]),
    )


def _make(
    name: str,
    images: EncodedImages,
    labels: np.ndarray,
    splits: Splits,
    class_names: tuple[str, ...],
    provenance: str,
) -> Dataset:
    return Dataset(
        name=name,
        protocol=name,
        class_names=class_names,
        images=images,
        labels=labels,
        splits=splits,
        top_k=LIST_PROTOCOLS.get(name, ListProtocol()).top_k,
        provenance=provenance,
        official=None,
        checksum=checksum(labels, *splits.by_name().values(), names=images.names),
    )
