"""The data sets that fit in memory, from the files that they are published as."""

import numpy as np

from input_pipeline.dataset import one_hot
from input_pipeline.errors import DataError
from input_pipeline.lists.label_lists import LabelList
from input_pipeline.lists.list_tables import list_table
from input_pipeline.sets.cifar10 import CLASS_NAMES, read_cifar10
from input_pipeline.sets.cifar10_tfds import read_cifar10_tfds
from input_pipeline.sets.digits import DIGIT_NAMES, read_digits
from input_pipeline.sets.mnist import SETS, read_mnist
from input_pipeline.sets.pooled import PooledImages

PUBLISHED = ("cifar10", "digits", *SETS)


def read_published(
    name: str, source: str, directory: str | None, *, download: bool
) -> tuple[PooledImages, tuple[str, ...]]:
    """(images, names of the classes) of one of `PUBLISHED`; errors as its reader's."""
    if name == "digits":
        return read_digits(), DIGIT_NAMES
    if name in SETS:
        return read_mnist(name, directory, download=download), SETS[name].class_names
    if source == "tfds":
        return read_cifar10_tfds(directory), CLASS_NAMES
    return read_cifar10(directory, download=download), CLASS_NAMES


def check_published(name: str, directory: str | None) -> tuple[list[str], list[str]]:
    """(tables of what the files hold, notices); nothing is downloaded.

    DataError where they cannot be used.
    """
    try:
        pooled, class_names = read_published(name, "archive", directory, download=False)
    except DataError as error:
        raise DataError(str(error).replace("--config.data.", "--")) from None
    parts = np.split(one_hot(pooled.class_ids, len(class_names)), [pooled.num_train])
    names = ("train", "test") if pooled.num_train else ("", "images")
    lists = {
        split: LabelList([""] * len(labels), labels, "")
        for split, labels in zip(names, parts, strict=True)
        if split
    }
    height, width = pooled.images.shape[1:3]
    size = f"{len(pooled.images):,} images, {width} x {height}"
    notices = [
        f"{split} has no image of {class_names[i]}"
        for split, listed in lists.items()
        for i in np.flatnonzero(~listed.labels.any(axis=0))
    ]
    if pooled.official is False:
        notices.append(pooled.provenance)
    else:
        size += f": {pooled.provenance}"
    return [size, list_table(lists, class_names)], notices
