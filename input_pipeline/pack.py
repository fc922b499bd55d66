"""Packs a data set of image files into a few large files, which disks and buckets read faster.

The result, OUT/NAME/1.0.0, holds ArrayRecord shards, the lists and TFDS's metadata, and is used
with --config.data.source=packed or by tfds.data_source; TensorFlow is not needed. A pack that was
stopped goes on where it was when the same command is given again, and ends with the same bytes.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from input_pipeline.commands import (
    add_database_option,
    add_decoding_options,
    add_list_options,
    check_image_folder,
    expanded,
    make_parser,
    positive,
    run_command,
    seed,
)
from input_pipeline.dataset import Dataset
from input_pipeline.datasets import unused_fields
from input_pipeline.errors import DataError
from input_pipeline.images.decode import MAX_PIXELS, DecodeOptions
from input_pipeline.images.encoded import EncodedImages
from input_pipeline.images.unreadable import ON_UNREADABLE
from input_pipeline.lists.folder_splits import FolderSplits
from input_pipeline.lists.listed import LIST_FILES
from input_pipeline.messages import ensure_utf8, shortened
from input_pipeline.packed.packing import PackingSummary, pack_images
from input_pipeline.packed.records import PACKING_FILE
from input_pipeline.progress import Progress
from input_pipeline.sets.image_sets import (
    ListFiles,
    load_class_folders,
    load_folder,
    load_lists,
)
from input_pipeline.splits import LIST_PROTOCOLS

_EXAMPLES = """\
  python -m input_pipeline.pack --name coco --dir COCO --lists COCO/lists --out packed --resize 256
  python -m input_pipeline.pack --name my_photos --dir photos --folder --out packed \\
      --train_per_class 20 --query_per_class 5
"""
_SHOWN = 20


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("input_pipeline.pack", __doc__, _EXAMPLES)
    add = parser.add_argument
    add(
        "--dir",
        type=expanded,
        required=True,
        metavar="IMAGES",
        help="folder that the images are in",
    )
    add(
        "--name",
        required=True,
        help=f"lower-case letters, digits and _; {', '.join(LIST_PROTOCOLS)}: the sizes of the "
        "lists are checked",
    )
    add("--out", type=expanded, required=True, help="folder for packed data sets")
    add_list_options(parser.add_argument_group("three list files (the default)"))
    folder = parser.add_argument_group("a folder with one subfolder a class")
    kinds = folder.add_mutually_exclusive_group()
    kinds.add_argument("--folder", action="store_true", help="draw the splits from subfolders")
    kinds.add_argument(
        "--class_folders",
        action="store_true",
        help="for classification: train and val, each with a subfolder a class, as ImageNet has "
        "them, or one folder, of which --query_per_class images a class are for validation",
    )
    folder.add_argument("--train_per_class", type=positive, help="default half of each")
    folder.add_argument("--query_per_class", type=positive, help="default a tenth of each")
    add_database_option(folder)
    folder.add_argument("--seed", type=seed, default=0, help="0 or more (default 0)")
    written = parser.add_argument_group("what is written")
    add = written.add_argument
    add("--resize", type=int, metavar="PX", help="bring the shorter side to this; default: keep")
    add("--quality", type=int, help="JPEG quality of resized images (default 92)")
    add("--images_per_shard", type=int, default=2048, help="default 2048")
    add(
        "--on_unreadable",
        choices=ON_UNREADABLE,
        default="error",
        help="error: find all unreadable images, then stop; skip: leave them out and say so",
    )
    add("--apply_orientation", action="store_true", help="turn resized images as EXIF says")
    add_decoding_options(written)
    return parser


def _load(options: argparse.Namespace) -> Dataset:
    """The data set; errors name this command's options, not those of a run."""
    check_image_folder(options.dir)
    try:
        return _load_images(options)
    except (DataError, ValueError) as error:
        text = str(error).replace("--config.data.name=class_folders", "--class_folders")
        if "no such list file" in text:
            text += "; for a folder with a subfolder a class give --folder"
        raise type(error)(text.replace("--config.data.", "--")) from error


def _load_images(options: argparse.Namespace) -> Dataset:
    if options.class_folders:
        return load_class_folders(options.dir, options.seed, options.query_per_class)
    if options.folder:
        rules = FolderSplits(options.query_per_class, options.train_per_class, options.database)
        return load_folder(options.dir, options.seed, rules)
    names = (options.train_list, options.query_list, options.database_list)
    name = options.name if options.name in LIST_PROTOCOLS else "lists"
    return load_lists(name, options.dir, ListFiles(options.lists, *names))


def _pack(options: argparse.Namespace) -> PackingSummary:
    data = _load(options)
    images = data.images
    assert isinstance(images, EncodedImages)
    total = len(np.unique(np.concatenate(list(data.splits.by_name().values()))))
    with Progress("packing", total) as told:
        return pack_images(
            images.names,
            data.labels,
            data.splits,
            images.reader.read,
            Path(options.out),
            name=options.name,
            class_names=data.class_names,
            resize=options.resize,
            quality=92 if options.quality is None else options.quality,
            images_per_shard=options.images_per_shard,
            num_workers=options.num_workers,
            options=DecodeOptions(
                options.allow_truncated, options.max_pixels, options.apply_orientation
            ),
            on_unreadable=options.on_unreadable,
            progress=told.update,
        )


def _report(summary: PackingSummary, options: argparse.Namespace) -> str:
    written = f"{summary.num_images:,} images, {summary.num_bytes:,} bytes"
    shards = f"shards: {summary.num_shards}, of which {summary.reused_shards} were there"
    lines = [f"{written}, {shards}; {summary.seconds:.1f} s"]
    if not summary.reused_shards:
        lines[0] += f", {summary.num_images / summary.seconds:,.0f} images/s"
    if summary.left_out:
        counts = (
            f"{sum(split in splits for *_, splits in summary.left_out)} {split}"
            for split in LIST_FILES
        )
        lines.append(
            f"left out: {len(summary.left_out)} unreadable images ({', '.join(counts)}), see "
            f"{summary.directory / PACKING_FILE}; results are those of the remaining images"
        )
        reasons = [f"{name}: {reason}" for name, reason, _ in summary.left_out]
        lines.append("  " + shortened(reasons, _SHOWN, "\n  "))
    lines += [
        f"packed into {summary.directory}; to train from it:",
        f"  {_command(summary, options)}",
    ]
    return "\n".join(lines)


def _command(summary: PackingSummary, options: argparse.Namespace) -> str:
    config = options.name if options.name in LIST_PROTOCOLS else "lists"
    if options.folder or options.class_folders:
        config = "folder" if options.folder else "pretrain_imagenet"
    words = [
        f"python main.py --config=configs/{config}.py",
        f"--workdir=runs/{options.name} --config.data.source=packed",
        shlex.quote(f"--config.data.dir={summary.directory}"),
    ]
    if options.resize is not None:
        words.append(f"--config.data.resize={options.resize}")
    if options.max_pixels != MAX_PIXELS:
        words.append(f"--config.data.max_pixels={options.max_pixels}")
    for flag in ("allow_truncated", "apply_orientation"):
        if getattr(options, flag):
            words.append(f"--config.data.{flag}=True")
    return " ".join(words)


def _check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses options that would be ignored."""
    kind = "folder" if options.folder else "class_folders" if options.class_folders else "lists"
    unused = [*unused_fields(kind, "files"), *(["seed"] if kind == "lists" else [])]
    given = [x for x in unused if getattr(options, x, None) != parser.get_default(x)]
    if flags := ", ".join(f"--{name}" for name in given):
        if kind == "lists":
            parser.error(f"{flags}: lists are splits already; leave this out, or give --folder")
        parser.error(f"{flags}: this means nothing with --{kind}; leave it out")
    if options.quality is not None and options.resize is None:
        parser.error("--quality is that of resized images, so it needs --resize")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check_options(parser, options)
    return run_command(
        lambda: _report(_pack(options), options),
        "the same command goes on from the last complete shard",
    )


if __name__ == "__main__":
    ensure_utf8()
    sys.exit(main())
