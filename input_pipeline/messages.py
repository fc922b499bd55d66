"""Wording that all error messages share."""

from collections.abc import Sequence


def counted(count: int, what: str) -> str:
    """Such as "1 epoch" and "1,000 epochs"."""
    return f"{count:,} {what}" + "s" * (count != 1)


def shortened(names: Sequence[str], shown: int = 5, separator: str = ", ") -> str:
    """The first `shown` names and how many more there are: `a, b, c and 12 more`."""
    if len(names) <= shown:
        return separator.join(names)
    last = " " if separator == ", " else separator
    return f"{separator.join(names[:shown])}{last}and {len(names) - shown:,} more"
