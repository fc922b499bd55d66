"""The measured part of a report: what query codes find in a database of codes."""

import dataclasses
from typing import Any

import numpy as np

from hybridhash_jax import codes as codes_lib
from hybridhash_jax import metrics
from hybridhash_jax.codes.files import CodeSet

SAMPLES, NEIGHBOURS, WORST = 10, 10, 20


def describe_retrieval(query: CodeSet, database: CodeSet, top_k: int | None) -> dict[str, Any]:
    """Computes every metric and shows the queries behind them, as plain JSON values.

    Returns:
        bits, top_k, queries, database, classes, labels_per_image ("one" or "several");
        map: mAP@top_k by tie rule; chance: that of a random order;
        graded: ndcg, acg, weighted_map; None with one label an image;
        radius_2: precision, empty_share; queries_without_relevant, queries_without_label;
        decided_by_labels: whether each query's relevant items are all or none of the database, so
        that any codes give the same mAP;
        common_labels: the labels of the queries, where all have the same, else None;
        curves: by_rank and by_radius, each with at, precision, recall;
        code_health of the database's codes, and collapse, its symptoms in words;
        per_class: name, queries, database, map_expected (mean over the queries with that label, or
        None), worst first;
        worst_queries: those with the least AP among queries that have something to find;
        worst_queries_tied: how many more have the AP of the last of them;
        samples: queries evenly spaced through the classes, whatever their result, with the nearest
        database images, equal distances in the database's order.

    Raises:
        ValueError: as `metrics.rank`.
    """
    codes = query.codes, database.codes
    ranking = metrics.rank(codes[0], query.labels, codes[1], database.labels)
    measures = metrics.measure(ranking, top_k)
    precisions = measures.average_precisions["expected"]
    relevant = ranking.relevant_total
    statistics = metrics.code_statistics(codes[1])
    graded = {name: getattr(measures, name) for name in ("ndcg", "acg", "weighted_map")}
    worst, tied = _worst(query, precisions, relevant)
    return {
        "bits": query.bits,
        "top_k": top_k,
        "queries": len(query),
        "database": len(database),
        "classes": len(query.class_names) or len(_classes(query, database)),
        "labels_per_image": "several" if _has_several(query, database) else "one",
        "map": measures.mean_average_precision,
        "chance": _chance(ranking, top_k),
        "graded": None if measures.ndcg is None else graded,
        "radius_2": dataclasses.asdict(measures.ball),
        "queries_without_relevant": measures.queries_without_relevant,
        "queries_without_label": _without_label(query),
        "decided_by_labels": bool(np.isin(relevant, (0, len(database))).all()),
        "common_labels": _common_labels(query),
        "curves": _curves(measures),
        "code_health": _health(statistics),
        "collapse": metrics.collapse_symptoms(
            query.bits,
            database.num_classes,
            constant_bits=statistics.constant_bits,
            distinct_codes=statistics.distinct_codes,
            largest_share=statistics.largest_share,
        ),
        "per_class": _per_class(query, database, precisions),
        "worst_queries": worst,
        "worst_queries_tied": tied,
        "samples": _samples(query, database, codes, precisions),
    }


def shown_images(findings: dict[str, Any]) -> list[int]:
    """Returns the data set's rows of all images in the findings, each once, ascending."""
    shown = [entry["image"] for entry in findings["worst_queries"]]
    for sample in findings["samples"]:
        shown += [entry["image"] for entry in (sample["query"], *sample["neighbours"])]
    return sorted({image for image in shown if image is not None})


def _chance(ranking: metrics.Ranking, top_k: int | None) -> float:
    """Computes the mAP of a random order: the expectation where everything ties."""
    all_equal = ranking.by_grade.sum(axis=1, keepdims=True, dtype=np.int32)
    tied = dataclasses.replace(ranking, by_grade=all_equal)
    return float(metrics.ranked_precisions(tied, top_k, "expected").mean())


def _curves(measures: metrics.Measures) -> dict[str, Any]:
    return {
        name: {"at": c.at.tolist(), "precision": c.precision.tolist(), "recall": c.recall.tolist()}
        for name, c in (("by_rank", measures.by_rank), ("by_radius", measures.by_radius))
    }


def _health(statistics: metrics.CodeStatistics) -> dict[str, Any]:
    different = np.abs(statistics.bit_correlation[~np.eye(len(statistics.bit_balance), dtype=bool)])
    return {
        "bit_balance": statistics.bit_balance.tolist(),
        "mean_correlation": statistics.mean_correlation,
        "largest_correlation": float(different.max(initial=0)),
        "mean_entropy": float(statistics.bit_entropy.mean()),
        "constant_bits": statistics.constant_bits,
        "distinct_codes": statistics.distinct_codes,
        "largest_share": statistics.largest_share,
    }


def _classes(query: CodeSet, database: CodeSet) -> list[int]:
    if query.labels.ndim == 2:
        return list(range(query.labels.shape[1]))
    return np.unique(np.concatenate([query.labels, database.labels])).tolist()


def _has_several(query: CodeSet, database: CodeSet) -> bool:
    sides = (query.labels, database.labels)
    return any(bool((side.sum(axis=1) > 1).any()) for side in sides if side.ndim == 2)


def _per_class(query: CodeSet, database: CodeSet, precisions: np.ndarray) -> list[dict[str, Any]]:
    found = []
    for number in _classes(query, database):
        of_query, of_database = _with_label(query, number), _with_label(database, number)
        mean = float(precisions[of_query].mean()) if of_query.any() else None
        found.append(
            {
                "name": query.class_name(number),
                "queries": int(of_query.sum()),
                "database": int(of_database.sum()),
                "map_expected": mean,
            }
        )
    return sorted(found, key=lambda entry: (entry["map_expected"] is None, entry["map_expected"]))


def _with_label(codes: CodeSet, number: int) -> np.ndarray:
    labels = codes.labels
    return labels == number if labels.ndim == 1 else labels[:, number] == 1


def _without_label(codes: CodeSet) -> int:
    return 0 if codes.labels.ndim == 1 else int((~codes.labels.any(axis=1)).sum())


def _common_labels(codes: CodeSet) -> list[str] | None:
    same = len(codes) > 1 and bool((codes.labels == codes.labels[0]).all())
    return codes.labels_of(0) if same else None


def _worst(
    query: CodeSet, precisions: np.ndarray, relevant: np.ndarray
) -> tuple[list[dict[str, Any]], int]:
    """The worst queries, and how many more are as bad as the last of them."""
    candidates = np.flatnonzero(relevant)
    order = candidates[np.argsort(precisions[candidates], kind="stable")]
    shown = order[:WORST]
    tied = int((precisions[order[WORST:]] == precisions[shown[-1]]).sum()) if shown.size else 0
    return [
        _query(query, precisions, i) | {"relevant": int(relevant[i])} for i in shown.tolist()
    ], tied


def _samples(
    query: CodeSet,
    database: CodeSet,
    codes: tuple[np.ndarray, np.ndarray],
    precisions: np.ndarray,
) -> list[dict[str, Any]]:
    chosen = _spread(query)
    distances = codes_lib.hamming_distance(codes[0][chosen], codes[1])
    samples = []
    for index, distance in zip(chosen.tolist(), distances, strict=True):
        nearest = np.argsort(distance, kind="stable")[:NEIGHBOURS]
        neighbours = [
            _image(database, item)
            | {"distance": int(distance[item]), "relevant": _shares(query, index, database, item)}
            for item in nearest.tolist()
        ]
        samples.append({"query": _query(query, precisions, index), "neighbours": neighbours})
    return samples


def _spread(query: CodeSet) -> np.ndarray:
    """Queries evenly spaced in the order of their first label; all of them if they are few."""
    first = query.labels if query.labels.ndim == 1 else query.labels.argmax(axis=1)
    order = np.argsort(first, kind="stable")
    count = min(SAMPLES, len(order))
    return order[(2 * np.arange(count) + 1) * len(order) // (2 * count)]


def _shares(query: CodeSet, index: int, database: CodeSet, item: int) -> bool:
    a, b = query.labels[index], database.labels[item]
    return bool(a == b) if query.labels.ndim == 1 else bool((a & b).any())


def _query(query: CodeSet, precisions: np.ndarray, index: int) -> dict[str, Any]:
    return _image(query, index) | {"average_precision": float(precisions[index])}


def _image(codes: CodeSet, index: int) -> dict[str, Any]:
    return {
        "image": None if codes.rows is None else int(codes.rows[index]),
        "name": codes.name(index),
        "labels": codes.labels_of(index),
    }
