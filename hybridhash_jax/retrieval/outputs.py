"""How answers leave a command: as text, JSON or CSV, in a file or on standard output."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

FORMATS = ("text", "json", "csv")


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
