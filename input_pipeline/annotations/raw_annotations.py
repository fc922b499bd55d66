"""Reads the annotations of MIRFlickr and PASCAL VOC 2012 as published, without opening an image."""

import os
import re
from pathlib import Path

import numpy as np

from input_pipeline.annotations.annotation_files import (
    RawAnnotations,
    existing_folder,
    first_existing,
    first_repeat,
    read_lines,
    total_note,
)
from input_pipeline.errors import DataError
from input_pipeline.messages import shortened

MIRFLICKR_IMAGES = 25_000
VOC2012_IMAGES = 11_540

# "_r1" marks the images in which the concept is not merely present but what they are about.
_MIRFLICKR_NAMES = """
animals baby baby_r1 bird bird_r1 car car_r1 clouds clouds_r1 dog dog_r1 female female_r1 flower
flower_r1 food indoor lake male male_r1 night night_r1 people people_r1 plant_life portrait
portrait_r1 river river_r1 sea sea_r1 sky structures sunset transport tree tree_r1 water
"""
_VOC2012_NAMES = """
aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
pottedplant sheep sofa train tvmonitor
"""
MIRFLICKR_CLASSES = tuple(_MIRFLICKR_NAMES.split())
VOC2012_CLASSES = tuple(_VOC2012_NAMES.split())

# Where the archives put things, in a folder of their own or unpacked on the spot.
_MIRFLICKR_FOLDERS = (
    "mirflickr25k_annotations_v080",
    ".",
    "annotations_v080",
    "annotations",
    "mirflickr/mirflickr25k_annotations_v080",
)
_VOC_LINE = re.compile(r"\s*(\w+)\s+(-1|0|1)\s*")
_VOC_FOLDERS = ("VOCdevkit/VOC2012", "VOC2012", ".")


def read_mirflickr(directory: str | os.PathLike[str]) -> RawAnnotations:
    """Reads the 38 annotation files of MIRFlickr-25k; images without a label are kept.

    Huiskes & Lew, "The MIR Flickr Retrieval Evaluation" (MIR 2008): each file lists the numbers
    1..25000 of the images that have its label, one a line. 24 files are potential labels, 14
    more (`_r1`) relevant ones. `directory` holds them or `mirflickr25k_annotations_v080`.

    Paths are `im1.jpg` and so on, behind `mirflickr/` if that folder lies beside the annotations.
    """
    root = existing_folder(directory)
    folder = first_existing(
        [root], _MIRFLICKR_FOLDERS, _has_mirflickr_files, "MIRFlickr's label files"
    )
    missing = [name for name in MIRFLICKR_CLASSES if not (folder / f"{name}.txt").is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {shortened(missing)} of MIRFlickr's {len(MIRFLICKR_CLASSES)} label "
            "files (NAME.txt); unpack mirflickr25k_annotations_v080.zip again"
        )
    labels = np.zeros((MIRFLICKR_IMAGES, len(MIRFLICKR_CLASSES)), np.uint8)
    for column, name in enumerate(MIRFLICKR_CLASSES):
        labels[_read_image_numbers(folder / f"{name}.txt") - 1, column] = 1
    beside = any((parent / "mirflickr").is_dir() for parent in (root, folder.parent))
    prefix = "mirflickr/" if beside else ""
    note = f"image paths are {prefix}im1.jpg and so on, in the folder to name as the images'"
    paths = [f"{prefix}im{number}.jpg" for number in range(1, MIRFLICKR_IMAGES + 1)]
    return RawAnnotations(paths, labels, MIRFLICKR_CLASSES, (note,))


def read_voc2012(directory: str | os.PathLike[str]) -> RawAnnotations:
    """Reads the image-level labels of PASCAL VOC 2012's 11,540 images for training and validation.

    Everingham et al., "The PASCAL Visual Object Classes Challenge 2012": a line of
    `ImageSets/Main/<class>_trainval.txt` is an image's name and 1 (has the class), -1 (has not)
    or 0 (has only objects marked as difficult), which counts as absent. `directory` is `VOC2012`,
    which paths are relative to, or contains `VOC2012` or `VOCdevkit/VOC2012`.
    """
    root = existing_folder(directory)
    main = first_existing(
        [root], [f"{x}/ImageSets/Main" for x in _VOC_FOLDERS], Path.is_dir, "VOC2012"
    )
    first = main / f"{VOC2012_CLASSES[0]}_trainval.txt"
    ids: list[str] = []
    columns = []
    for name in VOC2012_CLASSES:
        file = main / f"{name}_trainval.txt"
        here, values = _read_voc_class(file)
        ids = ids or here
        if here != ids:
            raise DataError(
                f"{file}:{len(os.path.commonprefix([here, ids])) + 1}: from here on the images are others "
                f"than in {first.name} ({len(here)} and {len(ids)} lines); unpack the archive again"
            )
        columns.append(values)
    repeated = first_repeat(ids)
    if repeated is not None:
        raise DataError(f"{first}:{repeated + 1}: image {ids[repeated]!r} is listed twice")
    values = np.array(columns, np.int8).T
    notes = total_note("listed", len(ids), VOC2012_IMAGES)
    difficult = int((values == 0).sum())
    if difficult:
        notes += (f"{difficult:,} labels are of difficult objects only (0): counted as absent",)
    labels = np.ascontiguousarray(values == 1).astype(np.uint8)
    return RawAnnotations([f"JPEGImages/{i}.jpg" for i in ids], labels, VOC2012_CLASSES, notes)


def _has_mirflickr_files(folder: Path) -> bool:
    return any((folder / f"{name}.txt").is_file() for name in MIRFLICKR_CLASSES)


def _read_image_numbers(file: Path) -> np.ndarray:
    numbers = []
    for number, line in enumerate(read_lines(file), 1):
        text = line.strip()
        if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MIRFLICKR_IMAGES:
            raise DataError(
                f"{file}:{number}: {line[:40]!r} is not an image number 1..{MIRFLICKR_IMAGES}"
            )
        numbers.append(int(text))
    return np.array(numbers, np.int64)


def _read_voc_class(file: Path) -> tuple[list[str], list[int]]:
    ids, values = [], []
    for number, line in enumerate(read_lines(file), 1):
        match = _VOC_LINE.fullmatch(line)
        if match is None:
            raise DataError(
                f"{file}:{number}: {line[:40]!r} is not an image name and -1, 0 or 1, such as "
                "'2008_000002 -1'"
            )
        ids.append(match[1])
        values.append(int(match[2]))
    return ids, values
