"""The page of near-duplicates: each group's images side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hybridhash_jax.report import wording
from hybridhash_jax.report.page import data_uri, render_template

# A page with more takes a browser's memory; JSON and CSV have all.
_GROUPS_SHOWN, _IMAGES_SHOWN, _PAIRS_SHOWN = 300, 12, 60
_SIDE = 192


def render_duplicates(
    content: Mapping[str, Any], thumbnail: Callable[[int, int], np.ndarray | None]
) -> str:
    """Makes the page of `Results.content`; it loads nothing and needs no script.

    `thumbnail` gives the image uint8 [h, w, 3] of a row, at most so many pixels long; names stand
    in for those that are missing.
    """
    groups = [
        {
            "id": group["id"],
            "images": [
                _picture(image, content, thumbnail) for image in group["images"][:_IMAGES_SHOWN]
            ],
            "more": max(0, len(group["images"]) - _IMAGES_SHOWN),
        }
        for group in content["groups"][:_GROUPS_SHOWN]
    ]
    between = [pair for pair in content["pairs"] if pair["group"] is None]
    return render_template(
        "duplicates.html",
        content=content,
        sides=[side for side in (content["first"], content["against"]) if side],
        groups=groups,
        groups_left_out=max(0, len(content["groups"]) - _GROUPS_SHOWN),
        images=sum(len(group["images"]) for group in content["groups"]),
        between=between[:_PAIRS_SHOWN],
        num_between=len(between),
        unreadable=[
            one
            for side in (content["first"], content["against"])
            if side
            for one in side["unreadable"]
        ],
    )


def _picture(
    image: Mapping[str, Any],
    content: Mapping[str, Any],
    thumbnail: Callable[[int, int], np.ndarray | None],
) -> dict[str, Any]:
    pixels = thumbnail(image["row"], _SIDE)
    side = content["against"] if image["against"] else content["first"]
    small = None
    if pixels is not None:
        is_small = max(pixels.shape[:2]) <= wording.FEW_PIXELS
        small = {"source": data_uri(pixels), "small": is_small}
    return {
        **image,
        "name": image["path"],
        "labels": [f"{image['width']} x {image['height']}"],
        "side": side["place"] if content["against"] else "",
        "small": small,
    }
