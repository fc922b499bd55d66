"""Reads an exported encoder: from images to codes without building our network."""

import functools
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from hybridhash_jax.retrieval.encoding.given import wrong_image, wrong_images
from hybridhash_jax.retrieval.encoding.prepare import Preparation
from hybridhash_jax.retrieval.model_file.errors import NO_FLATBUFFERS, ModelFileError
from hybridhash_jax.retrieval.model_file.facts import Facts
from hybridhash_jax.retrieval.model_file.seal import check_seal
from hybridhash_jax.retrieval.names import shown
from input_pipeline.errors import UnreadableImage
from input_pipeline.threads import available_cores, map_in_threads

_BATCH = 16  # images at once; fewer are filled up, for XLA compiles every number of them anew
Path_ = str | bytes | os.PathLike[str]


def load(path: str | os.PathLike[str], batch_size: int = _BATCH) -> "ModelFile":
    """The encoder that `hybridhash export-model` wrote: `load(path)(images)` gives packed codes.

    Args:
      path: of the file. Its model card is not needed.
      batch_size: images that go through it at once.

    Raises:
      ModelFileError: there is no such file, it is damaged or of another program, or flatbuffers is
        not installed.
    """
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ModelFileError(f"{shown(path)} cannot be read: {error.strerror or error}") from None
    try:
        return ModelFile(data, batch_size)
    except ModelFileError as error:
        raise ModelFileError(f"{shown(path)}: {error}") from None


class ModelFile:
    """An exported encoder: `model(images)` gives packed codes uint8 [N, ceil(bits / 8)].

    Attributes:
      facts: code length, crop and fingerprint.
      platforms: where it runs, such as ("cpu", "cuda", "tpu").
      batch_size: images that go through it at once.
    """

    def __init__(self, data: bytes, batch_size: int = _BATCH):
        """Takes what is in the file; see `load`."""
        if batch_size < 1:
            raise ModelFileError(f"batch_size={batch_size}; give 1 or more")
        check_seal(data)
        import jax

        exported = _deserialized(data)
        self.facts = Facts.from_name(exported.fun_name)
        self.platforms: tuple[str, ...] = tuple(exported.platforms)
        self.batch_size = batch_size
        self._preparation = Preparation(self.facts.transform)
        self._call = jax.jit(exported.call)

    def __call__(
        self, images: Sequence[Path_ | np.ndarray] | np.ndarray, num_workers: int | None = None
    ) -> np.ndarray:
        """Packed codes of images: paths of files, pixels uint8 [h, w, 3], or [N, h, w, 3].

        They are decoded, turned and cropped as `facts` say, by `num_workers` threads (None: one a
        core). Crops that others made go to `of_crops`.

        Raises:
          ModelFileError: names the first that cannot be read, or one is no image.
        """
        if wrong := wrong_images(images):
            raise ModelFileError(wrong)
        workers = available_cores() if num_workers is None else max(1, num_workers)
        crop = functools.partial(_crop, self._preparation)
        return self._in_batches(map_in_threads(crop, iter(images), workers))

    def of_crops(self, crops: np.ndarray) -> np.ndarray:
        """Packed codes of crops, uint8 [N, size, size, 3], as they are.

        Raises:
          ModelFileError: they have another shape or type.
        """
        size = self.facts.size
        if crops.dtype != np.uint8 or crops.shape[1:] != (size, size, 3):
            raise ModelFileError(
                f"crops are {crops.dtype} {list(crops.shape)}; this encoder takes uint8 "
                f"[N, {size}, {size}, 3]"
            )
        return self._in_batches(iter(crops))

    def _in_batches(self, crops: Iterable[np.ndarray]) -> np.ndarray:
        parts = [np.zeros((0, -(-self.facts.bits // 8)), np.uint8)]
        left = iter(crops)
        while batch := list(itertools.islice(left, self.batch_size)):
            filled = np.zeros((self.batch_size, *batch[0].shape), np.uint8)
            filled[: len(batch)] = batch
            parts.append(np.asarray(self._call(filled))[: len(batch)])
        return np.concatenate(parts)


def _deserialized(data: bytes):
    from jax import export

    try:
        return export.deserialize(bytearray(data))
    except ImportError:
        raise ModelFileError(NO_FLATBUFFERS) from None
    except Exception:  # flatbuffers checks little, so damage shows as anything
        raise ModelFileError(
            "it is no exported program, damaged, or older than what this version of JAX reads; its "
            "card names the version that wrote it. Or write it again with hybridhash export-model"
        ) from None


def _crop(preparation: Preparation, image: Path_ | np.ndarray) -> np.ndarray:
    if wrong := wrong_image(image):
        raise ModelFileError(wrong)
    if isinstance(image, np.ndarray):
        return preparation.of_pixels(image).crop
    try:
        return preparation.of_file(image).crop
    except UnreadableImage as error:
        raise ModelFileError(f"{shown(image)}: {error}") from error
