"""How answers leave a command: as text, JSON or CSV, in a file or on standard output."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hybridhash_jax.retrieval.index import index_around
from input_pipeline import commands

FORMATS = ("text", "json", "csv")


def check_outputs(parser: argparse.ArgumentParser, **files: str | None) -> None:
    """Refuses, before the work, files that cannot be written, and those inside an index."""
    commands.check_outputs(parser, **files)
    for name, file in files.items():
        if file and index_around(file):
            parser.error(f"--{name}={file!r} is inside an index; give a file outside of it")


def as_bytes(
    kind: str,
    content: Mapping[str, Any],
    text: Callable[[], str],
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
) -> bytes:
    """Content in one of `FORMATS`: all of it as JSON, or told as `text`, or its `rows` as CSV.

    In CSV names are the file system's own bytes; in JSON those that are not UTF-8 are lone
    surrogates, as Python reads and writes them; in text they are escaped. What a row has beside the
    columns is left out.
    """
    if kind == "json":
        return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
    if kind == "text":
        return (text() + "\n").encode("utf-8", "backslashreplace")
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue().encode("utf-8", "surrogateescape")


def print_exactly(data: bytes) -> str:
    """Writes a name's own bytes, which the terminal's encoding may lack; returns the rest to print.

    That is nothing: the end of the last line is printed with it.
    """
    sys.stdout.flush()
    sys.stdout.buffer.write(data.removesuffix(b"\n"))
    return ""
