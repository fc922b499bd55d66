"""Several code lengths of one data set side by side, as one self-contained HTML file."""

from collections.abc import Mapping
from typing import Any

from hybridhash_jax.report import templates, wording
from hybridhash_jax.report.page import CHOSEN, TIE_RULE, published_rows

_CAPTIONS = {
    "map_over_bits.png": (
        "mAP over the code length",
        (
            "mAP over the code length. The band is what the order of items at equal distance could "
            "make of it: short codes have many such items."
        ),
    )
}


def render_sweep(sweep: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Makes the page that compares code lengths and links to each one's report.

    Args:
        sweep: title, dataset, top_k, lengths, published, run; "report" of a length is a path
            relative to the page.
        pictures: PNG files by name: map_over_bits.png; other names are ignored.

    Returns:
        HTML that loads nothing from outside itself and needs no script.
    """
    whole = templates.complete(sweep)
    optional: dict[str, Any] = dict.fromkeys(("best", "last", "selected_by", "epoch", "report"))
    lengths = sorted(
        (optional | dict(length) for length in whole["lengths"]), key=lambda entry: entry["bits"]
    )
    return templates.render(
        "sweep.html",
        sweep=whole,
        lengths=lengths,
        map_name=wording.map_name(whole["top_k"]),
        figures=templates.figures(pictures, _CAPTIONS),
        tie_rule=TIE_RULE,
        chosen=CHOSEN,
        published=_beside_ours(whole["published"] or [], lengths),
    )


def _beside_ours(
    published: list[dict[str, Any]], lengths: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    if not published:
        return []
    ours = [
        {
            "bits": length["bits"],
            "map": length["map"]["expected"],
            "method": "this run",
            "source": "this report",
            "ties": TIE_RULE,
            "chosen": CHOSEN.get(length["selected_by"], "nothing was chosen"),
            "ours": True,
        }
        for length in lengths
    ]
    return published_rows([*ours, *published])
