"""The report of one code length as one self-contained HTML file."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybridhash_jax.report import templates, thumbnails, wording
from hybridhash_jax.report.cautions import cautions

TIE_RULE = "the mean over all orders of items at equal distance (expected)"
CHOSEN = {
    "query": "best of all evaluations, on the queries themselves",
    "validation": "best of all evaluations, on held-out training images",
    "last": "the last evaluation",
}
_CAPTIONS = {
    "pr_curve.png": (
        "Precision against recall, by rank and by Hamming radius",
        (
            "Precision and recall as more of the database is returned: item by item (by rank), and "
            "all items within a Hamming radius (the numbers), as a hash table looks them up."
        ),
    ),
    "precision_at_n.png": (
        "Precision and recall of the first N items over N",
        (
            "Of the first N items returned: the share that is relevant (precision), and the share of "
            "all relevant items that is among them (recall)."
        ),
    ),
    "bit_balance.png": (
        "Mean of every bit over the database",
        (
            "Mean of every bit over the database. At 0 a bit splits the images in half and says most; "
            "at -1 or +1 it is the same for all and says nothing."
        ),
    ),
    "training.png": (
        "Training loss and mAP over epochs",
        "Training loss, and mAP of each evaluation.",
    ),
}
_ROWS_SHOWN = 30  # of the classes and evaluations; the rest is behind a fold


def render_report(
    report: Mapping[str, Any], images: Mapping[int, np.ndarray], pictures: Mapping[str, bytes]
) -> str:
    """Makes the page of one code length.

    Args:
        report: the content of report.json. Parts that may be missing are left out of the page.
        images: uint8 [h, w, 3] under the numbers that samples and worst queries name; may be
            empty, then names and classes stand in their place.
        pictures: PNG files by name: pr_curve.png, precision_at_n.png, bit_balance.png,
            training.png. What is missing is left out, other names are ignored.

    Returns:
        HTML that refers to nothing outside itself and needs no script.
    """
    whole = templates.complete(report)
    return templates.render(
        "report.html",
        report=whole,
        map_name=wording.map_name(whole["top_k"]),
        cautions=cautions(whole),
        figures=templates.figures(pictures, _CAPTIONS),
        thumbnail=_thumbnails(images),
        classes=_worst_first(whole["per_class"]),
        rows_shown=_ROWS_SHOWN,
        tie_rule=TIE_RULE,
        chosen=CHOSEN,
        published=_beside_ours(whole),
    )


def _thumbnails(images: Mapping[int, np.ndarray]) -> Any:
    """A function from an image's number (or None) to what the page shows, None where there is none."""

    @functools.cache
    def thumbnail(number: int | None) -> dict[str, Any] | None:
        if number is None or number not in images:
            return None
        image = images[number]
        return {"source": thumbnails.data_uri(image), "small": thumbnails.is_small(image)}

    return thumbnail


def _worst_first(classes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Classes by mAP, the lowest first; those without a query come last."""
    return sorted(
        classes,
        key=lambda one: (one["map_expected"] is None, one["map_expected"] or 0.0, one["name"]),
    )


def _beside_ours(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The published rows with this run's among them, by code length, this run's first."""
    if not report["published"]:
        return []
    selection = report["selection"] or {}
    ours = {
        "bits": report["bits"],
        "map": report["map"]["expected"],
        "method": "this run",
        "source": "this report",
        "ties": TIE_RULE,
        "chosen": CHOSEN.get(selection.get("selected_by", ""), "given codes; nothing was chosen"),
        "ours": True,
    }
    return published_rows([ours, *report["published"]])


def published_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows by code length; those of equal length keep their order."""
    empty = {"note": None, "ours": False}
    return sorted((empty | dict(row) for row in rows), key=lambda row: row["bits"])
