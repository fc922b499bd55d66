"""Writes drawn splits as list files, with a summary of what is in them."""

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from input_pipeline.annotations.annotation_files import RawAnnotations
from input_pipeline.errors import DataError
from input_pipeline.lists.label_lists import write_list
from input_pipeline.lists.listed import LIST_FILES
from input_pipeline.messages import one_line
from input_pipeline.splits import Splits

CLASSES, SUMMARY = "classes.txt", "summary.json"
OUTPUTS = (*LIST_FILES.values(), CLASSES, SUMMARY)


@dataclass(frozen=True, eq=False)
class DrawnSplits:
    """What is written: a data set's name, the seed, its images, and rows of them."""

    data_set: str
    seed: int
    raw: RawAnnotations
    splits: Splits


def summarize(drawn: DrawnSplits, sha256: str) -> dict[str, Any]:
    """Counts per split and class, overlaps and unlabelled images, as plain JSON values."""
    rows = drawn.splits.by_name()
    pairs = (("train", "query"), ("train", "database"), ("query", "database"))
    return {
        "data_set": drawn.data_set,
        "seed": drawn.seed,
        "images": len(drawn.raw.paths),
        "classes": len(drawn.raw.class_names),
        "splits": {name: _count(drawn.raw, LIST_FILES[name], part) for name, part in rows.items()},
        "overlaps": {f"{a}_{b}": len(np.intersect1d(rows[a], rows[b])) for a, b in pairs},
        "sha256": sha256,
        "notes": list(drawn.raw.notes),
    }


def _count(raw: RawAnnotations, file: str, rows: np.ndarray) -> dict[str, Any]:
    labels = raw.labels[rows]
    counts = labels.sum(axis=0, dtype=np.int64).tolist()
    return {
        "file": file,
        "images": len(rows),
        "unlabelled": int((~labels.any(axis=1)).sum()),
        "per_class": dict(zip(raw.class_names, counts, strict=True)),
    }


def table(summary: dict[str, Any]) -> str:
    """The summary as text: a line a class, then the totals and what is worth knowing."""
    splits = summary["splits"]
    lines = [[summary["data_set"], *splits]]
    lines += [
        [one_line(name), *(f"{splits[split]['per_class'][name]:,}" for split in splits)]
        for name in splits["train"]["per_class"]
    ]
    for total in ("images", "unlabelled"):
        lines.append([f"[{total}]", *(f"{splits[split][total]:,}" for split in splits)])
    width = max(len(line[0]) for line in lines)
    text = [f"{line[0]:<{width}}" + "".join(f"{cell:>12}" for cell in line[1:]) for line in lines]
    overlaps = (
        f"{count:,} in {pair.replace('_', ' and ')}" for pair, count in summary["overlaps"].items()
    )
    text.append(f"in two splits: {', '.join(overlaps)}")
    text.append(f"SHA-256 of {' + '.join(LIST_FILES.values())}: {summary['sha256']}")
    text.append(f"seed: {summary['seed']}")
    return "\n".join([*text, *(f"note: {note}" for note in summary["notes"])])


def write_splits(drawn: DrawnSplits, out: Path, overwrite: bool) -> dict[str, Any]:
    """Writes the five files into the folder `out`; returns the summary.

    All are made before the first is moved to its place, the summary last, whose SHA-256 is that of
    its lists: one that is killed in between may leave new lists beside older ones, and again with
    `overwrite` replaces the rest. DataError for files that differ without it, or a name that no
    list can hold.
    """
    _check_writable(drawn)
    existed = out.is_dir()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".make_splits_", dir=out) as name:
            staging = Path(name)
            summary = _stage(drawn, staging)
            different = [name for name in OUTPUTS if _other(out / name, staging / name)]
            if different and not overwrite:
                raise DataError(
                    f"{out} already has other files of the name {', '.join(different)}; choose "
                    "another --out, or replace them with --overwrite"
                )
            for name in OUTPUTS:
                os.replace(staging / name, out / name)
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):
                out.rmdir()
        raise
    return summary


def _check_writable(drawn: DrawnSplits) -> None:
    for split, rows in drawn.splits.by_name().items():
        if not len(rows):
            raise ValueError(
                f"no image is left for {split}; use smaller numbers a class, or another --database"
            )
    for name in (*drawn.raw.class_names, *drawn.raw.paths):
        if "\n" in name or "\r" in name:
            raise DataError(f"{name!r} has a line break in its name; rename it")


def _stage(drawn: DrawnSplits, folder: Path) -> dict[str, Any]:
    raw, digest = drawn.raw, hashlib.sha256()
    for rows, file in zip(drawn.splits.by_name().values(), LIST_FILES.values(), strict=True):
        write_list(folder / file, [raw.paths[row] for row in rows], raw.labels[rows])
        digest.update((folder / file).read_bytes())
    (folder / CLASSES).write_bytes("".join(f"{x}\n" for x in raw.class_names).encode())
    summary = summarize(drawn, digest.hexdigest())
    text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    (folder / SUMMARY).write_bytes(text.encode())
    return summary


def _other(old: Path, new: Path) -> bool:
    return old.exists() and old.read_bytes() != new.read_bytes()
