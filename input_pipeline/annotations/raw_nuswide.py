"""Reads NUS-WIDE's annotations as published: an image list and 81 files of 0 and 1."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from input_pipeline.annotations.annotation_files import (
    RawAnnotations,
    existing_folder,
    first_existing,
    first_repeat,
    read_bytes,
    read_lines,
    total_note,
)
from input_pipeline.errors import DataError
from input_pipeline.messages import shortened
from input_pipeline.progress import Progress

NUSWIDE_CONCEPTS = 81
NUSWIDE_IMAGES = 269_648
NUSWIDE_21_IMAGES = 195_834

# Where the publishers' archives put things, in their own folder or unpacked on the spot.
_NUSWIDE_ROOTS = (".", "NUS-WIDE", "NUS_WIDE", "nus-wide", "nuswide")
_IMAGE_LISTS = (
    "ImageList/Imagelist.txt",
    "ImageList/ImageList.txt",
    "ImageList/ImageList/Imagelist.txt",
    "Imagelist.txt",
    "ImageList.txt",
)
_LABEL_FOLDERS = ("Groundtruth/AllLabels", "Groundtruth/Groundtruth/AllLabels", "AllLabels", ".")
_CONCEPT_LISTS = (
    "Concepts81.txt",
    "ConceptsList/Concepts81.txt",
    "ConceptsList/ConceptsList/Concepts81.txt",
)
_NEWLINE, _ZERO = ord("\n"), ord("0")


def read_nuswide(directory: str | os.PathLike[str], concepts: int = 21) -> RawAnnotations:
    """Reads NUS-WIDE and keeps its commonest concepts and the images that have one of them.

    Chua et al., "NUS-WIDE: A Real-World Web Image Database from National University of
    Singapore" (CIVR 2009): `ImageList/Imagelist.txt` names 269,648 images, and each of the 81
    files `Groundtruth/AllLabels/Labels_<concept>.txt` has a 0 or 1 for every one of them.
    Classes are ordered by name, as are concepts with equally many images; images keep their order.
    """
    root = existing_folder(directory)
    roots = [root / name for name in _NUSWIDE_ROOTS]
    image_list = first_existing(
        roots, _IMAGE_LISTS, Path.is_file, "NUS-WIDE's image list (ImageList.zip)"
    )
    folder = first_existing(
        roots, _LABEL_FOLDERS, _concept_files, "NUS-WIDE's label files (Groundtruth.zip)"
    )
    names = _concept_names(roots, folder)
    paths = _read_image_list(image_list)
    columns = np.empty((len(names), len(paths)), np.uint8)
    with Progress("reading labels", len(names), "files") as told:
        for i, name in enumerate(names):
            columns[i] = _read_bits(folder / f"Labels_{name}.txt", len(paths), image_list)
            told.update(1)
    order = sorted(
        range(len(names)), key=lambda i: (-int(columns[i].sum(dtype=np.int64)), names[i])
    )
    chosen = sorted(order[:concepts], key=names.__getitem__)
    labels = columns[chosen].T
    kept = np.flatnonzero(labels.any(axis=1))
    notes = total_note("listed", len(paths), NUSWIDE_IMAGES)
    if concepts == 21:
        notes += total_note("with one of the 21 commonest concepts", len(kept), NUSWIDE_21_IMAGES)
    return RawAnnotations(
        paths=[paths[i] for i in kept],
        labels=np.ascontiguousarray(labels[kept]),
        class_names=tuple(names[i] for i in chosen),
        notes=notes,
    )


def _concept_files(folder: Path) -> list[str]:
    """Concepts that have a file for all images, those of TrainTestLabels left out."""
    stems = [path.stem.removeprefix("Labels_") for path in folder.glob("Labels_*.txt")]
    return sorted(stem for stem in stems if not stem.endswith(("_Train", "_Test")))


def _concept_names(roots: Sequence[Path], folder: Path) -> list[str]:
    found = _concept_files(folder)
    lists = (root / name for root in roots for name in _CONCEPT_LISTS)
    concepts_file = next((path for path in lists if path.is_file()), None)
    if concepts_file is not None:
        listed = sorted({text for line in read_lines(concepts_file) if (text := line.strip())})
        missing = [name for name in listed if name not in found]
        if missing:
            raise DataError(
                f"{folder} has no Labels_NAME.txt for {shortened(missing)}, which {concepts_file} "
                "lists; unpack Groundtruth.zip again"
            )
        found = listed
    # One file too few could change which concepts are the commonest, unnoticed.
    if len(found) != NUSWIDE_CONCEPTS:
        raise DataError(
            f"{concepts_file or folder} has {len(found)} concepts, NUS-WIDE has "
            f"{NUSWIDE_CONCEPTS}; unpack Groundtruth.zip again, into an empty folder"
        )
    return found


def _read_image_list(file: Path) -> list[str]:
    paths = [line.strip().replace("\\", "/") for line in read_lines(file)]
    for number, path in enumerate(paths, 1):
        if not path or path[0] == "/" or path[1:2] == ":" or ".." in path.split("/"):
            raise DataError(
                f"{file}:{number}: {path!r} is not a path inside the image folder, such as "
                r"actor\0001_2124494179.jpg"
            )
    repeated = first_repeat(paths)
    if repeated is not None:
        raise DataError(f"{file}:{repeated + 1}: {paths[repeated]!r} is listed twice")
    return paths


def _read_bits(file: Path, count: int, image_list: Path) -> np.ndarray:
    """uint8 [count] from a file of one 0 or 1 a line."""
    data = read_bytes(file).replace(b"\r\n", b"\n").translate(None, b" \t")
    packed = np.frombuffer(data.rstrip() + b"\n", np.uint8)
    bits = packed[::2] - _ZERO
    if len(packed) % 2 or (packed[1::2] != _NEWLINE).any() or (bits > 1).any():
        lines = enumerate(data.split(b"\n"), 1)
        number, line = next((n, line) for n, line in lines if line not in (b"0", b"1"))
        raise DataError(
            f"{file}:{number}: {line[:40].decode('latin1')!r} where a single 0 or 1 is expected"
        )
    if len(bits) != count:
        raise DataError(
            f"{file}:{min(len(bits), count) + 1}: there are {len(bits)} lines, but {count} images "
            f"in {image_list}; both must come from the same release"
        )
    return bits
