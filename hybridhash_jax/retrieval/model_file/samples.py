"""Images that an exported encoder is compared with its encoder on."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from hybridhash_jax import image_sources
from hybridhash_jax.retrieval.encoding.prepare import Preparation
from hybridhash_jax.retrieval.index import Index
from hybridhash_jax.runtime.console import quieter
from hybridhash_jax.workdir.config import load_config
from input_pipeline.datasets import unused_fields
from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.thumbnails import as_rgb
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.images.vectors import Vectors

COUNT = 100
_BLURRED = 7  # pixels a side of what a made image is enlarged from


@dataclasses.dataclass(frozen=True)
class Sample:
    """Crops uint8 [COUNT, S, S, 3], and in words which they are."""

    crops: np.ndarray
    of: str


def sample_of_index(index: Index, transform: ImageTransform) -> Sample:
    """Of the files that an index is of, as far as they are at hand."""
    preparation, crops = Preparation(transform), []
    rows = [] if index.root is None else index.sample(2 * COUNT)
    for entry in index.entries(rows):
        path = os.path.join(os.fsencode(index.root or ""), entry.path)
        try:
            crops.append(preparation.of_file(path).crop)
        except UnreadableImage:
            continue
        if len(crops) == COUNT:
            break
    return _filled_up(crops, transform, "images of the index")


def sample_of_run(workdir: Path, transform: ImageTransform) -> Sample:
    """Of the queries of a run, where its data are at hand; nothing is downloaded."""
    config = load_config(workdir)
    if "download" not in unused_fields(config.data.name, config.data.source):
        with config.unlocked():
            config.data.download = False
    try:
        with quieter():
            crops = _queries(config, workdir, transform)
    except (DataError, ValueError, OSError, ImportError):
        crops = []
    return _filled_up(crops, transform, "query images of the run")


def _queries(config, workdir: Path, transform: ImageTransform) -> list[np.ndarray]:
    dataset = image_sources.create_dataset(config, workdir)
    if isinstance(dataset.images, Vectors):
        return []
    rows = dataset.splits.query
    rows = rows[np.linspace(0, len(rows) - 1, min(COUNT, len(rows))).astype(int)]
    sources = image_sources.create_sources(dataset, config, transform.size)
    try:
        images, reasons = sources.evaluation.images(rows, None)
    finally:
        sources.close()
    return [as_rgb(image) for place, image in enumerate(images) if place not in reasons]


def _filled_up(crops: list[np.ndarray], transform: ImageTransform, of: str) -> Sample:
    """`COUNT` of them, with made images for those that are missing."""
    missing = COUNT - len(crops)
    if not missing:
        return Sample(np.stack(crops), of)
    made = "made images (seed 0)"
    of = (
        f"{len(crops)} {of} and {missing} {made}"
        if crops
        else f"{made}, for no others were at hand"
    )
    return Sample(np.stack([*crops, *_made(missing, transform)]), of)


def _made(count: int, transform: ImageTransform) -> list[np.ndarray]:
    """Smooth colours at random: noise would have nearly one code."""
    preparation, shape = Preparation(transform), (count, _BLURRED, _BLURRED, 3)
    small = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return [preparation.crop(image) for image in small]
