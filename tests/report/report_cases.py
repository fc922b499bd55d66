"""Reports made up for the tests of the pages: digits, photographs of several labels, and oddities."""

import functools
import math
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

LONG_NAMES = tuple(
    f"{first} {second} seen from the {third}"
    for first in ("weathered", "reflecting", "overgrown")
    for second in (
        "buildings",
        "grassland",
        "waterfalls",
        "motorcycles",
        "clouds",
        "wetlands",
        "sky",
    )
    for third in ("north",)
)


@functools.cache
def digit_images(scale: int = 2) -> dict[int, np.ndarray]:
    """All of scikit-learn's digits, uint8 [8 * scale, 8 * scale, 3], by row."""
    grey = (_digits().images[:400] * 15).astype(np.uint8)
    large = grey.repeat(scale, axis=1).repeat(scale, axis=2)
    return dict(enumerate(np.repeat(large[..., None], 3, axis=3)))


@functools.cache
def photographs(number: int = 200) -> dict[int, np.ndarray]:
    """Smooth colour fields of five proportions, every fifth nearly black."""
    rng = np.random.default_rng(0)
    sizes = [(375, 500), (500, 333), (120, 480), (96, 96), (64, 64)]
    found = []
    for i in range(25):
        height, width = sizes[i % len(sizes)]
        y, x = np.mgrid[0:height, 0:width] / max(height, width)
        waves = [np.sin(6 * (x * a + y * b) + c) for a, b, c in rng.uniform(0.3, 2, (3, 3))]
        level = 20 if i % 5 == 4 else 255
        found.append((level * (np.stack(waves, -1) + 1) / 2).astype(np.uint8))
    return {i: found[i % 25] for i in range(number)}


BASELINE = {
    "name": "cosine of the features",
    "map_expected": 0.95,
    "dimensions": 1280,
    "bytes_per_image": 2560,
}


def minimal_report(bits: int = 32) -> dict[str, Any]:
    """A report with everything that each has and nothing that may be missing."""
    at = np.unique(np.geomspace(1, 1597, 60).round().astype(int))
    radii = np.arange(bits + 1)
    inside = 1 / (1 + np.exp(-(radii - bits / 3) * 12 / bits))
    rng = np.random.default_rng(1)
    return {
        "title": f"digits, {bits} bits, demo_16px",
        "bits": bits,
        "top_k": None,
        "dataset": {
            "name": "digits",
            "protocol": "digits",
            "queries": 200,
            "database": 1597,
            "classes": 10,
            "labels_per_image": "one",
        },
        "codes": {"source": "checkpoint 400 (epoch 25) of this workdir"},
        "map": {
            "expected": 0.9785, "stable": 0.9786, "optimistic": 0.9812, "pessimistic": 0.9731,
        },
        "radius_2": {"precision": 0.9612, "empty_share": 0.015},
        "queries_without_relevant": 0,
        "chance": 0.1063,
        "curves": {
            "by_rank": {
                "at": at.tolist(),
                "precision": np.clip(0.99 / (1 + np.exp((at - 190) / 40)) + 15 / at, 0.1, 0.99)
                .tolist(),
                "recall": np.minimum(at / 160, 1 - 0.04 * np.exp(-at / 900)).clip(0, 1).tolist(),
            },
            "by_radius": {
                "at": radii.tolist(),
                "precision": (0.98 - 0.88 * (radii / bits) ** 2).tolist(),
                "recall": inside.tolist(),
            },
        },
        "code_health": {
            "bit_balance": rng.uniform(-0.4, 0.4, bits).tolist(),
            "mean_correlation": 0.1312,
            "largest_correlation": 0.5123,
            "mean_entropy": 0.9611,
            "constant_bits": 0,
            "distinct_codes": 1203,
            "largest_share": 0.021,
        },
        "collapse": [],
        "per_class": [
            {"name": str(c), "queries": 20, "database": 159 + c, "map_expected": 0.99 - 0.01 * c}
            for c in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
        ],
        "worst_queries": [],
        "samples": [],
        "run": {
            "command": "main.py --config=configs/digits.py --workdir=runs/digits",
            "device": "1 x cpu",
            "processes": 1,
            "python": "3.12.4",
            "versions": {"jax": "0.11.2", "flax": "0.12.12", "numpy": "2.4.6"},
            "date": "2026-11-22 19:40 UTC",
        },
    }  # fmt: skip


def full_report(bits: int = 32) -> dict[str, Any]:
    """A report with every part, its images those of `digit_images`."""
    labels = _digits().target[:400]
    names = [[str(label)] for label in labels]
    epochs = np.arange(0, 26, 2.5).tolist()
    report = minimal_report(bits)
    report["dataset"] |= {
        "provenance": "scikit-learn 1.9.1, bundled",
        "official": True,
        "checksum": "sha256 2f1c6d0f1d0b9c57c7f2e2b66b6f1bb0c5f8a52a6e1fca9d5c19a8a13b1d2a77",
        "split_seed": 0,
        "unreadable": 0,
    }
    report["codes"]["fingerprint"] = "9b51c02e"
    report |= {
        "samples": _samples(names, bits),
        "worst_queries": _worst(names),
        "evaluations": [
            {"epoch": e, "map_expected": 0.98 - 0.8 * 0.8**e, "map_stable": 0.98 - 0.81 * 0.8**e}
            for e in epochs
        ],
        "training": [
            {"epoch": i / 160, "loss": 1.4 * math.exp(-i / 900) + 0.1 + 0.05 * math.sin(i), "learning_rate": 1e-3}
            for i in range(4000)
        ],
        "selection": {
            "selected_by": "query",
            "epoch": 25.0,
            "best": {"epoch": 25.0, "map_expected": 0.9785},
            "last": {"epoch": 25.0, "map_expected": 0.9771},
        },
        "times": {
            "encode_seconds": 0.61,
            "metric_seconds": 0.052,
            "images_per_second": 2946.2,
            "train_images_per_second": 476.0,
        },
        "published": [
            {
                "bits": 32, "map": 0.8886, "method": "HybridHash", "source": "authors' log",
                "ties": "unspecified: default argsort", "chosen": "best on the queries",
                "protocol": "digits", "note": "epoch 3",
            },
            {
                "bits": 16, "map": 0.7093, "method": "HybridHash", "source": "authors' log",
                "ties": "unspecified: default argsort", "chosen": "last epoch",
                "protocol": "digits",
            },
        ],
    }  # fmt: skip
    report["run"] |= {
        "seed": 0,
        "variant": "demo_16px",
        "parameters": 553440,
        "init_from": "random parameters",
    }
    return report


def multi_label_report() -> dict[str, Any]:
    """Several long labels an image, a cut-off, and a class without a query."""
    rng = np.random.default_rng(2)
    names = [
        [LONG_NAMES[c] for c in rng.choice(21, rng.integers(1, 6), replace=False)]
        for _ in range(200)
    ]
    report = full_report() | {
        "title": "nuswide_21, 32 bits, paper, a run with a title that takes more than a line",
        "top_k": 1000,
        "baselines": [BASELINE],
        "graded": {"ndcg": 0.7012, "acg": 1.6204, "weighted_map": 0.8333},
        "queries_without_relevant": 3,
        "samples": _samples(names, 32),
        "worst_queries": _worst(names),
        "per_class": [
            {
                "name": name,
                "queries": 10 * i,
                "database": 12_345 * i,
                "map_expected": i / 21 or None,
            }
            for i, name in enumerate(LONG_NAMES)
        ],
    }
    report["dataset"] |= {"classes": 21, "labels_per_image": "several", "unreadable": 2}
    for one in report["evaluations"]:
        one["validation_map_expected"] = one["map_expected"] - 0.02
    return report


def collapsed_report() -> dict[str, Any]:
    """Nearly all images on one code: the tie band is wide, 12 of 16 bits never change."""
    report = full_report(16)
    report["map"] = {
        "expected": 0.1103, "stable": 0.1415, "optimistic": 0.9934, "pessimistic": 0.0602,
    }  # fmt: skip
    report["code_health"] |= {
        "bit_balance": [1.0, -1.0] * 6 + [0.99, -0.97, 0.9, 0.6],
        "constant_bits": 12,
        "distinct_codes": 7,
        "largest_share": 0.9312,
        "mean_entropy": 0.0512,
    }
    report["collapse"] = ["93% of the database has one code", "12 of 16 bits never change"]
    return report


def sweep() -> dict[str, Any]:
    """Four code lengths with the best and the last evaluation of each."""
    maps = {16: 0.79, 32: 0.88, 48: 0.905, 64: 0.918}
    return {
        "title": "imagenet100, 16 to 64 bits",
        "dataset": full_report()["dataset"],
        "top_k": 1000,
        "lengths": [
            {
                "bits": bits,
                "map": {
                    "expected": value, "stable": value - 0.002,
                    "optimistic": value + 0.3 / bits, "pessimistic": value - 0.4 / bits,
                },
                "radius_2": {"precision": 0.8 - bits / 200, "empty_share": bits / 200},
                "best": {"epoch": 6.0, "map_expected": value},
                "last": {"epoch": 12.0, "map_expected": value - 0.03},
                "selected_by": "query",
                "epoch": 6.0,
                "distinct_codes": 1000 * bits,
                "report": f"{bits}bits/report.html",
            }
            for bits, value in maps.items()
        ],
        "published": [],
        "run": full_report()["run"],
    }  # fmt: skip


@functools.cache
def _digits() -> Any:
    return load_digits()


def _item(names: list[list[str]], row: int) -> dict[str, Any]:
    return {"image": row, "name": f"images/{row:05d}.png", "labels": names[row]}


def _samples(names: list[list[str]], bits: int) -> list[dict[str, Any]]:
    """Queries 0..9; their neighbours share a label nine times of ten."""
    rng = np.random.default_rng(3)
    samples = []
    for query in range(10):
        distances = np.sort(rng.integers(0, bits // 3, 10))
        alike = [r for r in range(10, len(names)) if set(names[r]) & set(names[query])]
        other = [r for r in range(10, len(names)) if not set(names[r]) & set(names[query])]
        rows = [int(rng.choice(alike if rng.random() < 0.8 else other)) for _ in range(10)]
        neighbours = [
            _item(names, row) | {"distance": int(distance), "relevant": row in alike}
            for row, distance in zip(rows, distances, strict=True)
        ]
        score = {"average_precision": float(rng.uniform(0.2, 1))}
        samples.append({"query": _item(names, query) | score, "neighbours": neighbours})
    return samples


def _worst(names: list[list[str]]) -> list[dict[str, Any]]:
    return [
        _item(names, row) | {"average_precision": 0.01 * (row + 1), "relevant": 159}
        for row in range(20)
    ]
