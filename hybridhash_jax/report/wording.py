"""How numbers and untrusted names are written, on pages and in pictures alike."""

import shlex
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

FEW_PIXELS = 48  # an image with a longer side up to this is shown as the pixels it has


def map_name(top_k: int | None) -> str:
    """Returns mAP with its cut-off, as headings and axes name it."""
    return "mAP@all" if top_k is None else f"mAP@{top_k}"


def measure(value: float | None) -> str:
    """Writes a measure in [0, 1] or [-1, 1] with four decimals; a dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{value:.4f}"


def spread(value: float | None) -> str:
    """Writes a deviation behind its mean; nothing where there is none."""
    return "" if value is None else f"\N{PLUS-MINUS SIGN}\N{THIN SPACE}{value:.4f}"


def seconds(value: float | None) -> str:
    """Writes a time with two digits that count; a dash where there is none."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,.0f} s" if value >= 9.95 else f"{value:.1f} s"


def count(value: int | None) -> str:
    """Writes a number of things, thousands separated; a dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{value:,}"


def counted(value: int, one: str, many: str = "") -> str:
    """Writes such as "1 query" and "1,000 queries"; without `many`, an s is added."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def arguments(command: str) -> list[str]:
    """Splits a command line where it may be broken; joined by spaces it is the same again."""
    text = plain(command)
    try:
        found = [shlex.quote(word) for word in shlex.split(text)]
    except ValueError:  # an open quote
        found = []
    return found if " ".join(found) == text else text.split(" ")


def share(value: float) -> str:
    """Writes a share in [0, 1] in percent."""
    return f"{value:.1%}"


def baseline(one: Mapping[str, Any], top_k: int | None) -> str:
    """Says what another ranking of the same images reaches, and from how much."""
    name = plain(one["name"])
    return (
        f"{name[:1].upper()}{name[1:]}: {map_name(top_k)} {measure(one['map_expected'])}, from "
        f"{counted(one['dimensions'], 'dimension')} in {counted(one['bytes_per_image'], 'byte')} an "
        "image."
    )


def kept(one: Mapping[str, Any], bits: int, value: float) -> str:
    """Says how much of a baseline codes keep, such as "keep 95.4% of it in 8 bytes"."""
    size = counted(-(-bits // 8), "byte")
    if one["map_expected"] <= 0:
        return f"have {measure(value)} in {size}"
    part = value / one["map_expected"]
    return f"{'keep' if part <= 1 else 'reach'} {share(part)} of it in {size}"


_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def plain(text: object) -> str:
    """Returns a name with U+FFFD for lone surrogates and control characters; escapes nothing.

    Also for those that turn the direction of writing, which make a name look like another.
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(letter) in ("Cc", "Cs") or letter in _DIRECTIONS
        else letter
        for letter in str(text)
    )


def file_name(name: str) -> str:
    """Returns the last part of a path, which tells images apart where there is little room."""
    return plain(name).replace("\\", "/").rstrip("/").rpartition("/")[2]


def label_list(labels: Sequence[str]) -> str:
    """Returns the classes of an image in one line."""
    return plain(", ".join(map(str, labels))) or "no label"


def lines(text: str, width: int, most: int) -> list[str]:
    """Breaks text into at most `most` lines of `width` characters; an ellipsis marks a cut."""
    broken = textwrap.wrap(plain(text), width, break_on_hyphens=False)
    if len(broken) <= most:
        return broken
    return [
        *broken[: most - 1],
        broken[most - 1][: width - 1].rstrip(" ,") + "\N{HORIZONTAL ELLIPSIS}",
    ]
