"""A picture of queries and their nearest database images, right and wrong marked."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hybridhash_jax.report import thumbnails, wording
from hybridhash_jax.report.figure_style import BLUE, GREY, VERMILLION

# In px of the whole picture, which is about 2,100 wide and mostly seen at half its size.
_IMAGE, _FRAME, _MARGIN, _GAP = 128, 5, 6, 12
_CELL = _IMAGE + 2 * (_FRAME + _MARGIN)
_TEXT, _CAPTION = 28, 44
_LEFT, _EDGE, _HEADER = 250, 24, 132
_NEIGHBOURS = _EDGE + _LEFT + _CELL + 3 * _GAP
_BLACK, _PALE = "#1A1A1A", "#F2F2F2"


def draw_retrieval(report: Mapping[str, Any], images: Mapping[int, np.ndarray], path: Path) -> None:
    """Draws a row a sample: the query's classes, the query, its nearest database images.

    What shares a class with the query has a solid blue frame and a check mark, what does not a
    dashed vermillion frame and a cross; the number is the Hamming distance. An image that is not
    among `images` is a tile with its name and classes.

    Args:
        report: with "title" and "samples".
        images: uint8 [h, w, 3] of any size under their numbers in the samples.
        path: of the PNG file.
    """
    samples = report["samples"]
    columns = max((len(sample["neighbours"]) for sample in samples), default=0)
    width = _NEIGHBOURS + max(columns, 8) * (_CELL + _GAP) - _GAP + _EDGE
    height = _HEADER + len(samples) * (_CELL + _CAPTION + _GAP) + _EDGE
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    _draw_header(draw, report["title"])
    for row, sample in enumerate(samples):
        top = _HEADER + row * (_CELL + _CAPTION + _GAP)
        _draw_query(canvas, sample["query"], images, top)
        for place, neighbour in enumerate(sample["neighbours"]):
            corner = (_NEIGHBOURS + place * (_CELL + _GAP), top)
            _draw_neighbour(canvas, neighbour, images, corner)
    canvas.save(path, "PNG")


def _draw_header(draw: ImageDraw.ImageDraw, title: str) -> None:
    draw.text((_EDGE, _EDGE), *wording.lines(title, 90, 1), font=_font(34, bold=True), fill=_BLACK)
    row = _EDGE + 56
    draw.text((_EDGE, row), "query", font=_font(_TEXT), fill=_BLACK)
    x = _NEIGHBOURS
    for right, text in ((True, "shares a class"), (False, "shares none")):
        _draw_mark(draw, (x, row + 3), right)
        draw.text((x + 36, row), text, font=_font(_TEXT), fill=_BLACK)
        x += 80 + round(_font(_TEXT).getlength(text))
    text = "numbers: how many bits differ; nearest first"
    draw.text((x, row), text, font=_font(_TEXT), fill=_BLACK)


def _draw_query(
    canvas: Image.Image, query: Mapping[str, Any], images: Mapping[int, np.ndarray], top: int
) -> None:
    draw = ImageDraw.Draw(canvas)
    text = "\n".join(wording.lines(wording.label_list(query["labels"]), 14, 5))
    draw.multiline_text((_EDGE, top), text, font=_font(_TEXT), fill=_BLACK, spacing=4)
    corner = (_EDGE + _LEFT, top)
    _paste(canvas, query, images, corner)
    _frame(draw, corner, GREY, width=2, dash=None)
    caption = f"AP {query['average_precision']:.2f}"
    below = (corner[0] + _CELL / 2, top + _CELL + 8)
    draw.text(below, caption, font=_font(_TEXT), fill=_BLACK, anchor="ma")


def _draw_neighbour(
    canvas: Image.Image,
    neighbour: Mapping[str, Any],
    images: Mapping[int, np.ndarray],
    corner: tuple[int, int],
) -> None:
    draw, right = ImageDraw.Draw(canvas), bool(neighbour["relevant"])
    _paste(canvas, neighbour, images, corner)
    _frame(draw, corner, BLUE if right else VERMILLION, _FRAME, dash=None if right else 14)
    caption = str(neighbour["distance"])
    whole = 36 + _font(_TEXT).getlength(caption)
    x, y = corner[0] + round((_CELL - whole) / 2), corner[1] + _CELL + 8
    _draw_mark(draw, (x, y + 3), right)
    draw.text((x + 36, y), caption, font=_font(_TEXT), fill=_BLACK)


def _paste(
    canvas: Image.Image,
    item: Mapping[str, Any],
    images: Mapping[int, np.ndarray],
    corner: tuple[int, int],
) -> None:
    """Puts the image into the middle of its cell, or a tile with its name and classes."""
    image, inset = images.get(item["image"]), _FRAME + _MARGIN
    if image is not None:
        picture = thumbnails.fit(image, _IMAGE)
        x = corner[0] + inset + (_IMAGE - picture.width) // 2
        canvas.paste(picture, (x, corner[1] + inset + (_IMAGE - picture.height) // 2))
        return
    x, y = corner[0] + inset, corner[1] + inset
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((x, y, x + _IMAGE - 1, y + _IMAGE - 1), fill=_PALE)
    lines = wording.lines(wording.file_name(item["name"]), 10, 2)
    text = "\n".join(
        [*lines, *wording.lines(wording.label_list(item["labels"]), 10, 5 - len(lines))]
    )
    draw.multiline_text((x + 4, y + 2), text, font=_font(20), fill=_BLACK, spacing=2)


def _frame(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], colour: str, width: int, dash: int | None
) -> None:
    """A frame just inside the cell: solid, or of dashes of `dash` px."""
    left, top = corner
    right, bottom = left + _CELL - 1, top + _CELL - 1
    if dash is None:
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)
        return
    for start in range(0, _CELL, 2 * dash):
        near, far = start, min(start + dash, _CELL) - 1
        sides = (
            (left + near, top, left + far, top + width - 1),
            (left + near, bottom - width + 1, left + far, bottom),
            (left, top + near, left + width - 1, top + far),
            (right - width + 1, top + near, right, top + far),
        )
        for side in sides:
            draw.rectangle(side, fill=colour)


def _draw_mark(draw: ImageDraw.ImageDraw, corner: tuple[int, int], right: bool) -> None:
    """A check mark or a cross in a square of 26 px."""
    x, y = corner

    def stroke(*points: Sequence[int], colour: str) -> None:
        draw.line([(x + dx, y + dy) for dx, dy in points], fill=colour, width=5, joint="curve")

    if right:
        stroke((2, 14), (10, 22), (24, 4), colour=BLUE)
    else:
        stroke((4, 4), (23, 23), colour=VERMILLION)
        stroke((23, 4), (4, 23), colour=VERMILLION)


@functools.cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)
