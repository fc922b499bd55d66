"""Finds the images of an index that are most similar to given ones.

Every image of the index is compared, so the answer is exact (but see --kind); equal distances come
in the order of the index. Exits with 1 where a query could not be read, after answering the others.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from hybridhash_jax.retrieval import outputs
from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.retrieval.outputs import FORMATS, print_exactly
from hybridhash_jax.retrieval.search import output
from hybridhash_jax.retrieval.search.codes import KINDS, Wanted
from hybridhash_jax.retrieval.search.work import Request, found_by
from input_pipeline.atomic_file import write_atomically
from input_pipeline.commands import expanded, make_parser, run_command
from input_pipeline.threads import available_cores

_K = 10
_LISTED = 20  # queries without an answer
_EXAMPLES = """\
  hybridhash search --index=pictures.idx holiday.jpg --html=found.html
  hybridhash search --index=pictures.idx --name=2024/beach.jpg --k=50
  hybridhash search --index=pictures.idx holiday.jpg --where label=sea --where 'path=2024/*'
  hybridhash search --index=pictures.idx holiday.jpg --radius=4
  hybridhash search --index=pictures.idx queries/ --format=csv --output=found.csv
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _parse(arguments)
    failed: list[str] = []

    def run() -> str:
        content, page = found_by(_request(options))
        failed.extend(_without_answer(content))
        if len(failed) == len(content["queries"]) and options.format == "text":
            raise ValueError(failed.pop(0))  # nothing is to be printed; the others follow
        return _written(options, content, page)

    code = run_command(run, "nothing was written")
    for line in failed[:_LISTED]:
        print(f"error: {line}", file=sys.stderr)
    if len(failed) > _LISTED:
        print(f"error: {len(failed) - _LISTED:,} more, all in --format=json", file=sys.stderr)
    return code or int(bool(failed))


def _without_answer(content: dict[str, Any]) -> list[str]:
    return [f"{shown(one['query'])}: {one['error']}" for one in content["queries"] if one["error"]]


def _request(options: argparse.Namespace) -> Request:
    k = options.k if options.k or options.radius is not None else _K
    return Request(
        index=options.index,
        queries=tuple(options.queries),
        names=tuple(options.name),
        wanted=Wanted(k, options.radius, tuple(options.where), options.kind),
        workdir=options.workdir,
        num_workers=options.num_workers,
        page=bool(options.html),
    )


def _written(options: argparse.Namespace, content: dict[str, Any], page: str | None) -> str:
    """Writes the files that are asked for; returns what to print."""
    lines = []
    if page is not None:
        write_atomically(options.html, page.encode())
        lines.append(f"page: {shown(options.html)}")
    if options.output:
        write_atomically(options.output, output.as_bytes(content, options.format))
        return "\n".join(
            [output.summary(content), f"{options.format}: {shown(options.output)}", *lines]
        )
    if options.format == "text":
        return "\n\n".join(filter(None, [output.as_text(content), *lines]))
    for line in lines:
        print(line, file=sys.stderr)
    return print_exactly(output.as_bytes(content, options.format))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("hybridhash_jax.retrieval.search", __doc__, _EXAMPLES)
    parser.prog = "hybridhash search"
    add = parser.add_argument
    add("queries", nargs="*", metavar="QUERY", help="an image file, or a folder of some")
    add("--index", required=True, metavar="INDEX", help="the index, a folder that hybridhash encode made")  # fmt: skip
    add("--name", action="append", default=[], metavar="PATH", help="an image of the index as query, by its path there; needs no network, and may be repeated")  # fmt: skip
    group = parser.add_argument_group("what is found")
    add = group.add_argument
    add("--k", type=int, metavar="K", help=f"the K nearest (default {_K}; with --radius, all within it)")  # fmt: skip
    add("--radius", type=int, metavar="BITS", help="only those whose codes differ in at most so many bits")  # fmt: skip
    add("--where", type=_condition, action="append", default=[], metavar="KEY=VALUE", help="search only images with label=NAME or path=PATTERN, where * stands for anything; repeated, all must hold")  # fmt: skip
    add("--kind", choices=KINDS, default="exact", help="ivf: for many queries in some millions; misses some, and how many is measured and said")  # fmt: skip
    group = parser.add_argument_group("what is written")
    add = group.add_argument
    add("--format", choices=FORMATS, default="text", help="default text; csv has a line an image that was found")  # fmt: skip
    add("--output", type=expanded, metavar="FILE", help="write there instead of printing")
    add(
        "--html",
        type=expanded,
        metavar="FILE",
        help="also a page with queries and answers as pictures",
    )
    group = parser.add_argument_group("what encodes the queries")
    add = group.add_argument
    add("--workdir", metavar="RUN", help="where the run is that encoded the index, if it has moved")
    add("--num_workers", type=int, default=available_cores(), help="decoding threads; default: all cores")  # fmt: skip
    options = parser.parse_args(arguments)
    options.output = None if options.output == "-" else options.output
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not (options.queries or options.name):
        parser.error("nothing to search for; give image files, a folder, or --name=PATH-IN-INDEX")
    for name, least in (("k", 1), ("radius", 0), ("num_workers", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name}={value}; give {least} or more")
    outputs.check_outputs(parser, output=options.output, html=options.html)


def _condition(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if equals:
        return key, value
    raise argparse.ArgumentTypeError(f"{text!r}; accepted: KEY=VALUE, such as label=sea")


if __name__ == "__main__":
    sys.exit(main())
