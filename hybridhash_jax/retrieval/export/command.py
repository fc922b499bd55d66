"""Brings the codes of an index to another engine: files, Milvus, or PostgreSQL with pgvector.

A table of a server is made equal to the index: what is new or changed is sent, what is gone is
removed. Stopped or cut off, the same command goes on. At the end the codes are counted there, and
answers are compared with exact ones.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from hybridhash_jax.retrieval import outputs
from hybridhash_jax.retrieval.export.errors import ExportError, masked
from hybridhash_jax.retrieval.export.rows import COLUMNS
from hybridhash_jax.retrieval.export.work import FILES, SERVERS, Request, exported
from input_pipeline.atomic_file import is_special
from input_pipeline.commands import Parser, expanded, make_parser, run_command

URL = "HYBRIDHASH_EXPORT_URL"
# Flags of some targets alone.
_ONLY_OF = {
    SERVERS: ("url", "name", "batch", "replace"),
    ("faiss", *SERVERS): ("kind", "lists", "probes"),
}
_MOST = 10_000  # Milvus gives at most 16,384
_EXAMPLES = """\
  hybridhash export --index=pictures.idx --to=parquet --output=codes.parquet
  hybridhash export --index=pictures.idx --to=faiss --output=codes.faiss --kind=exact
  MILVUS_TOKEN=me:secret hybridhash export --index=pictures.idx --to=milvus \\
      --url=http://localhost:19530 --name=pictures
  PGPASSWORD=secret hybridhash export --index=pictures.idx --to=pgvector \\
      --url=postgresql://me@localhost/pictures --name=pictures
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _parse(arguments)

    def run() -> str:
        try:
            return exported(_request(options))
        except ExportError as error:
            raise ExportError(masked(str(error))) from None

    return run_command(run, "what a server has taken stays; the same command goes on")


def _request(options: argparse.Namespace) -> Request:
    return Request(
        index=options.index,
        to=options.to,
        place=options.output or options.url,
        name=options.name,
        columns=options.columns,
        kind=options.kind,
        lists=options.lists,
        probes=options.probes,
        batch=options.batch,
        queries=options.check,
        k=options.k,
        replace=options.replace,
    )


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:  # a mistyped flag may hold a password
        super().error(masked(message))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("hybridhash_jax.retrieval.export", __doc__, _EXAMPLES)
    parser.prog, parser.__class__ = "hybridhash export", _Parser
    add = parser.add_argument
    add("--index", required=True, metavar="INDEX", help="the index, a folder that hybridhash encode made")  # fmt: skip
    add("--to", required=True, choices=[*FILES, *SERVERS], help="where to")
    group = parser.add_argument_group("files")
    add = group.add_argument
    add("--output", type=expanded, metavar="FILE", help="written beside and moved into place")
    group = parser.add_argument_group("servers")
    add = group.add_argument
    add("--url", default=os.environ.get(URL), metavar="ADDRESS", help=f"http://HOST:19530 of Milvus, postgresql://USER@HOST/DATABASE of PostgreSQL; default: {URL} of the environment. The password is taken from it, or better from MILVUS_TOKEN=USER:PASSWORD, or PGPASSWORD or ~/.pgpass, which other users of the machine do not see")  # fmt: skip
    add("--name", type=_name, metavar="TABLE", help="the table or collection; made if it is not there")  # fmt: skip
    add("--batch", type=int, default=10_000, help="rows sent at once (default %(default)s)")
    add("--replace", action="store_true", help="also where that removes more than half of the table")  # fmt: skip
    group = parser.add_argument_group("what is exported")
    add = group.add_argument
    add("--columns", type=_columns, default=("path", "label"), metavar="NAME,...", help=f"beside id and code, of {', '.join(COLUMNS)}, or none (default path,label)")  # fmt: skip
    add("--kind", choices=("ivf", "exact"), default="ivf", help="ivf (default): lists of similar codes, of which a query looks at a few; exact: all are compared. Not of Parquet and npz")  # fmt: skip
    add("--lists", type=int, metavar="N", help="how many (default: the root of the number of codes)")  # fmt: skip
    group = parser.add_argument_group("what is checked at the end")
    add = group.add_argument
    add("--check", type=int, default=100, metavar="N", help="answers compared with exact ones (default %(default)s)")  # fmt: skip
    add("--k", type=int, default=100, help="nearest images of each (default %(default)s)")
    add("--probes", type=int, metavar="N", help="lists a query looks at (default: the fewest of 1, 2, 4, ... that find 99 %%)")  # fmt: skip
    options = parser.parse_args(arguments)
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    server = options.to in SERVERS
    needed = ("url", "name") if server else ("output",)
    for name in needed:
        if not getattr(options, name):
            parser.error(f"--to={options.to} needs --{name}")
    if server and options.output:
        parser.error(f"--to={options.to} writes no file; leave --output out")
    for targets, names in _ONLY_OF.items():
        given = [x for x in names if getattr(options, x) != parser.get_default(x)]
        if given and options.to not in targets:
            flags = ", ".join(f"--{name}" for name in given)
            parser.error(f"--to={options.to} does not use {flags}; leave that out")
    for name, least in (("batch", 1), ("check", 0), ("k", 1), ("lists", 1), ("probes", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name}={value}; give {least} or more")
    if options.k > _MOST:
        parser.error(f"--k={options.k}; give 1 to {_MOST:,}")
    if options.kind == "exact" and (options.lists or options.probes):
        parser.error("--lists and --probes are of --kind=ivf")
    if not server:
        outputs.check_outputs(parser, output=options.output)
        if is_special(options.output):  # what is written is read again to check it
            parser.error(f"--output={options.output!r} is no file; give one that can be read again")
        options.url = None


def _name(text: str) -> str:
    if not (text.isascii() and text.isidentifier() and len(text) <= 63):
        raise argparse.ArgumentTypeError(
            f"{text!r}; give at most 63 letters, digits and _, the first no digit"
        )
    return text


def _columns(text: str) -> tuple[str, ...]:
    names = () if text == "none" else tuple(text.split(","))
    if not set(names) <= set(COLUMNS):
        raise argparse.ArgumentTypeError(f"{text!r}; accepted: {', '.join(COLUMNS)}, or none")
    return tuple(name for name in COLUMNS if name in names)


if __name__ == "__main__":
    sys.exit(main())
