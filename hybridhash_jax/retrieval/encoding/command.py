"""Encodes a folder of images into an index, with a trained network or without labels.

What is in the index and did not change is not encoded again, so the same command goes on where it
was stopped, and later takes up what is new.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from hybridhash_jax.retrieval.encoding import folder
from hybridhash_jax.retrieval.encoding.request import Request
from input_pipeline.commands import given, local_path, make_parser, run_command
from input_pipeline.images.decode import MAX_PIXELS
from input_pipeline.threads import available_cores

_EXAMPLES = """\
  hybridhash encode ~/Pictures --index=pictures.idx
  hybridhash encode ~/Pictures --index=pictures.idx --workdir=runs/photos
  hybridhash encode ~/Pictures --index=pictures.idx --prune
  hybridhash encode ~/Pictures --index=part2.idx --shard=2/8 --workdir=runs/photos
  find . -name '*.jpg' -print0 | hybridhash encode - --index=some.idx"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("hybridhash_jax.retrieval.encode", __doc__, _EXAMPLES)
    parser.prog = "hybridhash encode"
    add = parser.add_argument
    add(
        "images",
        type=given,
        metavar="FOLDER|LIST|-",
        help="a folder, a file with a path a line, or - for such lines from standard input (also between NUL bytes)",
    )
    add(
        "--index",
        type=local_path,
        required=True,
        metavar="INDEX",
        help="the index, a folder; made if it is not there",
    )
    group = parser.add_argument_group(
        "what encodes; of an index that is there, what it was made with"
    )
    add = group.add_argument
    add(
        "--workdir",
        type=local_path,
        metavar="RUN",
        help="a trained run; without one, EfficientNet-Lite0 and ITQ",
    )
    add(
        "--checkpoint",
        metavar="WHICH",
        help="selected (as in its results, the default), latest, or a step",
    )
    add("--bits", type=int, metavar="K", help="code length without labels (default 64)")
    add(
        "--like",
        type=local_path,
        metavar="INDEX",
        help="the encoder of another index, so that the two can be merged",
    )
    add(
        "--seed",
        type=int,
        help="of the sample that codes without labels are fitted to (default 0)",
    )
    group = parser.add_argument_group("which images")
    add = group.add_argument
    add(
        "--root",
        type=local_path,
        metavar="FOLDER",
        help="what the paths of a list lie below (default: the list's folder; of -, here)",
    )
    add(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="I/N",
        help="part I of N of the images, from 1",
    )
    add("--prune", action="store_true", help="take images out of the index whose files are gone")
    add(
        "--retry", action="store_true", help="try those in unreadable.txt again that did not change"
    )
    add(
        "--max_pixels",
        type=int,
        metavar="N",
        help=f"refuse larger images (default {MAX_PIXELS}, or the run's)",
    )
    group = parser.add_argument_group("what else is kept, and how")
    add = group.add_argument
    add(
        "--no_hashes",
        action="store_true",
        help="no perceptual hashes, which duplicates are found by",
    )
    add("--no_thumbnails", action="store_true", help="no small pictures")
    add(
        "--num_workers",
        type=int,
        default=available_cores(),
        help="decoding threads; default: all cores",
    )
    return parser


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match and 1 <= int(match[1]) <= int(match[2]):
        return int(match[1]), int(match[2])
    raise argparse.ArgumentTypeError(f"{text!r}; accepted: I/N with I from 1 to N, such as 2/8")


def _request(options: argparse.Namespace) -> Request:
    return Request(
        images=options.images,
        index=options.index,
        workdir=options.workdir,
        checkpoint=options.checkpoint,
        bits=options.bits,
        like=options.like,
        seed=options.seed,
        root=options.root,
        shard=options.shard,
        prune=options.prune,
        retry=options.retry,
        max_pixels=options.max_pixels,
        hashes=not options.no_hashes,
        thumbnails=not options.no_thumbnails,
        num_workers=options.num_workers,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for name, least in (("bits", 1), ("max_pixels", 1), ("num_workers", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name}={value}; give {least} or more")
    if options.workdir and options.bits:
        parser.error("--bits is of codes without labels; a trained network has its own")
    if options.workdir and options.seed is not None:
        parser.error("--seed is of codes without labels; a trained network has nothing to draw")
    if options.like and (options.workdir or options.bits or options.seed is not None):
        parser.error("--like names the encoder; leave --workdir, --bits and --seed out")
    if options.checkpoint and not options.workdir:
        parser.error("--checkpoint is of a run: give its --workdir")
    return run_command(
        lambda: folder.encode(_request(options), lambda line: print(line, file=sys.stderr)),
        f"the same command goes on with what {os.fspath(options.index)} has, if it was begun",
    )


if __name__ == "__main__":
    sys.exit(main())
