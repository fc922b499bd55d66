"""From a configuration to a data set, and to what makes the images of batches."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from hybridhash_jax.config_fields import Config, ConfigError
from hybridhash_jax.distributed.agreement import agree
from input_pipeline.dataset import Dataset
from input_pipeline.datasets import FolderSplits, ListFiles, load_dataset
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.sources import ArraySource, DecodedSource, Source

_READING_SECONDS = 4 * 3600  # that one process may read its data longer than another


@dataclasses.dataclass(frozen=True)
class Sources:
    """Makers of images.

    Attributes:
      train, evaluation: with and without augmentation.
      in_memory: the images are arrays, and resizing and augmentation are the device's work;
        otherwise they arrive cropped to the network's size.
      names: what each image is called; empty for arrays.
    """

    train: Source
    evaluation: Source
    in_memory: bool
    names: Sequence[str]

    def close(self) -> None:
        """Ends their threads."""
        self.train.close()
        self.evaluation.close()


def create_dataset(config: Config) -> Dataset:
    """Loads the data set that `config.data` names; errors as `datasets.load_dataset`.

    Several processes compare what they loaded, so all must call it.
    """
    data = config.data
    dataset = load_dataset(
        data.name,
        data.protocol,
        source=data.source,
        directory=data.dir,
        split_seed=data.split_seed,
        download=data.download,
        lists=ListFiles(data.lists, data.train_list, data.query_list, data.database_list),
        folder=FolderSplits(data.query_per_class, data.train_per_class, data.database),
    )
    agree("data", {"checksum of the data set": dataset.checksum}, _READING_SECONDS)
    return dataset


def create_sources(dataset: Dataset, config: Config, image_size: int) -> Sources:
    """Arrays as they are; files through the transforms that `config.data` asks for.

    Raises:
      ConfigError: an option that does not fit this kind of images.
      ValueError: sizes or areas that cannot be.
    """
    data, images = config.data, dataset.images
    if isinstance(images, np.ndarray):
        source = ArraySource(images)
        return Sources(source, source, True, ())
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
        options=DecodeOptions(data.allow_truncated, data.max_pixels, data.apply_orientation),
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
