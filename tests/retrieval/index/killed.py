"""Kills writers at random moments while readers look on; run by kill_test.py.

    python -m tests.retrieval.index.killed FOLDER

A process of its own without threads, so that it can fork. Prints "done" when the index equals one
that nobody disturbed.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hybridhash_jax.retrieval.index import (
    Entry,
    Model,
    compact,
    create_index,
    merge,
    open_index,
    open_writer,
    verify,
)

KILLS, ROUNDS, BATCH = 20, 4, 300
MODEL = Model("ab", 64, "of a test", "float32", "cpu", {})


def codes_of(entries: list[Entry]) -> np.ndarray:
    """Codes that tell what they belong to, so that readers can check them."""
    data = b"".join(
        hashlib.blake2b(entry.path + b"%d" % entry.size, digest_size=8).digest()
        for entry in entries
    )
    return np.frombuffer(data, np.uint8).reshape(-1, 8)


def entries_of(first: int, count: int, size: int) -> list[Entry]:
    numbers = range(first, first + count)
    return [Entry(b"%d/\xff%06d,\n" % (n % 3, n), size, 1, 2, 3, str(n % 3)) for n in numbers]


def plan(folder: Path) -> list[tuple[str, Callable[[], object]]]:
    """Steps that may be done twice: a killed one is started again."""
    index = folder / "index"

    def add(entries: list[Entry]) -> None:
        with open_writer(index) as writer:
            known = writer.known()
            new = [e for e in entries if e.path not in known or known[e.path].size != e.size]
            assert len(new) in (0, len(entries)), "half a segment was entered"
            codes = codes_of(new)
            hashes = codes.view(np.uint64)[:, 0] if new else None
            writer.add(new, codes, hashes, [b"JPEG" * 200] * len(new))

    def remove(entries: list[Entry]) -> None:
        with open_writer(index) as writer:
            writer.remove(entry.path for entry in entries)

    def merged(out: Path) -> None:
        if not out.exists():
            merge([folder / "other", index], out)

    steps = []
    for number in range(ROUNDS):
        start = number * BATCH
        steps += [
            ("add", lambda start=start: add(entries_of(start, BATCH, 1))),
            ("remove", lambda start=start: remove(entries_of(start, 50, 1))),
            ("add", lambda start=start: add(entries_of(start + 100, 100, 2))),
            ("merge", lambda number=number: merged(folder / f"merged{number}")),
            ("compact", lambda: compact(index)),
        ]
    return steps


def prepare(folder: Path) -> None:
    folder.mkdir()
    for name in ("index", "other"):
        create_index(folder / name, MODEL, None, {"encoder.npz": b"weights"})
    with open_writer(folder / "other") as writer:
        entries = entries_of(10**5, BATCH, 1)
        codes = codes_of(entries)
        writer.add(entries, codes, codes.view(np.uint64)[:, 0])


def child(work: Callable[[], object]) -> int:
    """Starts work in a process; one that fails says why and exits with 1."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def read_on(folder: Path) -> None:
    """Readers never fail, and what they see is right."""
    while not (folder / "end").exists():
        with open_index(folder / "index") as index:
            assert not index.damaged, index.damaged
            paths, rows = index.paths()
            entries = index.entries(rows)
            assert [entry.path for entry in entries] == paths
            assert len(set(paths)) == len(paths) == len(index)
            if paths:
                assert (index.packed(rows) == codes_of(entries)).all()
                assert index.row_of(paths[-1]) == rows[-1]


def undisturbed(folder: Path) -> None:
    """Does the plan, and keeps how long each kind of step took at most."""
    seconds: dict[str, float] = {}
    for kind, work in plan(folder):
        start = time.perf_counter()
        work()
        seconds[kind] = max(seconds.get(kind, 0.0), time.perf_counter() - start)
    (folder / "seconds.json").write_text(json.dumps(seconds))


def kill_all_along(folder: Path, seconds: dict[str, float]) -> None:
    """Does the plan in processes of which 20 are killed, five of them in each kind of step."""
    draw = random.Random(0)
    victims = [kind for kind in ("add", "remove", "merge", "compact") for _ in range(KILLS // 4)]
    draw.shuffle(victims)
    done = 0
    steps = plan(folder)
    while done < len(steps):
        kind, work = steps[done]
        process = child(work)
        if kind in victims:
            victims.remove(kind)
            time.sleep(draw.uniform(0, seconds[kind]))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)  # it may just have finished: then it is done twice
            continue
        assert os.waitpid(process, 0)[1] == 0
        done += 1
    assert not victims


def contents(folder: Path) -> dict[str, bytes]:
    """All but caches, and the generation, of all indexes."""
    found = {}
    for file in folder.rglob("*"):
        name = str(file.relative_to(folder))
        if file.suffix in (".codes", ".hashes", ".npz"):
            found[name] = file.read_bytes()
        elif file.suffix == ".sqlite" and file.name.startswith("catalogue"):
            found[str(file.parent.relative_to(folder))] = file.read_bytes()
    return found


def main(folder: Path) -> None:
    for name in ("calm", "stormy"):
        prepare(folder / name)
    # Not here: a lock of tqdm's is shared with forked processes, and stays locked if one is killed.
    os.waitpid(child(lambda: undisturbed(folder / "calm")), 0)
    seconds = json.loads((folder / "calm" / "seconds.json").read_text())
    stormy = folder / "stormy"
    reader = child(lambda: read_on(stormy))
    kill_all_along(stormy, seconds)
    (stormy / "end").touch()
    assert os.waitpid(reader, 0)[1] == 0, "a reader failed"
    for index in [stormy / "index", *stormy.glob("merged*")]:
        assert not verify(index)
    left = [file for file in stormy.rglob("*") if ".part" in file.name]
    assert not left, left
    expected = contents(folder / "calm")
    found = contents(stormy)
    assert found.keys() == expected.keys()
    assert found == expected
    print(f"done: {seconds}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
