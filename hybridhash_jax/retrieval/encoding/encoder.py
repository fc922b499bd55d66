"""From images to codes, with a trained network or without labels."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from hybridhash_jax.codes import binary
from hybridhash_jax.encode import EncodedBatch
from hybridhash_jax.retrieval.encoding import label_free
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.encoding.given import wrong_image, wrong_images
from hybridhash_jax.retrieval.encoding.prepare import Preparation
from hybridhash_jax.retrieval.encoding.trained import Parts, trained_parts, transform_of
from hybridhash_jax.retrieval.index.records import Model
from hybridhash_jax.retrieval.names import shown
from input_pipeline.errors import UnreadableImage
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.threads import available_cores, map_in_threads

if TYPE_CHECKING:
    from hybridhash_jax.retrieval.index import Index

Path_ = str | bytes | os.PathLike[str]
Images = Sequence[Path_ | np.ndarray] | np.ndarray
Item = TypeVar("Item")


class Encoder:
    """Makes the codes of images: `encoder(images)`.

    Attributes:
      program: the network.
      model: what says which codes may be compared.
      transform: how an image is decoded and cropped.
      batch_size: images that the network takes at once; fewer are filled up.
      notes: what its user should know, a sentence each.
      files: what an index of these codes must keep, by name.
    """

    def __init__(self, parts: Parts, files: dict[str, bytes] | None = None):
        """Use `from_workdir`, `from_index` or `unsupervised`."""
        self.program = parts.program
        self.model: Model = parts.model
        self.transform = parts.transform
        self.batch_size = parts.program.batch_size
        self.files = files or {}
        self.notes = parts.notes

    @classmethod
    def from_workdir(cls, path: str | os.PathLike[str], checkpoint: str = "selected") -> "Encoder":
        """The network of a run.

        Args:
          path: its workdir, of one code length. It may still train; the data set is not needed.
          checkpoint: "selected" as in its results, "latest", or a step.

        Raises:
          EncoderError: there is no such run or checkpoint, or it gives no codes of images.
        """
        return cls(trained_parts(Path(path).expanduser(), str(checkpoint)))

    @staticmethod
    def transform_of(path: str | os.PathLike[str]) -> ImageTransform:
        """The `transform` of a run's encoder, without its parameters and without a device.

        Raises:
          EncoderError: there is no such run, or it gives no codes of images.
        """
        return transform_of(Path(path).expanduser())

    @classmethod
    def from_index(cls, index: "Index", workdir: str | os.PathLike[str] | None = None) -> "Encoder":
        """The encoder that made the codes of an index.

        Args:
          index: says what it was.
          workdir: where its run is now; None: where it was.

        Raises:
          EncoderError: its workdir is gone or has changed since, or one is given and no run made it.
        """
        source = index.model.source
        if workdir is not None and source.get("kind") == "label-free":
            raise EncoderError(
                f"{index.path} was encoded without labels, by {index.model.name}, and no run belongs "
                "to it; leave --workdir out"
            )
        if source.get("kind") == "label-free":
            data = index.file(source["file"])
            fitted = label_free.from_bytes(data)
            label_free.check_weights(source["weights"])
            program = label_free.create_program(source["weights"], index.model.bits)
            parts = label_free.parts_of(
                program, source["weights"], fitted, source["images"], source.get("seed")
            )
            encoder = cls(parts, {source["file"]: data})
        elif source.get("kind") == "workdir":
            encoder = cls._of_workdir_of(index, workdir or source["workdir"])
        else:
            raise EncoderError(f"{index.path} does not say what encodes its images: {dict(source)}")
        encoder.check(index.model, str(index.path))
        return encoder

    @classmethod
    def _of_workdir_of(cls, index: "Index", workdir: str | os.PathLike[str]) -> "Encoder":
        try:
            return cls.from_workdir(workdir, str(index.model.source["checkpoint"]))
        except EncoderError as error:
            raise EncoderError(
                f"{index.path} was encoded with {index.model.name}, which is not to be had: {error}. "
                "Put it back, or give where it is now: --workdir=RUN"
            ) from error

    @classmethod
    def unsupervised(
        cls,
        images: Images,
        bits: int = 64,
        weights: str = label_free.WEIGHTS,
        seed: int = 0,
        num_workers: int | None = None,
        on_images: Callable[[int], object] = lambda count: None,
    ) -> "Encoder":
        """Published features and ITQ, fitted to a seeded sample of the images.

        Args:
          images: paths or uint8 [h, w, 3]; those of the sample that cannot be read are left out.
          bits: code length.
          weights: of EfficientNet-Lite.
          seed: of the sample and the rotation.
          num_workers: decoding threads; None is one a core.
          on_images: told how many images of the sample were looked at since.

        Raises:
          EncoderError: too few images for so many bits; or the weights are not installed.
        """
        label_free.check_weights(weights)
        if bits < 1:
            raise EncoderError(f"bits={bits}; a code has at least 1 bit")
        program = label_free.create_program(weights, bits)
        preparation = Preparation(label_free.transform_of(weights))
        chosen = _sample(len(images), label_free.SAMPLE, seed)
        used = 0

        def crops() -> Iterator[np.ndarray]:
            nonlocal used
            named = ((i, images[i]) for i in chosen)
            read = map_in_threads(
                functools.partial(_crop_or_none, preparation), named, _cores(num_workers)
            )
            with contextlib.closing(read):
                for batch in in_batches(read, program.batch_size):
                    good = [crop for crop in batch if crop is not None]
                    used += len(good)
                    if good:
                        yield np.stack(good)
                    on_images(len(batch))

        fitted = label_free.fit(program, bits, crops(), seed)
        parts = label_free.parts_of(program, weights, fitted, used, int(seed))
        return cls(parts, {label_free.FILE: label_free.to_bytes(fitted)})

    def check(self, model: Model, where: str) -> None:
        """Refuses codes of another model, with an EncoderError that names both."""
        if self.model.fingerprint != model.fingerprint:
            raise EncoderError(
                f"{where} holds codes of {model.name} ({model.fingerprint}), and these would be of "
                f"{self.model.name} ({self.model.fingerprint}): codes of two models cannot be "
                "compared. Make another index, or give that model"
            )

    def __call__(self, images: Images) -> np.ndarray:
        """Codes int8 [N, bits] of -1 and +1; see `packed`."""
        return binary.unpack(self.packed(images), self.model.bits)

    def packed(
        self, images: Images, num_workers: int | None = None, *, quick: bool = False
    ) -> np.ndarray:
        """Codes uint8 [N, ceil(bits / 8)], as `codes.pack` makes them.

        `images` are paths of files, or pixels uint8 [h, w, 3], or an array [N, h, w, 3]. They are
        decoded by `num_workers` threads, and go through the network a batch at a time. `quick`: see
        `start`.

        Raises:
          UnreadableImage: names the first that cannot be read.
          ValueError: one is no image.
        """
        if wrong := wrong_images(images):
            raise ValueError(wrong)
        preparation = Preparation(self.transform)
        found: list[np.ndarray] = []
        read = map_in_threads(
            functools.partial(_crop, preparation), enumerate(images), _cores(num_workers)
        )
        with contextlib.closing(read):
            for batch in in_batches(read, self.batch_size):
                packed, is_nan = self.fetch(self.start(np.stack(batch), quick=quick), len(batch))
                _check(is_nan)
                found.append(packed)
        empty = np.zeros((0, (self.model.bits + 7) // 8), np.uint8)
        return np.concatenate(found) if found else empty

    def start(self, crops: np.ndarray, *, quick: bool = False) -> EncodedBatch:
        """Begins to encode at most `batch_size` crops, uint8 [n, S, S, 3] of `transform`.

        `quick`: on a CPU in float32 few need not be filled up to a whole batch. That moves outputs
        by some 1e-6, and of some ten thousand codes one by a bit. In bfloat16 it would turn bits of
        many codes, so elsewhere `quick` changes nothing.
        """
        return self.program.start(crops, quick=quick and self.model.allows_small_batches)

    def fetch(self, batch: EncodedBatch, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Waits for it: packed codes of the first `count`, and whether the network gave NaN."""
        return np.asarray(batch.packed)[:count], np.asarray(batch.is_nan)[:count]


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size`, the last of what is left."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _crop(preparation: Preparation, numbered: tuple[int, Any]) -> np.ndarray:
    number, image = numbered
    if wrong := wrong_image(image):
        raise ValueError(f"image {number}: {wrong}")
    if isinstance(image, np.ndarray):
        return preparation.of_pixels(image).crop
    try:
        return preparation.of_file(image).crop
    except UnreadableImage as error:
        raise UnreadableImage(f"{shown(os.fsencode(image))}: {error}") from error


def _crop_or_none(preparation: Preparation, numbered: tuple[int, Any]) -> np.ndarray | None:
    try:
        return _crop(preparation, numbered)
    except UnreadableImage:
        return None


def _sample(count: int, most: int, seed: int) -> list[int]:
    """At most so many of 0..count-1, in order."""
    if count <= most:
        return list(range(count))
    chosen = np.random.default_rng(seed).choice(count, most, replace=False)
    return cast("list[int]", np.sort(chosen).tolist())


def _check(is_nan: np.ndarray) -> None:
    if is_nan.any():
        raise EncoderError(
            f"the network's output is NaN for {int(is_nan.sum())} of {len(is_nan)} images, which "
            "has no sign: look for a diverged training run, or name another --checkpoint"
        )


def _cores(num_workers: int | None) -> int:
    return available_cores() if num_workers is None else max(1, num_workers)
