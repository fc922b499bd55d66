"""Finds images that are nearly the same, in a folder or an index; deletes nothing.

Copies of other sizes, formats, colours and quality, with --view=dihedral also mirrored and turned
ones, with --view=multi also crops and slight rotations. Every group can be looked at side by side
with --html, and accepted, so that it is not shown again.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from hybridhash_jax.retrieval import outputs
from hybridhash_jax.retrieval.duplicates.accepted import Accepted, default_file
from hybridhash_jax.retrieval.duplicates.output import as_bytes, as_text, summary
from hybridhash_jax.retrieval.duplicates.results import Results
from hybridhash_jax.retrieval.duplicates.sources import Source, read_source
from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.retrieval.outputs import FORMATS, print_exactly
from input_pipeline.atomic_file import write_atomically
from input_pipeline.commands import expanded, given, local_path, make_parser, run_command
from input_pipeline.images.decode import MAX_PIXELS, DecodeOptions
from input_pipeline.messages import counted
from input_pipeline.near_duplicates.finding import (
    RADIUS,
    SIMILARITY,
    Options,
    near_duplicates,
    work,
)
from input_pipeline.near_duplicates.views import VIEWS
from input_pipeline.progress import Progress
from input_pipeline.threads import available_cores

_FOUND = 3  # exit code of --fail_if_found
_MOST_BITS = 20  # beyond it nearly all pairs are candidates
_EXAMPLES = """\
  hybridhash duplicates ~/Pictures --html=duplicates.html
  hybridhash duplicates pictures.idx --view=dihedral --format=csv --output=duplicates.csv
  hybridhash duplicates queries --against=database --fail_if_found
  hybridhash duplicates ~/Pictures --accept=3f29c1aa,90b1d2e4
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _parse(arguments)
    num_groups = 0

    def run() -> str:
        nonlocal num_groups
        text, num_groups = _run(options)
        return text

    code = run_command(run, "nothing was written")
    return _FOUND if options.fail_if_found and num_groups and not code else code


def _run(options: argparse.Namespace) -> tuple[str, int]:
    """Returns what to print, and how many groups were found and not accepted."""
    accepted = Accepted(options.accepted)
    decoding = DecodeOptions(max_pixels=options.max_pixels, apply_orientation=True)
    places = [options.images, *([options.against] if options.against else [])]
    sources = [read_source(place, decoding, options.num_workers) for place in places]
    _tell_left_out(sources)
    wanted = Options(options.view, options.radius, options.similarity, options.num_workers)
    pictures = [source.pictures for source in sources]
    with Progress("comparing", work(*pictures)) as told:
        found = near_duplicates(
            pictures[0], pictures[1] if options.against else None, wanted, told.update
        )
    results = Results(sources, found, wanted, accepted)
    if options.accept:
        count = results.accept(options.accept, accepted)
        text = f"{counted(count, 'group')} accepted in {shown(accepted.file)}"
        return text, len(results.groups) - count
    return _written(options, results), len(results.groups)


def _written(options: argparse.Namespace, results: Results) -> str:
    """Writes the files that are asked for; returns what to print."""
    content = results.content()
    lines = []
    if options.html:
        from hybridhash_jax.report.duplicates_page import render_duplicates

        page = render_duplicates(content, results.thumbnail)
        write_atomically(options.html, page.encode())
        lines.append(f"side by side in {shown(options.html)}")
    if options.output:
        write_atomically(options.output, as_bytes(content, options.format))
        return "\n".join([summary(content), f"written to {shown(options.output)}", *lines])
    if options.format == "text":
        return "\n".join([as_text(content), *lines])
    return print_exactly(as_bytes(content, options.format))


def _tell_left_out(sources: Sequence[Source]) -> None:
    for source in sources:
        for line in source.warnings:
            print(f"warning: {line}", file=sys.stderr)
        for name, reason in source.unreadable[:5]:
            print(f"left out: {shown(name)}: {reason}", file=sys.stderr)
        if len(source.unreadable) > 5:
            more = f"and {len(source.unreadable) - 5:,} more, all in --format=json"
            print(f"left out: {more}", file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("hybridhash_jax.retrieval.duplicates", __doc__, _EXAMPLES)
    parser.prog = "hybridhash duplicates"
    add = parser.add_argument
    add("images", type=given, metavar="FOLDER|INDEX", help="a folder of images, or an index of one")
    add(
        "--against",
        type=given,
        metavar="FOLDER|INDEX",
        help="compare with these instead, such as a database",
    )
    group = parser.add_argument_group("what counts as nearly the same")
    add = group.add_argument
    add("--view", choices=list(VIEWS), default="multi", help="plain: as they are; dihedral: mirrored and turned, too; multi (default): also crops and rotations up to 10 degrees")  # fmt: skip
    add("--radius", type=int, default=RADIUS, metavar="BITS", help=f"of 64 bits, how many may differ in the hashes of candidates (default {RADIUS})")  # fmt: skip
    add("--similarity", type=float, default=SIMILARITY, metavar="S", help=f"least similarity of candidates, up to 1 (default {SIMILARITY})")  # fmt: skip
    group = parser.add_argument_group("what is written")
    add = group.add_argument
    add("--format", choices=FORMATS, default="text", help="default text; csv has a line a pair")
    add("--output", type=expanded, metavar="FILE", help="write there instead of printing")
    add("--html", type=expanded, metavar="FILE", help="also a page with the images side by side")
    add("--fail_if_found", action="store_true", help=f"exit with {_FOUND} if there are groups that are not accepted")  # fmt: skip
    group = parser.add_argument_group("groups to keep")
    add = group.add_argument
    add("--accept", type=_ids, metavar="ID,...|all", help="note these groups as accepted: they are not shown again")  # fmt: skip
    add("--accepted", type=local_path, metavar="FILE", help="where that is noted (default FOLDER.accepted.json beside it)")  # fmt: skip
    group = parser.add_argument_group("reading")
    add = group.add_argument
    add("--num_workers", type=int, default=available_cores(), help="threads; default: all cores")
    add("--max_pixels", type=int, default=MAX_PIXELS, help=f"refuse larger images (default {MAX_PIXELS})")  # fmt: skip
    options = parser.parse_args(arguments)
    options.output = None if options.output == "-" else options.output
    options.accepted = options.accepted or default_file(options.images)
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not 0 <= options.radius <= _MOST_BITS:
        parser.error(f"--radius={options.radius}; give 0 to {_MOST_BITS}")
    if not 0 < options.similarity <= 1:
        parser.error(f"--similarity={options.similarity:g}; give more than 0, up to 1")
    for name in ("num_workers", "max_pixels"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}={getattr(options, name)}; give 1 or more")
    accepted = str(options.accepted)
    if options.accept is not None:
        if options.output or options.html:
            parser.error("--accept writes no results: leave --output and --html out")
        if not options.accept:
            parser.error("--accept= names no group; give ids, as they are shown, or all")
        outputs.check_outputs(parser, accepted=accepted)
        return
    outputs.check_outputs(parser, output=options.output, html=options.html)
    for name in ("output", "html"):
        file = getattr(options, name)
        if file and os.path.realpath(file) == os.path.realpath(accepted):
            parser.error(f"--{name}={file!r} notes the accepted groups; give another file")


def _ids(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


if __name__ == "__main__":
    sys.exit(main())
