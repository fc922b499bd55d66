"""Regular expressions that users give for names of weights."""

import re
from collections.abc import Iterable, Sequence


def check_patterns(option: str, patterns: Sequence[str], known: Iterable[str]) -> None:
    """Refuses a pattern that is none or that matches nothing, as a misspelled one would.

    Raises:
      ValueError: names `option`, the pattern, and what some of the `known` names look like.
    """
    names = list(known)
    for pattern in patterns:
        try:
            found = any(re.search(pattern, name) for name in names)
        except (re.error, TypeError) as error:
            raise ValueError(f"{option}: {pattern!r} is no regular expression ({error})") from None
        if not found:
            some = ", ".join(names[:: max(1, len(names) // 6)])
            raise ValueError(
                f"{option}: {pattern!r} matches no name. There are, for example: {some}"
            )


def matches(patterns: Sequence[str], *names: str) -> bool:
    """Is one of the patterns found in one of the names?"""
    return any(re.search(pattern, name) for pattern in patterns for name in names)
