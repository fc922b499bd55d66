"""A comparison of a few hundred made vectors, which trains in seconds."""

from pathlib import Path
from typing import Any

import numpy as np

from configs import compare_embeddings
from hybridhash_jax.comparison.plan import Shared

CLASSES, WIDTH = 4, 12
OVERRIDES: dict[str, Any] = {
    "bits": (8, 16),
    "batch_size": 32,
    "num_epochs": 2,
    "num_devices": 1,
    "model.head_width": 16,
    "evaluation.every_epochs": 2,
    "evaluation.batch_size": 64,
    "comparison.methods": ("hybridhash", "pca", "lsh"),
    "comparison.seeds": (0, 1),
    "comparison.rates": (1e-3, 1e-2),
    "comparison.trials": 2,
}


def write_vectors(folder: Path, count: int = 320, classes: int = CLASSES) -> None:
    """Vectors around a centre a class, and their classes."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    centres = random.normal(size=(classes, WIDTH))
    vectors = centres[labels] + random.normal(size=(count, WIDTH))
    np.save(folder / "vectors.npy", vectors.astype(np.float32))
    np.save(folder / "labels.npy", labels)


def make_shared(folder: Path, **overrides: Any) -> Shared:
    """The configuration for the vectors of a folder; dots in names are two underscores."""
    config = compare_embeddings.get_config()
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    files = {
        "data.embeddings": str(folder / "vectors.npy"),
        "data.labels": str(folder / "labels.npy"),
    }
    config.update_from_flattened_dict(OVERRIDES | files | given)
    return Shared(config.lock())


def cell(method: str, bits: int, values: list[float], **changes: Any) -> dict[str, Any]:
    """A cell as comparison.json keeps it, of these values of seeds 0, 1, ..."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "method": method, "title": method.upper(), "paper": "Somebody, 2020", "bits": bits,
        "supervision": "train", "mean": float(np.mean(values)), "deviation": spread,
        "values": {str(seed): value for seed, value in enumerate(values)}, "seeds_missing": 0,
        "train_seconds": 4.0, "encode_seconds": 1.0, "images_encoded": 100, "chosen": {},
        "at_edge": [], "workdirs": [f"runs/{method}/seed0/{bits}bits"], "report": None,
    } | changes  # fmt: skip
