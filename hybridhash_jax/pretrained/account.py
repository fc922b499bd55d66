"""The account of a load: what came from where, in few lines."""

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from hybridhash_jax.pretrained.network import Shapes, looks_like

LOADED, TRANSFORMED, NEW, LEFT_OUT = ("loaded", "transformed", "newly initialised", "left out")
ACTIONS = (LOADED, TRANSFORMED, NEW, LEFT_OUT)

# A numbered layer inside a name of ours, of PyTorch's or of Google's.
_LAYER = re.compile(
    r"(levels/\d+/layers/|levels\.\d+\.transformer_encoder\.|EncoderNDBlock_"
    r"|_?blocks[./])(\d+)([./].+)"
)


class Row(NamedTuple):
    """What became of one entry of the file (left out) or one parameter (all else), and why."""

    action: str
    name: str
    reason: str = ""
    detail: str = ""  # what differs between rows of one reason, such as shapes


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a load did: a row for every entry of the file and every parameter of the network."""

    path: str
    kind: str
    rows: tuple[Row, ...]
    entries: tuple[str, ...]  # the file's names for what was loaded or could have been
    shapes: Shapes  # of the file's parameters
    notes: tuple[str, ...]

    @property
    def looks_like(self) -> str:
        """The file's sizes in words."""
        return looks_like(self.shapes)

    def names(self, action: str) -> tuple[str, ...]:
        """Names of the rows with one of `ACTIONS`."""
        return tuple(row.name for row in self.rows if row.action == action)

    @property
    def summary(self) -> str:
        """One line."""
        counts = [f"{len(self.names(action))} {action}" for action in ACTIONS]
        return f"{self.path} ({self.kind}): {', '.join(counts)}"

    def account(self) -> dict[str, Any]:
        """Everything above by names, for init.json."""
        rows = {action: self.names(action) for action in ACTIONS}
        return {"init_from": self.summary, "notes": self.notes, **rows}

    def describe(self) -> str:
        """The whole table, grouped; a line starting with "note" says what else to know."""
        among = [*(row.name for row in self.rows), *self.entries]
        lines = [f"weights from {self.path} ({self.kind}), which looks like {self.looks_like}"]
        for action in ACTIONS:
            rows = [row for row in self.rows if row.action == action]
            if rows:
                lines.append(f"  {action}: {len(rows)} arrays" if len(rows) > 1 else f"  {action}:")
                lines += [f"    {line}" for line in grouped_lines(rows, among)]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def grouped_lines(rows: Sequence[Row], among: Sequence[str]) -> list[str]:
    """One line for all rows of one reason that lie together in `among`, see `group`."""
    lines = []
    for reason in dict.fromkeys(row.reason for row in rows):
        details = {row.name: row.detail for row in rows if row.reason == reason}
        for label, names in group(details, among).items():
            alike = {details[name] for name in names}
            detail = alike.pop() if len(alike) == 1 else ""
            why = ": ".join(part for part in (reason, detail) if part)
            arrays = f"{len(names)} array{'s' * (len(names) > 1)}"
            lines.append(f"{label} ({arrays})" + (f"; {why}" if why else ""))
    return sorted(lines, key=_natural_order)


def _natural_order(line: str) -> list[tuple[int, str]]:
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", line)]


def group(names: Collection[str], among: Iterable[str]) -> dict[str, list[str]]:
    """Groups names as `levels/2/layers/{0..14}/*`: label -> the names that it stands for.

    `among` are all names, of which a star must not hide one that is not listed.
    """
    chosen, total, listed = set(names), {}, {}
    for name in chosen.union(among):
        for prefix in _prefixes(name):
            total[prefix] = total.get(prefix, 0) + 1
            listed[prefix] = listed.get(prefix, 0) + (name in chosen)
    layers: dict[tuple[str, str], dict[int, list[str]]] = {}
    for name in names:
        complete = (p for p in _prefixes(name) if listed[p] == total[p] > 1)
        prefix = next(complete, None)
        label = name if prefix is None else prefix + "*"
        match = _LAYER.fullmatch(label)
        key, number = ((match[1], match[3]), int(match[2])) if match else ((label, ""), -1)
        layers.setdefault(key, {}).setdefault(number, []).append(name)
    return {
        f"{before}{_ranges(numbers)}{after}": [name for part in numbers.values() for name in part]
        for (before, after), numbers in layers.items()
    }


def _prefixes(name: str) -> Iterator[str]:
    """What a star can be put behind, the coarsest first: a layer, or a part of the network."""
    ends = [match.end() for match in re.finditer(r"[./]", name)]
    if name.startswith("levels"):
        ends = ends[3 if _LAYER.fullmatch(name) else 2 :]
    return (name[:end] for end in ends)


def _ranges(numbers: Collection[int]) -> str:
    """{0, 2, 3, 4} -> "{0,2..4}", {7} -> "7", {-1} (no number) -> ""."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    if len(numbers) == 1:
        return "" if -1 in numbers else str(runs[0][0])
    return "{" + ",".join(f"{r[0]}..{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs) + "}"
