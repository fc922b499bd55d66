"""Long lists of parameter names, in few lines."""

import re
from collections.abc import Collection, Iterable, Iterator

# A numbered layer inside a name of ours, of PyTorch's or of Google's.
_LAYER = re.compile(
    r"(levels/\d+/layers/|levels\.\d+\.transformer_encoder\.|EncoderNDBlock_)(\d+)([./].+)"
)


def group(names: Collection[str], among: Iterable[str]) -> dict[str, list[str]]:
    """Groups names as `levels/2/layers/{0..14}/*`; a star stands for all names there are.

    Args:
      names: what to list, each once.
      among: all names, of which a star must not hide one that is not listed.

    Returns:
      label -> the names that it stands for.
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
    if _LAYER.fullmatch(name) and name.startswith("levels"):
        ends = ends[3:]
    elif name.startswith("levels"):
        ends = ends[2:]
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
