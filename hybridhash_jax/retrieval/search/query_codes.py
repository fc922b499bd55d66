"""Codes of query images, of which some may be unreadable. Imports JAX with the encoder."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from hybridhash_jax.retrieval.encoding.encoder import Encoder, in_batches
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.encoding.making import keep_programs
from hybridhash_jax.retrieval.encoding.network import FEW
from hybridhash_jax.retrieval.encoding.prepare import Preparation
from hybridhash_jax.retrieval.index import Index, check_same_model
from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.workdir import names
from input_pipeline.errors import UnreadableImage
from input_pipeline.threads import available_cores, map_in_threads

Image = str | bytes | os.PathLike[str] | np.ndarray


def make_encoder(index: Index, workdir: str | os.PathLike[str] | None = None) -> Encoder:
    """The encoder of an index; that of a run which has moved since from its `workdir`.

    Raises:
      EncoderError: it is not to be had, or is of another model.
    """
    run = Path(workdir or index.model.source.get("workdir", "")).expanduser()
    # Beside a run that is not there nothing is to be made.
    keep_programs(run if (run / names.CONFIG).is_file() else None)
    if workdir is None:
        return Encoder.from_index(index)
    checkpoint = index.model.source.get("checkpoint", "selected")
    encoder = Encoder.from_workdir(workdir, str(checkpoint))
    encoder.check(index.model, str(index.path))
    return encoder


def encode_each(
    encoder: Encoder,
    images: Sequence[Image],
    num_workers: int | None = None,
    on_images: Callable[[int], object] = lambda count: None,
) -> Iterator[UInt8[np.ndarray, " bytes"] | UnreadableImage]:
    """The packed code of each image, or why it has none, in their order.

    Args:
      encoder: makes the codes.
      images: paths, or uint8 [h, w, 3], as `wrong_image` lets them through.
      num_workers: decoding threads; None is one a core.
      on_images: told how many were done since.
    """
    few = len(images) <= FEW
    preparation = Preparation(encoder.transform, few=few)
    read = map_in_threads(
        functools.partial(_crop, preparation), images, num_workers or available_cores()
    )
    with contextlib.closing(read):
        for batch in in_batches(read, encoder.batch_size):
            yield from _codes(encoder, batch, few)
            on_images(len(batch))


def _crop(preparation: Preparation, image: Image) -> np.ndarray | UnreadableImage:
    try:
        if isinstance(image, np.ndarray):
            return preparation.of_pixels(image).crop
        return preparation.of_file(image).crop
    except UnreadableImage as error:
        return error


def _codes(
    encoder: Encoder, batch: Sequence[np.ndarray | UnreadableImage], quick: bool
) -> Iterator[np.ndarray | UnreadableImage]:
    crops = [crop for crop in batch if isinstance(crop, np.ndarray)]
    if not crops:
        yield from batch
        return
    packed, is_nan = encoder.fetch(encoder.start(np.stack(crops), quick=quick), len(crops))
    if is_nan.any():
        raise EncoderError(
            f"the output of {encoder.model.name} is NaN, which has no sign: look for a diverged "
            "training run"
        )
    codes = iter(packed)
    yield from (next(codes) if isinstance(crop, np.ndarray) else crop for crop in batch)


def notes(index: Index, encoder: Encoder) -> list[str]:
    """What a user should know of an encoder's codes beside those of an index, a sentence each."""
    other = check_same_model(index.model, encoder.model, shown(index.path), "the query")
    return [*([other] if other else []), *encoder.notes]
