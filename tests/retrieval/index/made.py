"""Small indexes for the tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hybridhash_jax.retrieval.encoding.listing import label_of
from hybridhash_jax.retrieval.index import Entry, Model, create_index, open_index, open_writer

MODEL = Model("a1" * 32, 64, "checkpoint 120 of runs/photos", "float32", "cpu", {"workdir": "runs"})


def entry_of(path: bytes, size: int = 10, modified_ns: int = 20) -> Entry:
    return Entry(path, size, modified_ns, 40, 30, label_of(path))


def codes_of(paths: Sequence[bytes], bits: int = 64, salt: int = 0) -> np.ndarray:
    """Packed codes that depend on the path alone, as an encoder's would on its image."""
    rows = [
        np.random.default_rng([salt, *path]).integers(0, 256, -(-bits // 8), np.uint8)
        for path in paths
    ]
    return np.array(rows, np.uint8).reshape(len(paths), -1)


def hashes_of(paths: Sequence[bytes]) -> np.ndarray:
    return codes_of(paths, salt=7).view(np.uint64)[:, 0]


def make(
    path: Path, *batches: Sequence[bytes], model: Model = MODEL, root: Path | None = None
) -> Path:
    """An index with one segment a batch of paths."""
    create_index(path, model, root, {"encoder.npz": b"weights"})
    with open_writer(path) as writer:
        for paths in batches:
            entries = [entry_of(name) for name in paths]
            writer.add(entries, codes_of(paths, model.bits), hashes_of(paths))
    return path


def content(path: Path) -> dict[bytes, tuple[Entry, bytes, int]]:
    """All that is searched, whatever the order of rows."""
    with open_index(path) as index:
        assert not index.damaged
        paths, rows = index.paths()
        facts = zip(
            index.entries(rows), index.packed(rows), index.hashes(rows).tolist(), strict=True
        )
        return {
            name: (entry, code.tobytes(), number)
            for name, (entry, code, number) in zip(paths, facts, strict=True)
        }
