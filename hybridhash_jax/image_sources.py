"""From a configuration to a data set, and to what makes the images of batches."""

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs import default
from hybridhash_jax.config_fields import Config, ConfigError
from hybridhash_jax.distributed.agreement import agree
from hybridhash_jax.methods import Method
from hybridhash_jax.runtime.console import logger, progress
from hybridhash_jax.workdir import names
from input_pipeline.dataset import Dataset, empty_splits
from input_pipeline.datasets import (
    EmbeddingFiles,
    FolderSplits,
    ListFiles,
    load_dataset,
    load_kept,
    unused_fields,
)
from input_pipeline.errors import DataError
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.encoded import EncodedImages
from input_pipeline.images.headers import broken_headers
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.images.vectors import Vectors
from input_pipeline.messages import counted, shortened
from input_pipeline.sources import ArraySource, DecodedSource, Source
from input_pipeline.splits import hold_out

_MOST_UNFILLED = 1024  # images; that of the shipped configurations at most
_READING_SECONDS = 4 * 3600  # that one process may read its data longer than another


@dataclasses.dataclass(frozen=True)
class Sources:
    """Makers of images.

    Attributes:
      train, evaluation: with and without augmentation.
      in_memory: the images are arrays (of pixels, or vectors), and resizing and augmentation are the device's work;
        otherwise they arrive cropped to the network's size.
      names: what each image is called; empty where that is not known.
    """

    train: Source
    evaluation: Source
    in_memory: bool
    names: Sequence[str]

    def names_of(self, rows: np.ndarray) -> np.ndarray:
        """What the images of `rows` are called, str [N]: their file names, or "image ROW"."""
        names = self.names
        found = [names[row] if len(names) else f"image {row}" for row in rows.tolist()]
        return np.asarray(found, np.str_)

    def close(self) -> None:
        """Ends their threads."""
        self.train.close()
        self.evaluation.close()


def create_dataset(config: Config, workdir: Path | None = None) -> Dataset:
    """Loads the data set that `config.data` names; errors as `datasets.load_dataset`.

    Several processes compare what they loaded, so all must call it. `workdir` is where the splits
    lie that data.splits="kept" asks for.
    """
    data = config.data
    with progress(f"reading the data set {data.name}"):
        dataset = _load(config, workdir)
    agree("data", {"checksum of the data set": dataset.checksum}, _READING_SECONDS)
    return dataset


def _load(config: Config, workdir: Path | None) -> Dataset:
    data = config.data
    _check_fields(data)
    directory = _existing(data)
    if data.splits == "drawn":
        return load_dataset(
            data.name,
            data.protocol,
            source=data.source,
            directory=directory,
            split_seed=data.split_seed,
            download=data.download,
            lists=ListFiles(data.lists, data.train_list, data.query_list, data.database_list),
            folder=FolderSplits(data.query_per_class, data.train_per_class, data.database),
            embeddings=EmbeddingFiles(data.embeddings, data.labels, data.names, data.split_file),
        )
    lists = None if workdir is None else workdir / names.LISTS
    if data.source != "files" or lists is None or not lists.is_dir():
        raise ConfigError(
            "data.splits='kept' is for a workdir that has kept the splits of image files, and "
            f"{lists or 'this run'} has none: leave it out"
        )
    return load_kept(data.name, directory, str(lists))


def _check_fields(data: Config) -> None:
    """Refuses fields that were given and mean nothing for this data set."""
    usual = default.get_config().data
    for name in unused_fields(data.name, data.source):
        if data[name] != usual[name]:
            raise ConfigError(
                f"data.{name}={data[name]!r} means nothing for data.name={data.name}, "
                f"data.source={data.source}; leave it out"
            )


def _existing(data: Config) -> str | None:
    """The folder of the data, which is looked for before anything is read."""
    if data.dir is None:
        return None
    if "://" in data.dir:
        if data.source not in ("files", "packed", "vectors"):
            raise DataError(
                f"--config.data.dir={data.dir}: data.source={data.source} is read from a folder; copy "
                "it there, or mount the bucket"
            )
        return data.dir
    folder = Path(data.dir).expanduser()
    if data.source in ("files", "packed", "arrays", "vectors") and not folder.is_dir():
        raise DataError(f"--config.data.dir={data.dir}: there is no such folder")
    return str(folder)


def check_enough(
    dataset: Dataset, batch_size: int | None, *, searches: bool, trains: bool = True
) -> None:
    """Refuses a data set that a run can make nothing of, before anything is built.

    Raises:
      ValueError: a split is empty (the database only where the run `searches`, the training images
        where it does or `trains`), or, where it trains, there are fewer than two classes to tell
        apart, or a batch is larger than the training set (None: it does not train in batches).
    """
    splits = dataset.splits
    needed = {"train": searches or trains, "query": True, "database": searches}
    for name, reason in empty_splits(dataset).items():
        if needed[name]:
            raise ValueError(reason)
    if not trains:
        return
    classes = int(dataset.labels[splits.train].any(axis=0).sum())
    if classes < 2:
        raise ValueError(
            f"the training images of {dataset.name} have {classes} class"
            f"{'es' * (classes != 1)}, and two are needed to tell apart (with one class every image "
            "is relevant, and mAP is 1 whatever the codes)"
        )
    if batch_size is not None and batch_size > len(splits.train):
        raise ValueError(
            f"batch_size={batch_size} is more than the {len(splits.train):,} training images of "
            f"{dataset.name}; give --config.batch_size={len(splits.train)} or less"
        )


def training_rows(
    config: Config, method: Method, dataset: Dataset, *, trains: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(rows that are trained on, rows that are held out); errors as `check_enough`."""
    splits = dataset.splits
    rows = splits.database if method.supervision == "database" else splits.train
    batch_size = None if method.is_fitted else config.batch_size
    check_enough(dataset, batch_size, searches=method.learns == "codes", trains=trains)
    used = {"training": rows}
    if method.learns == "classes":
        used["query"] = splits.query
    for name, checked in used.items():
        try:
            method.check_labels(dataset.labels[checked])
        except ValueError as error:
            raise ValueError(f"{name} images of {dataset.name}: {error}") from None
    if method.learns == "codes" and config.evaluation.selected_by == "validation":
        fraction = config.evaluation.validation_fraction
        return hold_out(rows, fraction, config.data.split_seed)
    return rows, np.zeros(0, np.int64)


def fitting_batches(config: Config, dataset: Dataset, devices: int) -> Config:
    """A copy whose evaluation.batch_size is not far beyond what the data set fills.

    A batch has its whole size, whatever there is to encode. Up to `_MOST_UNFILLED` it stays as it
    is, since codes may differ in a bit by the batch's size; `devices` divide it.
    """
    images = max(_MOST_UNFILLED, *map(len, dataset.splits.by_name().values()))
    most = -(-images // devices) * devices
    if config.evaluation.batch_size <= most:
        return config
    logger.info(
        "evaluation.batch_size is %d, not %d, which the images do not fill",
        most,
        config.evaluation.batch_size,
    )
    fitting: Any = copy.deepcopy(config)
    fitting.evaluation.batch_size = most
    return fitting


def check_headers(dataset: Dataset, config: Config) -> None:
    """Looks at the start of every image file, so that a broken one is not found hours later.

    Several processes share the work. In a bucket, where every look is a request, nothing is done.

    Raises:
      DataError: images that cannot be used, where data.on_unreadable is "error"; or most of them.
    """
    images, data = dataset.images, config.data
    if not isinstance(images, EncodedImages) or "://" in str(data.dir) or data.source != "files":
        return
    used = np.unique(np.concatenate(list(dataset.splits.by_name().values())))
    rows = used[jax.process_index() :: jax.process_count()]
    with progress("looking at image files", len(rows)) as told:
        broken = broken_headers(
            images.reader, rows, decode_options(data), data.num_workers, told.update
        )
    if not broken:
        return
    named = [f"{images.names[row]}: {reason}" for row, reason in broken.items()]
    few = shortened(named, 5, "\n  ")
    if len(broken) > len(rows) / 2:
        raise DataError(
            f"{len(broken):,} of {len(rows):,} images cannot be used. Is --config.data.dir="
            f"{data.dir} the folder that their names start from?{_hint(data.dir, images)}\n  {few}"
        )
    if data.on_unreadable == "error":
        raise DataError(
            f"{counted(len(broken), 'image')} of {len(rows):,} cannot be used; mend or remove them, "
            f"or leave them out with --config.data.on_unreadable=skip:\n  {few}"
        )
    logger.warning("%s cannot be used:\n  %s", counted(len(broken), "image"), few)


def _hint(directory: str, images: EncodedImages) -> str:
    """The folder near this one in which the images are, if one is found."""
    root, name = Path(directory).expanduser().absolute(), images.names[0]
    near = [root.parent, *(path for path in sorted(root.iterdir())[:100] if path.is_dir())]
    found = [path for path in near if (path / name).is_file()]
    return f" {found[0]} has {name}." if found else ""


def decode_options(data: Config) -> DecodeOptions:
    """What `config.data` counts as readable."""
    return DecodeOptions(data.allow_truncated, data.max_pixels, data.apply_orientation)


def create_sources(dataset: Dataset, config: Config, image_size: int) -> Sources:
    """Arrays as they are; files through the transforms that `config.data` asks for.

    Raises:
      ConfigError: an option that does not fit this kind of images.
      ValueError: sizes or areas that cannot be.
    """
    data, images = config.data, dataset.images
    if isinstance(images, np.ndarray):
        if data.crop_padding >= (side := min(images.shape[1:3])):
            raise ConfigError(
                f"data.crop_padding={data.crop_padding} would leave crops with nothing of the images "
                f"of {data.name}, whose shorter side is {side} pixels; give less"
            )
        source = ArraySource(images)
        return Sources(source, source, True, ())
    if isinstance(images, Vectors):
        source = ArraySource(images.array)
        return Sources(source, source, True, images.names)
    if data.crop_padding:
        raise ConfigError(
            f"data.crop_padding={data.crop_padding} is for images in memory; image files are "
            "cropped out of data.resize instead: leave it 0"
        )
    if images.resized is not None and images.resized < data.resize:
        raise ConfigError(
            f"data.resize={data.resize}, but the images were packed with a shorter side of "
            f"{images.resized}: use --config.data.resize={images.resized}, or pack them larger"
        )
    if images.resized is not None and images.turned != data.apply_orientation:
        raise ConfigError(
            f"the images were packed with apply_orientation={images.turned}, which cannot be "
            f"undone: use --config.data.apply_orientation={images.turned}, or pack them again"
        )
    evaluation = ImageTransform(
        size=image_size,
        resize=data.resize,
        options=decode_options(data),
    )
    train = dataclasses.replace(
        evaluation, horizontal_flip=data.horizontal_flip, random_area=data.random_area
    )
    return Sources(
        DecodedSource(images, train, data.num_workers),
        DecodedSource(images, evaluation, data.num_workers),
        False,
        images.names,
    )
