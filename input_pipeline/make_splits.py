"""Draws the list files of one data set from its raw annotations: the same files everywhere.

Writes train.txt, test.txt (the queries) and database.txt in the format of HashNet and DeepHash,
classes.txt (a name a line, in the order of the labels) and summary.json (counts, overlaps,
SHA-256). The same seed gives the same bytes on every machine.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from input_pipeline.annotations.annotation_files import RawAnnotations
from input_pipeline.annotations.raw_annotations import read_mirflickr, read_voc2012
from input_pipeline.annotations.raw_nuswide import read_nuswide
from input_pipeline.commands import (
    add_database_option,
    local_path,
    make_parser,
    positive,
    run_command,
    seed,
)
from input_pipeline.dataset import one_hot
from input_pipeline.lists.split_files import OUTPUTS, DrawnSplits, table, write_splits
from input_pipeline.lists.split_rules import generator_splits, permutation_splits
from input_pipeline.messages import ensure_utf8, one_line, shortened
from input_pipeline.sets.folders import scan_folder
from input_pipeline.splits import class_splits

# The sizes that the literature draws for mirflickr and voc2012.
NUM_TRAIN, NUM_QUERY = 4_000, 1_000

_EXAMPLES = """\
  python -m input_pipeline.make_splits nuswide_21 --raw NUS-WIDE --out lists/nuswide_21
  python -m input_pipeline.make_splits folder --raw photographs --out lists/photographs \\
      --train_per_class 20 --query_per_class 5 --database train_and_rest
"""


def draw_nuswide_21(options: argparse.Namespace) -> DrawnSplits:
    """The 21 commonest concepts, 500 training images and 100 queries each."""
    raw = read_nuswide(options.raw)
    splits = generator_splits(raw.labels, options.seed, class_names=raw.class_names)
    return DrawnSplits("nuswide_21", options.seed, raw, splits)


def draw_mirflickr(options: argparse.Namespace) -> DrawnSplits:
    """4,000 training images, 1,000 queries, 20,000 in the database."""
    raw = read_mirflickr(options.raw)
    splits = permutation_splits(len(raw.paths), options.seed, NUM_TRAIN, NUM_QUERY)
    return DrawnSplits("mirflickr", options.seed, raw, splits)


def draw_voc2012(options: argparse.Namespace) -> DrawnSplits:
    """4,000 training images, 1,000 queries, 6,540 in the database."""
    raw = read_voc2012(options.raw)
    splits = permutation_splits(len(raw.paths), options.seed, NUM_TRAIN, NUM_QUERY)
    return DrawnSplits("voc2012", options.seed, raw, splits)


def draw_folder(options: argparse.Namespace) -> DrawnSplits:
    """The same number of training images and queries from every subfolder."""
    images = scan_folder(options.raw)
    train, query = options.train_per_class, options.query_per_class
    counts = np.bincount(images.class_ids, minlength=len(images.class_names))
    short = [
        f"{one_line(name)} ({n})"
        for name, n in zip(images.class_names, counts, strict=True)
        if n < train + query
    ]
    if short:
        raise ValueError(
            f"{train + query} images a class are needed ({train} training images + {query} "
            f"queries), but there are fewer in: {shortened(short)}. Use smaller numbers, add "
            "images, or move these folders away"
        )
    splits = class_splits(images.class_ids, options.seed, query, train, options.database)
    ignored = _not_ours(images.ignored, options.raw, options.out)
    note = f"{len(ignored)} files or folders were ignored: {shortened(ignored)}"
    labels = one_hot(images.class_ids, len(images.class_names))
    notes = (note,) if ignored else ()
    raw = RawAnnotations(images.names, labels, images.class_names, notes)
    return DrawnSplits("folder", options.seed, raw, splits)


def _not_ours(ignored: Sequence[str], raw: Path, out: Path) -> list[str]:
    """`ignored` without what this program itself wrote before, if that lies inside `raw`."""
    below = Path(os.path.relpath(out.resolve(), raw.resolve())).as_posix()
    ours = {f"{below}/", *((Path(below) / name).as_posix() for name in OUTPUTS)}
    return [name for name in ignored if name not in ours]


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("input_pipeline.make_splits", __doc__, _EXAMPLES)
    sets = parser.add_subparsers(dest="data_set", required=True, metavar="DATA_SET")
    draws: dict[str, tuple[Callable[[argparse.Namespace], DrawnSplits], str]] = {
        "nuswide_21": (draw_nuswide_21, "the unpacked ImageList.zip and Groundtruth.zip"),
        "mirflickr": (draw_mirflickr, "the unpacked mirflickr25k_annotations_v080.zip"),
        "voc2012": (draw_voc2012, "the folder VOC2012 or VOCdevkit"),
        "folder": (draw_folder, "a folder with one subfolder of images a class"),
    }
    for name, (draw, raw) in draws.items():
        rule = (draw.__doc__ or "").rstrip(".")
        one = sets.add_parser(name, help=rule, description=f"{rule}.")
        one.set_defaults(draw=draw)
        one.add_argument("--raw", type=local_path, required=True, metavar="DIR", help=raw)
        one.add_argument(
            "--out", type=local_path, required=True, metavar="DIR", help="where the files go"
        )
        one.add_argument("--seed", type=seed, default=0, help="0 or more (default 0)")
        one.add_argument("--overwrite", action="store_true", help="replace files that differ")
    folder = sets.choices["folder"]
    folder.add_argument(
        "--train_per_class", type=positive, required=True, metavar="N", help="training images"
    )
    folder.add_argument(
        "--query_per_class", type=positive, required=True, metavar="N", help="queries"
    )
    add_database_option(folder)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _parser().parse_args(arguments)

    def work() -> str:
        summary = write_splits(options.draw(options), options.out, options.overwrite)
        return f"{table(summary)}\nwrote {', '.join(OUTPUTS)} into {options.out}"

    return run_command(work, "nothing was written")


if __name__ == "__main__":
    ensure_utf8()
    sys.exit(main())
