"""Processes that run as one program must run the same program: they compare before they begin."""

import collections
import contextlib
import hashlib
import json
import os
import platform
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("hybridhash_jax", "input_pipeline", "configs")
_SHOWN = 20
_ANSWER_SECONDS = 300  # a process that has died is noticed sooner, by its heartbeat


class DisagreementError(ValueError):
    """The processes differ; says in what, and which has what."""


def agree(subject: str, facts: Mapping[str, str], seconds: float = _ANSWER_SECONDS) -> None:
    """Raises in every process if what one knows differs from what another knows.

    Every process must call it at the same point, once a subject. The texts go through JAX's
    coordination service: nothing is compiled, and even the versions of JAX may differ.

    Args:
      subject: a word for the facts.
      facts: name -> value, of everything that must be the same.
      seconds: how long the slowest may take longer than the fastest to come here.

    Raises:
      DisagreementError: the same in every process; names each fact with its values.
    """
    if jax.process_count() == 1:
        return

    def judge(texts: Sequence[str]) -> str:
        known = [json.loads(text) for text in texts]
        return "" if all(k == known[0] for k in known) else describe_differences(known)

    _judge(subject, json.dumps(dict(facts)), judge, seconds)


def check_shared(workdir: Path, look_seconds: float = 15.0) -> None:
    """Raises in every process if one of them does not see what process 0 writes to the workdir.

    To be called once. Where the workdir is not there yet, its nearest parent is tried. Each process
    looks for `look_seconds`: network file systems take a moment. The DisagreementError names the
    processes that do not see it.
    """
    if jax.process_count() == 1:
        return
    token = None
    if jax.process_index() == 0:
        token = _write_token(workdir)
        _store().key_value_set("hybridhash_jax/token", str(token or ""))
    name = _answer("token")
    seen = not name or _appears(name, look_seconds)

    def judge(answers: Sequence[str]) -> str:
        blind = [process for process, answer in enumerate(answers) if not answer]
        if not blind:
            return ""
        return (
            f"--workdir={workdir} is not the same folder in every process: what process 0 wrote to "
            f"{Path(name).parent} was not seen by {_processes(blind)} within {look_seconds:g} s. "
            "Give a folder that all of them share, on NFS or in a mounted bucket."
        )

    try:
        _judge("workdir", "seen" if seen else "", judge)
    finally:
        if token is not None:
            token.unlink(missing_ok=True)


def check_same(name: str, checksum: int) -> None:
    """Raises in every process, once JAX computes, if one has another checksum of 32 bits.

    Unlike `agree` it may be called again; every process must.

    Raises:
      DisagreementError: the same in every process.
    """
    checksums = multihost_utils.process_allgather(np.uint32(checksum)).reshape(-1).tolist()
    if len(set(checksums)) > 1:
        raise DisagreementError(describe_differences([{name: f"{x:08x}"} for x in checksums]))


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
    """Versions of Python and of the packages that compute, local devices, our files' digests."""
    facts = {"version of python": platform.python_version()}
    facts["local devices"] = str(jax.local_device_count())
    facts |= {f"version of {name}": version(name) for name in _PACKAGES}
    paths = list(_ROOT.glob("main.py"))  # an installed package has none
    paths += [path for folder in _SOURCES for path in (_ROOT / folder).rglob("*.py")]
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        facts[f"file {path.relative_to(_ROOT)}"] = digest
    return facts


def _store() -> Any:
    # JAX itself has no public way to its coordination service.
    return ocp.multihost.get_jax_distributed_client()


def _answer(name: str, seconds: float = _ANSWER_SECONDS) -> str:
    return _store().blocking_key_value_get(f"hybridhash_jax/{name}", round(seconds * 1000))


def _judge(
    name: str, own: str, judge: Callable[[Sequence[str]], str], seconds: float = _ANSWER_SECONDS
) -> None:
    """Raises what process 0 finds wrong with the texts of all, in the order of the processes."""
    _store().key_value_set(f"hybridhash_jax/{name}/{jax.process_index()}", own)
    if jax.process_index() == 0:
        texts = [_answer(f"{name}/{process}", seconds) for process in range(jax.process_count())]
        _store().key_value_set(f"hybridhash_jax/{name}/verdict", judge(texts))
    if verdict := _answer(f"{name}/verdict", seconds):
        raise DisagreementError(verdict)


def _write_token(workdir: Path) -> Path | None:
    """A new file; None where none can be written, which the run will explain when it writes."""
    folder = next(path for path in (workdir, *workdir.parents) if os.path.isdir(path))
    token = folder / f".hybridhash_jax-{secrets.token_hex(8)}"
    with contextlib.suppress(OSError):
        token.touch()
        return token
    return None


def _appears(path: str, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (seen := os.path.exists(path)) and time.monotonic() < end:
        time.sleep(0.5)
    return seen


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
