"""Makes small data sets in the form in which their publishers ship the annotations."""

from pathlib import Path

import numpy as np

from input_pipeline.annotations.raw_annotations import MIRFLICKR_CLASSES, VOC2012_CLASSES
from input_pipeline.permutation import permutation

CONCEPTS = tuple(f"concept{i:02d}" for i in range(81))


def random_bits(n: int, percents: list[int], key: int = 7) -> np.ndarray:
    """uint8 [n, len(percents)]; column c is 1 in about percents[c] of 100 rows."""
    words = np.random.Philox(key=key).random_raw(n * len(percents)).reshape(n, -1)
    return (words % 100 < np.array(percents, np.uint64)).astype(np.uint8)


def make_nuswide(root: Path, labels: np.ndarray, line_end: bytes = b"\n") -> list[str]:
    """Writes `labels` (uint8 [N, 81]) as NUS-WIDE's files; returns the paths of the images."""
    folder = root / "Groundtruth" / "AllLabels"
    folder.mkdir(parents=True)
    for column, name in enumerate(CONCEPTS):
        lines = [b"%d" % bit + line_end for bit in labels[:, column].tolist()]
        (folder / f"Labels_{name}.txt").write_bytes(b"".join(lines))
    names = [f"actor\\{i:04d}_{i * 7919}.jpg" for i in range(len(labels))]
    (root / "ImageList").mkdir()
    text = "".join(f"{name}{line_end.decode()}" for name in names)
    (root / "ImageList" / "Imagelist.txt").write_bytes(text.encode())
    return [name.replace("\\", "/") for name in names]


def make_mirflickr(folder: Path, sizes: int = 2_000) -> dict[str, list[int]]:
    """Writes 38 files of `sizes` image numbers; returns the numbers by class."""
    folder.mkdir(parents=True)
    numbers = {
        name: sorted((permutation(25_000, 7, i)[:sizes] + 1).tolist())
        for i, name in enumerate(MIRFLICKR_CLASSES)
    }
    for name, chosen in numbers.items():
        (folder / f"{name}.txt").write_text("".join(f"{number}\n" for number in chosen))
    (folder / "README.txt").write_text("MIRFLICKR-25000 annotations\n")
    return numbers


def make_voc2012(folder: Path, values: np.ndarray) -> list[str]:
    """Writes `values` (int [N, 20] of -1, 0, 1) as VOC's files; returns the names of the images."""
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True)
    ids = [f"{2008 + i % 5}_{i:06d}" for i in range(len(values))]
    for name, column in zip(VOC2012_CLASSES, values.T, strict=True):
        lines = (f"{i} {value:2d}\n" for i, value in zip(ids, column.tolist(), strict=True))
        (main / f"{name}_trainval.txt").write_text("".join(lines))
    return ids
