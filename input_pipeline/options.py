"""How a field of the configuration is declared by the code that uses it."""

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
    """One field: what it is for, and what it may be. None passes wherever the field has a None.

    `choices` are all accepted values; without them it is a number within the limits, or has a
    `problem` of its own: value (also None) -> what is wrong with it, None for nothing. With `may_change` a run
    that goes on may have another value, for the results are the same.
    """

    name: str
    sentence: str
    choices: Collection[Any] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    may_change: bool = False
    problem: Callable[[Any], str | None] | None = None

    def problem_of(self, value: Any, group: str = "") -> str | None:
        """What is wrong with a value, and what would be accepted; None for nothing."""
        if value is None and self.problem is None:
            return None
        given = f"{group}{self.name}={value!r}"
        if self.choices:
            if value in self.choices:
                return None
            return f"{given} ({self.sentence}); accepted: {', '.join(map(str, self.choices))}"
        if self.problem is not None:
            found = self.problem(value)
            return found and f"{given} ({self.sentence}): {found}"
        limits = self._limits(value)
        return f"{given} ({self.sentence}); it must be {' and '.join(limits)}" if limits else None

    def check(self, value: Any) -> None:
        """Raises a ValueError that says what is wrong with a value."""
        if problem := self.problem_of(value):
            raise ValueError(problem)

    def _limits(self, value: Any) -> list[str]:
        """The limits in words, if the number breaks one of them."""
        known = {
            "at least": (self.at_least, lambda x, limit: x >= limit),
            "above": (self.above, lambda x, limit: x > limit),
            "at most": (self.at_most, lambda x, limit: x <= limit),
            "below": (self.below, lambda x, limit: x < limit),
        }
        limits = {words: rule for words, rule in known.items() if rule[0] is not None}
        if not limits:
            return []
        finite = math.isfinite(value)
        if finite and all(test(value, x) for x, test in limits.values()):
            return []
        told = [f"{words} {_in_words(x)}" for words, (x, _) in limits.items() if x is not None]
        return told if finite else ["finite", *told]


def _in_words(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"
