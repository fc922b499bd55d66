"""The page of a search: each query and the images that it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hybridhash_jax.report import wording
from hybridhash_jax.report.page import data_uri, embedded, render_template

# A page with more takes a browser's memory; JSON and CSV have all.
_QUERIES_SHOWN, _IMAGES_SHOWN = 100, 120

Picture = Callable[[int], "bytes | np.ndarray | None"]


def render_search(content: Mapping[str, Any], of_query: Picture, of_row: Picture) -> str:
    """Makes the page; it loads nothing and needs no script.

    Args:
      content: what `hybridhash search --format=json` writes.
      of_query: the picture of a query by its number, a JPEG or uint8 [h, w, 3]; None: its name.
      of_row: that of a row of the index, at the size that the page needs.
    """
    answered = [(n, one) for n, one in enumerate(content["queries"]) if one["error"] is None]
    shown = [_shown(number, one, of_query, of_row) for number, one in answered[:_QUERIES_SHOWN]]
    return render_template(
        "search.html",
        content=content,
        queries=shown,
        num_answered=len(answered),
        queries_left_out=len(answered) - len(shown),
        failed=[one for one in content["queries"] if one["error"] is not None],
        title=_title(content),
    )


def _title(content: Mapping[str, Any]) -> str:
    if len(content["queries"]) == 1:
        return f"Images similar to {wording.file_name(content['queries'][0]['query'])}"
    return f"Images similar to {wording.counted(len(content['queries']), 'query', 'queries')}"


def _shown(
    number: int, one: Mapping[str, Any], of_query: Picture, of_row: Picture
) -> dict[str, Any]:
    found = [
        {
            **image,
            "name": image["path"],
            "labels": [image["label"]] if image["label"] else [],
            "small": _small(of_row(image["row"]), (image["width"], image["height"])),
        }
        for image in one["found"][:_IMAGES_SHOWN]
    ]
    return {
        **one,
        "name": one["query"],
        "labels": ["query"],
        "small": _small(of_query(number)),
        "images": found,
        "more": len(one["found"]) - len(found),
    }


def _small(
    picture: bytes | np.ndarray | None, size: tuple[int, int] | None = None
) -> dict[str, Any] | None:
    """What the template shows of a picture whose image has `size`, None for that of the pixels."""
    if picture is None:
        return None
    if isinstance(picture, bytes):
        few = size is not None and max(size) <= wording.FEW_PIXELS
        return {"source": embedded(picture, "jpeg"), "small": few}
    return {"source": data_uri(picture), "small": max(picture.shape[:2]) <= wording.FEW_PIXELS}
