"""What XLA's optimised text for TPU says: what chips send each other, and what its fusions cost.

Only the little that `tpu_compile` records is read. The text is for people, so that another version
of the compiler may write it otherwise; the test that compiles a small network would fail then.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64}
_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf" = (.*?) ({_KINDS})(-start)?\(")
_SHAPE = re.compile(r"(pred|bf16|[fsu]\d+)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|body|condition|to_apply)=%([\w.-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CONDITION = re.compile(r"condition=%([\w.-]+)")
_LIMIT = re.compile(r" constant\((\d+)\)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One message of a step to other chips.

    Attributes:
      kind: as "all-reduce"; of a sum of which every chip keeps its part "reduce-scatter".
      size: bytes of the whole array: of what is summed, or of what all have after a gather.
      arrays: how many are sent in it together.
      types: of their numbers.
      times: how often a step sends it, by the loops that it is in.
    """

    kind: str
    size: int
    arrays: int
    types: tuple[str, ...]
    times: int


class Fusion(NamedTuple):
    """A part of the program by itself, and the compiler's own estimate of what it takes."""

    name: str
    cycles: int  # of one execution
    times: int  # how often a step executes it
    shape: str  # of what it gives
    origin: str  # JAX's name of an operation in it


def collectives(text: str) -> list[Collective]:
    """All messages of the program, those of a loop once with their number."""
    computations = _computations(text)
    times = _times(computations)
    found = []
    for name, lines in computations.items():
        # A message that runs beside other work is written in three computations; the first counts.
        if name.startswith("async_collective") or any("AsyncCollectiveDone" in x for x in lines):
            continue
        for line in lines:
            match = _COLLECTIVE.search(line)
            if match is None:
                continue
            shapes = _SHAPE.findall(match[1])
            if match[3] and match[2] != "all-reduce":  # what is sent and what arrives, in one tuple
                shapes = [max(shapes, key=lambda shape: _bytes(*shape))]
            # TPUs write a sum of which each keeps a part as a computation of this name.
            scattered = name.startswith("all-reduce-scatter")
            found.append(
                Collective(
                    "reduce-scatter" if scattered else match[2],
                    sum(_bytes(*shape) for shape in shapes),
                    len(shapes),
                    tuple(sorted({kind for kind, _ in shapes})),
                    times[name],
                )
            )
    return found


def summary(found: list[Collective]) -> list[dict[str, Any]]:
    """A row a kind and type of numbers: messages a step, arrays and bytes; for the record."""
    rows: dict[tuple[str, tuple[str, ...]], list[int]] = collections.defaultdict(lambda: [0, 0, 0])
    for one in found:
        row = rows[one.kind, one.types]
        for i, count in enumerate((1, one.arrays, one.size)):
            row[i] += one.times * count
    return [
        {"kind": kind, "types": list(types), "messages": row[0], "arrays": row[1], "bytes": row[2]}
        for (kind, types), row in sorted(rows.items())
    ]


def parts_of(text: str) -> list[Fusion]:
    """The parts of a step of which the compiler estimates cycles, those first that take most."""
    computations = _computations(text)
    times = _times(computations)
    found = []
    for name, lines in computations.items():
        for line in lines:
            cycles = _CYCLES.search(line)
            if cycles is None or times[name] == 0:
                continue
            own, _, rest = line.strip().removeprefix("ROOT ").partition(" = ")
            origin = _OP_NAME.search(line)
            shape = re.sub(r"\{.*?\}", "", rest.split(" fusion(")[0])[:80]
            found.append(
                Fusion(own[1:], int(cycles[1]), times[name], shape, origin[1] if origin else "")
            )
    return sorted(found, key=lambda part: part.cycles * part.times, reverse=True)


def _computations(text: str) -> dict[str, list[str]]:
    """The lines of every computation; the program's own is the last."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    entry = ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            lines = found[match[2]] = []
            entry = match[2] if match[1] else entry
        else:
            lines.append(line)
    if entry:
        found[entry] = found.pop(entry)
    return found


def _times(computations: dict[str, list[str]]) -> dict[str, int]:
    """How often a step executes every computation; 1 where loops do not say."""
    callers: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)
    for name, called, trips in _calls(computations):
        callers[called].append((name, trips))
    known: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in known:
            known[name] = 0  # a computation never calls itself
            above = [of(caller) * trips for caller, trips in callers[name]]
            known[name] = max(above, default=1)
        return known[name]

    return {name: of(name) for name in computations}


def _calls(computations: dict[str, list[str]]) -> Iterator[tuple[str, str, int]]:
    for name, lines in computations.items():
        for line in lines:
            trips = _trips(line, computations)
            for called in _CALLED.findall(line):
                yield name, called, trips


def _trips(line: str, computations: dict[str, list[str]]) -> int:
    """How often a loop runs; 1 for what is none, or does not say."""
    if told := _TRIPS.search(line):
        return int(told[1])
    if (condition := _CONDITION.search(line)) is None:
        return 1
    # For TPU the count is in the condition alone, where an index from 0 is compared with it.
    own = computations.get(condition[1], [])
    limits = [int(limit) for x in own for limit in _LIMIT.findall(x)]
    compared = any("compare(" in x and "direction=LT" in x for x in own)
    return limits[0] if compared and len(limits) == 1 else 1


def _bytes(kind: str, sizes: str) -> int:
    bits = _BITS.get(kind) or int(kind[1:])
    return math.prod(int(n) for n in sizes.split(",") if n) * bits // 8
