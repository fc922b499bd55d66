"""Processes that run as one program must run the same program: they compare before they begin."""

import collections
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("hybridhash_jax", "input_pipeline", "configs")
_SHOWN = 20


class DisagreementError(ValueError):
    """The processes differ; says in what, and which has what."""


def agree(facts: Mapping[str, str]) -> None:
    """Raises in every process if what one knows differs from what another knows.

    Every process must call it at the same point. One process on its own agrees with itself.

    Args:
      facts: name -> value, of everything that must be the same.

    Raises:
      DisagreementError: the same in every process; names each fact with its values.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    _check_local_devices([device.process_index for device in jax.devices()])
    text = json.dumps(dict(facts), sort_keys=True).encode()
    digest = np.frombuffer(hashlib.sha256(text).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    if (digests == digests[:1]).all():
        return
    own = np.asarray([jax.process_index(), len(text)], np.int32)
    order, lengths = multihost_utils.process_allgather(own).T
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    texts = {
        int(process): bytes(row[:length])
        for process, length, row in zip(order, lengths, rows, strict=True)
    }
    raise DisagreementError(describe_differences([json.loads(texts[i]) for i in sorted(texts)]))


def describe_differences(facts: Sequence[Mapping[str, str]]) -> str:
    """Which facts differ between processes, a line each, with the values and who has them."""
    lines = []
    for name in sorted(set().union(*facts)):
        owners = collections.defaultdict(list)
        for process, known in enumerate(facts):
            owners[known.get(name, "nothing")].append(process)
        if len(owners) > 1:
            values = [f"{value} in {_processes(those)}" for value, those in owners.items()]
            lines.append(f"{name}: {'; '.join(values)}")
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"and {len(lines) - _SHOWN} more"]
    return (
        "the processes of this run differ:\n  "
        + "\n  ".join(lines)
        + "\nStart the same command, with the same code and versions, on every process."
    )


def program_facts() -> dict[str, str]:
    """Versions of Python and of the packages that compute, and a digest of each of our files."""
    facts = {"version of python": platform.python_version()}
    facts |= {f"version of {name}": version(name) for name in _PACKAGES}
    paths = [_ROOT / "main.py"]
    paths += [path for folder in _SOURCES for path in (_ROOT / folder).rglob("*.py")]
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        facts[f"file {path.relative_to(_ROOT)}"] = digest
    return facts


def _check_local_devices(owners: Sequence[int]) -> None:
    """`owners` are the processes of all devices, which every process knows by itself."""
    counts = collections.Counter(owners)
    if len(set(counts.values())) > 1:
        facts = [{"local devices": str(counts[process])} for process in sorted(counts)]
        raise DisagreementError(describe_differences(facts))


def _processes(numbers: Sequence[int]) -> str:
    """Such as "process 1" and "processes 0, 2-63"; `numbers` are sorted."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    text = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)
    return f"process {text}" if len(numbers) == 1 else f"processes {text}"
