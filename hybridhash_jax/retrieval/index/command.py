"""`hybridhash index`: tells, verifies, merges and compacts indexes, and removes images from one."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hybridhash_jax.retrieval.index.errors import IndexFileError
from hybridhash_jax.retrieval.index.maintenance import compact, merge, move
from hybridhash_jax.retrieval.index.report import Description, describe, notices, verify
from hybridhash_jax.retrieval.index.writer import open_writer
from hybridhash_jax.retrieval.names import listed, shown, shown_label
from input_pipeline.commands import Parser, expanded, run_command
from input_pipeline.messages import counted, shortened

_EXAMPLES = """\
examples:
  hybridhash index info pictures.idx
  hybridhash index verify pictures.idx
  hybridhash index remove pictures.idx 2024/beach.jpg --where path=drafts/*
  hybridhash index merge part1.idx part2.idx --out=all.idx
  hybridhash index move pictures.idx ~/NewPictures
  hybridhash index compact pictures.idx
"""
_LABELS_SHOWN, _MANY_SEGMENTS = 20, 1000
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def main(arguments: Sequence[str]) -> int:
    """Runs what the command line asks for; returns the exit code, 1 where `verify` finds damage."""
    options = _parser().parse_args(list(arguments))
    code = run_command(lambda: options.work(options), "the index is as it was before or complete")
    return code or int(options.found)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="hybridhash index",
        description="Tells, verifies, merges or compacts an index, or removes images from it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(found=False)
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(
        name: str, work: Callable[[argparse.Namespace], str], sentence: str, example: str
    ) -> argparse.ArgumentParser:
        verb = verbs.add_parser(
            name,
            help=sentence,
            description=sentence,
            epilog=f"example:\n  hybridhash index {name} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.set_defaults(work=work)
        return verb

    info = add("info", _info, "Tells what an index holds.", "pictures.idx")
    info.add_argument("index", metavar="INDEX")
    info.add_argument("--json", action="store_true", help="print JSON instead of text")
    check = add("verify", _verify, "Reads all of an index to find damage.", "pictures.idx")
    check.add_argument("index", metavar="INDEX")
    _add_remove(add("remove", _remove, "Forgets images; their files stay.", "pictures.idx a.jpg"))
    joined = add(
        "merge", _merge, "Joins indexes of one model into a new one.", "a.idx b.idx --out=all.idx"
    )
    joined.add_argument("indexes", nargs="+", metavar="INDEX", help="the last one's paths win")
    joined.add_argument("--out", required=True, metavar="INDEX", help="the new one")
    joined.add_argument("--root", metavar="FOLDER", help="that of the images, if they differ")
    moved = add("move", _move, "Notes where the images are now.", "pictures.idx ~/NewPictures")
    moved.add_argument("index", metavar="INDEX")
    moved.add_argument("root", metavar="FOLDER", help="the folder that its paths start from")
    small = add("compact", _compact, "Drops what is gone; few large segments.", "pictures.idx")
    small.add_argument("index", metavar="INDEX")
    small.add_argument(
        "--drop_damaged", action="store_true", help="go on without what damaged segments held"
    )
    return parser


def _add_remove(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("index", metavar="INDEX")
    add("paths", nargs="*", metavar="PATH", help="of an image, relative to the index's root")
    add(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="images that fulfil all of these, such as label=cat path=2024/*",
    )
    add(
        "--list",
        type=expanded,
        metavar="FILE",
        help="of paths, one a line or a NUL between; - is standard input",
    )


def _info(options: argparse.Namespace) -> str:
    facts = describe(options.index)
    return json.dumps(_as_json(facts), indent=2, sort_keys=True) if options.json else _text(facts)


def _as_json(facts: Description) -> dict[str, object]:
    content = {**dataclasses.asdict(facts)}
    return {**content, "model": {**content["model"], "source": dict(facts.model.source)}}


def _text(facts: Description) -> str:
    model = facts.model
    lines = [
        f"{shown(facts.path)}: {counted(facts.images, 'image')}, {model.bits} bits",
        f"  model       {model.name}, fingerprint {model.fingerprint[:12]}",
        f"  encoded in  {model.dtype} on {model.backend}",
        f"  root        {'none' if facts.root is None else shown(facts.root)}",
        f"  on disk     {_sizes(facts)}",
        f"  rows        {facts.images:,} searched, {facts.tombstones:,} gone, in "
        f"{counted(facts.segments, 'segment')}; generation {facts.generation}",
        f"  labels      {_labels(facts)}",
    ]
    for other in facts.backends:
        total = int(other["images"]) * model.bits
        lines.append(
            f"  elsewhere   {other['dtype']} on {other['backend']}: {other['differing_bits']:,} of "
            f"{total:,} bits of {other['images']} sample images differ"
        )
    if facts.segments > _MANY_SEGMENTS:
        lines.append(f"  advice      `hybridhash index compact {shown(facts.path)}` opens faster")
    lines += [
        f"  DAMAGED     segments/{name}; the rest is searched. Encode the images again"
        for name in facts.damaged
    ]
    return "\n".join(lines)


def _sizes(facts: Description) -> str:
    parts = [f"{what} {_size(count)}" for what, count in facts.bytes.items() if count]
    return ", ".join([f"{_size(facts.bytes['total'])}", *(p for p in parts if "total" not in p)])


def _size(count: float) -> str:
    unit = 0
    while count >= 1000 and unit + 1 < len(_UNITS):
        count, unit = count / 1000, unit + 1
    return (
        f"{count:.0f} {_UNITS[unit]}" if count >= 10 or not unit else f"{count:.1f} {_UNITS[unit]}"
    )


def _labels(facts: Description) -> str:
    largest = sorted(facts.labels.items(), key=lambda item: (-item[1], item[0]))
    names = [f"{shown_label(name) or '(none)'} {count:,}" for name, count in largest]
    return shortened(names, _LABELS_SHOWN) or "none"


def _verify(options: argparse.Namespace) -> str:
    problems = verify(options.index)
    options.found = bool(problems)
    lines = problems or [f"{shown(options.index)} is whole"]
    return "\n".join([*lines, *notices(options.index)])


def _remove(options: argparse.Namespace) -> str:
    paths = [os.fsencode(path) for path in options.paths]
    if options.list:
        paths += _listed(options.list)
    if not (paths or options.where):
        raise IndexFileError("nothing to remove; give paths, --list or --where label=...")
    with open_writer(options.index) as writer:
        index = writer.index
        if options.where:
            rows = index.matching([_condition(text) for text in options.where]).nonzero()[0]
            paths += [entry.path for entry in index.entries(rows)]
        missing = [shown(path) for path in paths if index.row_of(path) is None]
        count = writer.remove(paths)
    if not count:
        raise IndexFileError(f"{shown(options.index)} has none of these images; nothing changed")
    text = f"removed {counted(count, 'image')}; their files were not touched"
    return f"{text}. Not in the index: {shortened(missing)}" if missing else text


def _listed(file: str) -> list[bytes]:
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    return [path for path in listed(data) if path]


def _condition(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise IndexFileError(f"--where takes KEY=VALUE such as label=cat, not {text!r}")
    return key, value


def _merge(options: argparse.Namespace) -> str:
    for warning in merge(options.indexes, options.out, options.root and Path(options.root)):
        print(f"warning: {warning}", file=sys.stderr)
    facts = describe(options.out)
    return f"{shown(options.out)}: {counted(facts.images, 'image')}"


def _move(options: argparse.Namespace) -> str:
    move(options.index, Path(options.root))
    return f"the images of {shown(options.index)} are below {shown(options.root)}"


def _compact(options: argparse.Namespace) -> str:
    before = describe(options.index)
    compact(options.index, drop_damaged=options.drop_damaged)
    after = describe(options.index)
    return (
        f"{shown(options.index)}: {counted(after.images, 'image')}, {_size(after.bytes['total'])} "
        f"on the disk ({_size(before.bytes['total'])} before)"
    )
