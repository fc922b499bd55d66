"""A small store, and images for it."""

from pathlib import Path

import numpy as np

from hybridhash_jax.features.store import FeatureStore, open_store

SHAPE = (3,)
FACTS = {"parameters": "abc", "stage": "pooled", "image_size": 32}
ROW_BYTES = 2 * 2 * 3  # float16, two views
ENTRY_BYTES = 20


def opened(folder: Path, facts: dict | None = None) -> FeatureStore:
    return open_store(folder, FACTS if facts is None else facts, SHAPE, views=2)


def images(count: int, first: int = 0) -> np.ndarray:
    """Checksums uint8 [count, 16], each its own."""
    sums = np.full((count, 16), 7, np.uint8)
    sums[:, 3] = np.arange(first, first + count)
    return sums


def features(sums: np.ndarray) -> np.ndarray:
    """What belongs to these images: float32 [N, 2, 3]."""
    row = np.arange(6, dtype=np.float32).reshape(2, 3) + 1
    return sums[:, 3].astype(np.float32)[:, None, None] * 10 + row


def fill(store: FeatureStore, sums: np.ndarray) -> int:
    """Adds what is missing, as a run does; returns how many images were computed."""
    with store.writing():
        new = store.missing(sums)
        for part in np.array_split(new, max(1, len(new) // 2)):
            store.append(sums[part], features(sums[part]))
    return len(new)


def is_right(store: FeatureStore, sums: np.ndarray) -> bool:
    return bool((store.array[store.rows(sums)] == features(sums)).all())


def messages(caplog) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)
