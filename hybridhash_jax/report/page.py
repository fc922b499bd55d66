"""The reports as self-contained HTML: of one code length, and of several side by side."""

from __future__ import annotations

import base64
import functools
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from hybridhash_jax.report import wording
from hybridhash_jax.report.cautions import cautions

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

TIE_RULE = "the mean over all orders of items at equal distance (expected)"
CHOSEN = {
    "query": "best of all evaluations after the start, on the queries themselves",
    "validation": "best of all evaluations after the start, on held-out training images",
    "last": "the last evaluation",
}
# Alternative text and caption by file name.
_REPORT_PICTURES = {
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
_SWEEP_PICTURES = {
    "map_over_bits.png": (
        "mAP over the code length",
        (
            "mAP over the code length. The band is what the order of items at equal distance could "
            "make of it: short codes have many such items."
        ),
    )
}
# What a report or a sweep may lack, and what its parts may.
_OPTIONAL = {
    "": (
        "graded",
        "evaluations",
        "training",
        "selection",
        "times",
        "published",
        "baselines",
        "queries_without_label",
        "decided_by_labels",
        "common_labels",
        "worst_queries_tied",
    ),  # fmt: skip
    "dataset": ("provenance", "official", "checksum", "split_seed", "unreadable"),
    "codes": ("fingerprint",),
    "times": ("encode_seconds", "metric_seconds", "images_per_second", "train_images_per_second"),
    "run": ("cpu", "seed", "variant", "parameters", "init_from"),
}
_ROWS_SHOWN = 30  # of the classes; the rest is behind a fold
_THUMBNAIL_PX = 192  # longer side, for when it is enlarged


def render_report(
    report: Mapping[str, Any], images: Mapping[int, np.ndarray], pictures: Mapping[str, bytes]
) -> str:
    """Makes the page of one code length; it loads nothing and needs no script.

    `images` are uint8 [h, w, 3] under the numbers that samples and worst queries name; names and
    classes stand in for those that are missing. `pictures` are PNG files by name.
    """
    whole = _complete(report)
    selected_by = (whole["selection"] or {}).get("selected_by")
    ours = _our_row(whole, selected_by, whole["run"]["variant"], "given codes")
    return render_template(
        "report.html",
        report=whole,
        map_name=wording.map_name(whole["top_k"]),
        cautions=cautions(whole),
        figures=_figures(pictures, _REPORT_PICTURES),
        thumbnail=_thumbnails(images),
        # Those without a query come last.
        classes=sorted(
            whole["per_class"],
            key=lambda one: (one["map_expected"] is None, one["map_expected"] or 0.0, one["name"]),
        ),
        rows_shown=_ROWS_SHOWN,
        tie_rule=TIE_RULE,
        chosen=CHOSEN,
        published=_beside_published([ours], whole["published"]),
    )


def render_sweep(sweep: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Makes the page that compares code lengths and links to each one's report, relative to it."""
    whole = _complete(sweep)
    optional: dict[str, Any] = dict.fromkeys(("best", "last", "selected_by", "epoch", "report"))
    lengths = _by_bits(optional | dict(length) for length in whole["lengths"])
    ours = [_our_row(length, length["selected_by"], whole["run"]["variant"]) for length in lengths]
    return render_template(
        "sweep.html",
        sweep=whole,
        lengths=lengths,
        map_name=wording.map_name(whole["top_k"]),
        figures=_figures(pictures, _SWEEP_PICTURES),
        tie_rule=TIE_RULE,
        chosen=CHOSEN,
        published=_beside_published(ours, whole["published"]),
    )


def data_uri(image: np.ndarray) -> str:
    """Returns uint8 [h, w, 3], reduced to 192 px on its longer side, as a data: URI."""
    picture, content = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    kind = "png" if _is_small(image) else "jpeg"
    picture.save(content, kind, quality=85)
    return embedded(content.getvalue(), kind)


def _is_small(image: np.ndarray) -> bool:
    return max(image.shape[:2]) <= wording.FEW_PIXELS


def embedded(content: bytes, kind: str) -> str:
    """A picture as a data: URI; `kind` such as "png" or "svg+xml"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _thumbnails(
    images: Mapping[int, np.ndarray],
) -> Callable[[int | None], dict[str, Any] | None]:
    """Makes the function from an image's number to what the page shows; None: no image."""

    @functools.cache
    def thumbnail(number: int | None) -> dict[str, Any] | None:
        if number is None or number not in images:
            return None
        return {"source": data_uri(images[number]), "small": _is_small(images[number])}

    return thumbnail


def _figures(
    pictures: Mapping[str, bytes], known: Mapping[str, tuple[str, str]]
) -> dict[str, dict[str, str]]:
    return {
        name: {"source": embedded(pictures[name], "png"), "alt": alt, "caption": caption}
        for name, (alt, caption) in known.items()
        if name in pictures
    }


def _our_row(
    result: Mapping[str, Any],
    selected_by: str | None,
    backbone: str | None,
    otherwise: str = "",
) -> dict[str, Any]:
    nothing = f"{otherwise}; nothing was chosen" if otherwise else "nothing was chosen"
    return {
        "bits": result["bits"],
        "map": result["map"]["expected"],
        "method": "this run",
        "backbone": backbone,
        "source": "this report",
        "ties": TIE_RULE,
        "chosen": CHOSEN.get(selected_by or "", nothing),
        "ours": True,
    }


def _beside_published(
    ours: Sequence[Mapping[str, Any]], published: Sequence[Mapping[str, Any]] | None
) -> list[dict[str, Any]]:
    """Returns published rows with this run's before those of equal length; none without any."""
    if not published:
        return []
    return _by_bits(
        {"note": None, "backbone": None, "ours": False} | dict(row) for row in (*ours, *published)
    )


def _by_bits(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["bits"])


def _complete(record: Mapping[str, Any]) -> dict[str, Any]:
    """Adds None for everything that a report or a sweep may lack."""
    whole: dict[str, Any] = dict.fromkeys(_OPTIONAL[""]) | dict(record)
    for name, keys in _OPTIONAL.items():
        if name and whole.get(name) is not None:
            whole[name] = dict.fromkeys(keys) | dict(whole[name])
    return whole


def render_template(template: str, **values: Any) -> str:
    """Fills a template; the result can be written as UTF-8 whatever the names hold."""
    text = _environment().get_template(template).render(**values)
    return text.encode("utf-8", "replace").decode("utf-8")


def _breakable(text: object) -> Markup:
    """Lets a name be broken behind a sign that joins words, and with a hyphen in a long word."""
    from markupsafe import Markup

    name = re.sub(r"[^\W\d_]{10}(?=[^\W\d_]{5})", "\\g<0>\N{SOFT HYPHEN}", wording.plain(text))
    return Markup("<wbr>").join(re.split(r"(?<=[_./\\-])(?=\w)", name))


@functools.cache  # compiling the templates takes longer than filling them
def _environment() -> jinja2.Environment:
    """Makes Jinja's environment: strings escape themselves, an unknown name is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "measure": wording.measure,
        "count": wording.count,
        "share": wording.share,
        "labels": wording.label_list,
        "counted": wording.counted,
        "arguments": wording.arguments,
        "breakable": _breakable,
        "plain": wording.plain,
        "file_name": wording.file_name,
        "baseline": wording.baseline,
        "kept": wording.kept,
        "spread": wording.spread,
        "seconds": wording.seconds,
    }
    return environment
