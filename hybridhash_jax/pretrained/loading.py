"""Starts a network from pre-trained weights, and says exactly what came from where."""

import collections
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from hybridhash_jax.pretrained import adapt
from hybridhash_jax.pretrained.network import describe_network, looks_like
from hybridhash_jax.pretrained.sources import Source, read_source


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a load did.

    Attributes:
      path, kind: where the weights came from, and what they are.
      rows: what became of every entry of the file and every parameter of the network.
      entries: the file's names for what was loaded or could have been.
      looks_like: the file's sizes in words.
      notes: what else to know, in words.
    """

    path: str
    kind: str
    rows: tuple[adapt.Row, ...]
    entries: tuple[str, ...]
    looks_like: str
    notes: tuple[str, ...]

    def names(self, action: str) -> tuple[str, ...]:
        """Names of the rows with one of `adapt.ACTIONS`."""
        return tuple(row.name for row in self.rows if row.action == action)

    @property
    def summary(self) -> str:
        """One line."""
        counts = [f"{len(self.names(action))} {action}" for action in adapt.ACTIONS]
        return f"{self.path} ({self.kind}): {', '.join(counts)}"

    def account(self) -> dict[str, Any]:
        """Everything above by names, for init.json."""
        rows = {action: self.names(action) for action in adapt.ACTIONS}
        return {"init_from": self.summary, "notes": self.notes, **rows}

    def describe(self) -> str:
        """The whole table, grouped; a line starting with "note" says what else to know."""
        among = [*(row.name for row in self.rows), *self.entries]
        lines = [f"weights from {self.path} ({self.kind}), which looks like {self.looks_like}"]
        for action in adapt.ACTIONS:
            rows = [row for row in self.rows if row.action == action]
            if rows:
                lines.append(f"  {action}: {len(rows)} arrays" if len(rows) > 1 else f"  {action}:")
                lines += [f"    {line}" for line in adapt.grouped_lines(rows, among)]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def load_pretrained(
    model: nnx.Module,
    path: str | os.PathLike[str],
    *,
    allow_missing: Sequence[str] = (),
    checkpoint: str = "latest",
) -> Loaded:
    """Fills `model`, in place, from weights of any kind that `sources.read_source` knows.

    Args:
      model: a HybridHash or a NestClassifier; parameters that the file has not keep their values.
      path: a file or folder; what it is, its content decides.
      allow_missing: regular expressions, for what may stay unexplained (see `adapt.fit`).
      checkpoint: of one of our workdirs: "latest", "selected" or a step.

    Raises:
      WeightFileError: the file is missing, broken, or nothing of the kind.
      IncompatibleWeightsError: what is unexplained, all of it; `model` is unchanged.
    """
    source = read_source(path, checkpoint)
    network = describe_network(model)
    patterns = (allow_missing,) if isinstance(allow_missing, str) else allow_missing
    fitted = adapt.fit(source, network, patterns)
    _assign(model, fitted.arrays)
    return Loaded(
        path=source.path,
        kind=source.kind,
        rows=tuple(fitted.rows),
        entries=tuple(source.names.values()),
        looks_like=looks_like({name: array.shape for name, array in source.arrays.items()}),
        notes=(*source.notes, *_precision(source), *_other_options(source, network.options)),
    )


def _assign(model: nnx.Module, arrays: Mapping[str, np.ndarray]) -> None:
    flat = [
        (path, value.replace(jnp.asarray(arrays["/".join(map(str, path))])))
        for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param))
        if "/".join(map(str, path)) in arrays
    ]
    nnx.update(model, nnx.from_flat_state(flat))


def _precision(source: Source) -> list[str]:
    types = collections.Counter(array.dtype.name for array in source.arrays.values())
    return [
        f"{count} arrays are {name} in the file; parameters are float32"
        for name, count in types.items()
        if name != "float32"
    ]


def _other_options(source: Source, options: Mapping[str, str]) -> list[str]:
    return [
        f'these weights were trained with {name}="{there}"; this network has "{options[name]}"'
        for name, there in source.options.items()
        if name in options and options[name] != there and _matters(name, source)
    ]


def _matters(option: str, source: Source) -> bool:
    tokens = any("token_attention" in path for path in source.arrays)
    return option != "token_layout" or tokens
