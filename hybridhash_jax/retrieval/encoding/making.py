"""The encoder that a call of `hybridhash encode` needs. Imports JAX."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from hybridhash_jax.retrieval import index as index_room
from hybridhash_jax.retrieval.encoding import label_free
from hybridhash_jax.retrieval.encoding.encoder import Encoder, in_batches
from hybridhash_jax.retrieval.encoding.job import SEGMENT, FolderJob
from hybridhash_jax.retrieval.encoding.path_list import PathList
from hybridhash_jax.retrieval.encoding.prepare import Preparation
from hybridhash_jax.retrieval.encoding.request import Request
from hybridhash_jax.runtime import compilation_cache
from input_pipeline.errors import UnreadableImage
from input_pipeline.progress import Progress

_PROGRAMS = Path("~/.cache/hybridhash_jax/programs")  # compiled ones of encoders without a run


def keep_programs(workdir: Path | None) -> None:
    """Keeps compiled programs for the next start: where runs do, or in the user's cache."""
    if workdir is None:
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(_PROGRAMS.expanduser())
        compilation_cache.set_up(folder, Path.cwd())
    else:
        compilation_cache.set_up(None, workdir)


def new_encoder(
    request: Request, root: Path, paths: PathList, tell: Callable[[str], object]
) -> Encoder:
    """The encoder of an index that is to be made; without labels it is fitted to these files."""
    keep_programs(request.workdir)
    if request.like is not None:
        encoder = Encoder.from_index(index_room.open_index(request.like))
    elif request.workdir is not None:
        encoder = Encoder.from_workdir(request.workdir, request.checkpoint or "selected")
    else:
        encoder = _fitted(request, root, paths, tell)
    _tell_of(encoder, tell)
    return encoder


class _Files(Sequence[bytes]):
    """Whole paths, made as they are asked for."""

    def __init__(self, root: Path, paths: PathList):
        self._root, self._paths = root, paths

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return _Files(self._root, self._paths[index])
        return os.path.join(os.fsencode(self._root), self._paths[index])


def _fitted(
    request: Request, root: Path, paths: PathList, tell: Callable[[str], object]
) -> Encoder:
    bits = request.bits or 64
    label_free.check_enough(len(paths), bits)  # before any is read
    count = min(len(paths), label_free.SAMPLE)
    tell(
        f"no run is given: {label_free.WEIGHTS} features, and ITQ fitted to {count:,} of the images"
    )
    with Progress("fitting", count, tell=tell) as told:
        return Encoder.unsupervised(
            _Files(root, paths),
            bits,
            seed=request.seed or 0,
            num_workers=request.num_workers,
            on_images=told.update,
        )


def encoder_for(
    request: Request, index: "index_room.Index", tell: Callable[[str], object]
) -> Encoder:
    """The encoder that goes on with an index; an EncoderError where another one is asked for."""
    source = index.model.source
    workdir = request.workdir or (source["workdir"] if source.get("kind") == "workdir" else None)
    keep_programs(None if workdir is None else Path(workdir))
    if request.like is not None:
        encoder = Encoder.from_index(index_room.open_index(request.like))
    elif request.workdir is not None:
        # Of the run that it was made with, the same checkpoint, however far that has come since.
        own = source.get("checkpoint", "selected")
        encoder = Encoder.from_workdir(request.workdir, request.checkpoint or str(own))
    else:
        encoder = Encoder.from_index(index)
    encoder.check(index.model, str(index.path))
    _tell_of(encoder, tell)
    return encoder


def compare_backends(
    encoder: Encoder, writer: "index_room.Writer", root: Path, tell: Callable[[str], object]
) -> None:
    """Where an index goes on elsewhere than it began, counts the bits of a sample that differ."""
    index, here = writer.index, encoder.model
    there = index.model
    if (here.backend, here.dtype) == (there.backend, there.dtype):
        return
    if (here.backend, here.dtype) not in index.backends:
        rows = index.sample()
        kept = index.packed(rows)
        preparation = Preparation(encoder.transform)
        crops, codes = list[np.ndarray](), list[np.ndarray]()
        for entry, code in zip(index.entries(rows), kept, strict=True):
            try:
                crop = preparation.of_file(os.path.join(os.fsencode(root), entry.path)).crop
            except UnreadableImage:
                continue
            crops.append(crop)
            codes.append(code)
        images = len(crops)
        differing = 0
        for batch in in_batches(zip(crops, codes, strict=True), encoder.batch_size):
            found, _ = encoder.fetch(encoder.start(np.stack([x for x, _ in batch])), len(batch))
            differing += int(np.bitwise_count(found ^ [code for _, code in batch]).sum())
        if images:
            writer.note_backend(here.backend, here.dtype, images, differing)
    images, differing = writer.index.backends.get((here.backend, here.dtype), (0, 0))
    tell(
        f"warning: {index.path} was begun in {there.dtype} on {there.backend}, and goes on in "
        f"{here.dtype} on {here.backend}: {differing:,} of {images * there.bits:,} bits of "
        f"{images:,} images differ"
    )


def _tell_of(encoder: Encoder, tell: Callable[[str], object]) -> None:
    tell(f"encoding with {encoder.model.name}, {encoder.model.bits} bits")
    for note in encoder.notes:
        tell(note)


def job(request: Request, encoder: Encoder, writer: "index_room.Writer", root: Path) -> FolderJob:
    """What encodes the files below `root` as the request says."""
    transform = encoder.transform
    if request.max_pixels is not None:
        options = dataclasses.replace(transform.options, max_pixels=request.max_pixels)
        transform = dataclasses.replace(transform, options=options)
    preparation = Preparation(transform, request.hashes, request.thumbnails)
    workers, segment = request.num_workers, request.segment or SEGMENT
    return FolderJob(encoder, preparation, writer, root, num_workers=workers, segment=segment)
