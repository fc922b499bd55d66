"""Views of a picture: turned, mirrored, cropped, as another image may show it, and their hashes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from input_pipeline.compiled import compiled
from input_pipeline.near_duplicates.hashing import COSINES, KEPT, SIDE, hashes_of_frequencies

# Sides of crops, and how many places along each side: a place is a twentieth of the picture, or
# nearly, from the next.
_CROPS = {0.9: 3, 0.8: 5, 0.7: 6, 0.6: 9}
_DEGREES = (-10, -5, 5, 10)
_INVERSES = {
    "cropped": "shows more",
    "shows more": "cropped",
    "turned by 90 degrees": "turned by 270 degrees",
    "turned by 270 degrees": "turned by 90 degrees",
}
_HALF = np.float32(0.5)


class View(NamedTuple):
    """Where a view's pixels are in the picture.

    Attributes:
      name: what the picture must undergo to look so.
      matrix: float [2, 3], from places in the view to places in the picture, both in sides of it
        from its middle.
      degrees: to rotate by, beside that; not part of the matrix, since it depends on the shape.
    """

    name: str
    matrix: np.ndarray
    degrees: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether all of the picture is in it, neither cropped nor rotated."""
        return not self.degrees and bool(np.isin(self.matrix, (-1, 0, 1)).all())


def _dihedral() -> list[View]:
    views = []
    for quarters in range(4):
        turn = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), quarters)
        for mirrored in (False, True):
            linear = np.diag([-1 if mirrored else 1, 1]) @ turn
            words = ["mirrored"] if mirrored else []
            words += [f"turned by {90 * quarters} degrees"] if quarters else []
            name = " and ".join(words) or "same view"
            views.append(View(name, np.column_stack([linear, np.zeros(2)])))
    return views


def _crops() -> list[View]:
    views = []
    for side, count in _CROPS.items():
        places = np.linspace(-(1 - side) / 2, (1 - side) / 2, count)
        views += [
            View("cropped", np.array([[side, 0, x], [0, side, y]])) for y in places for x in places
        ]
    return views


def _rotations() -> list[View]:
    return [View("rotated", np.eye(2, 3), degrees) for degrees in _DEGREES]


# The first view is always the picture as it is.
VIEWS: Mapping[str, Callable[[], list[View]]] = {
    "plain": lambda: _dihedral()[:1],
    "dihedral": _dihedral,
    "multi": lambda: [*_dihedral(), *_crops(), *_rotations()],
}


def inverse(name: str) -> str:
    """What the first of two images is to the second, by what the second is to the first."""
    # A mirror image is that of its mirror image, however turned.
    return _INVERSES.get(name, name)


def matrices(views: list[View], shapes: np.ndarray) -> np.ndarray:
    """The views' matrices for pictures of these shapes, width / height: float32 [N, V, 2, 3]."""
    turns = np.deg2rad([view.degrees for view in views])
    cosines, sines = np.broadcast_arrays(np.cos(turns), np.sin(turns)[None], shapes[:, None])[:2]
    shape = shapes[:, None]
    # Lengths are the same in all directions only where both sides are measured in pixels.
    rotation = np.stack([cosines, -sines / shape, sines * shape, cosines], axis=-1)
    rotation = rotation.reshape(len(shapes), len(views), 2, 2)
    return (rotation @ np.stack([view.matrix for view in views])).astype(np.float32)


def view_hashes(pictures: np.ndarray, views: list[View], shapes: np.ndarray) -> np.ndarray:
    """Hashes uint64 [N, V] of the views of pictures uint8 [N, 64, 64]; shapes as in `matrices`."""
    out = np.empty((len(pictures), len(views)), np.uint64)
    straight = [k for k, view in enumerate(views) if not view.degrees]
    rotated = [k for k, view in enumerate(views) if view.degrees]
    if straight:
        out[:, straight] = _straight_hashes(pictures, [views[k] for k in straight])
    if rotated:
        of_rotated = matrices([views[k] for k in rotated], shapes)
        seen = np.empty((*of_rotated.shape[:2], SIDE, SIDE), np.float32)
        _sample(pictures, of_rotated, seen)
        cosines = COSINES.astype(np.float32)
        out[:, rotated] = hashes_of_frequencies(cosines @ seen @ cosines.T)
    return out


def _straight_hashes(pictures: np.ndarray, views: list[View]) -> np.ndarray:
    """Of views whose lines are rows or columns of the picture.

    Resampling and cosines are then one small matrix for each axis, and crops share them.
    """
    ranges: dict[tuple[float, float], int] = {}
    places = []
    for view in views:
        (a, b, x), (c, d, y) = view.matrix.tolist()
        turned = a == 0
        columns, rows = ((b, x), (c, y)) if turned else ((a, x), (d, y))
        of_rows, of_columns = (ranges.setdefault(one, len(ranges)) for one in (rows, columns))
        places.append((of_rows, of_columns, turned))
    side = pictures.shape[-1]
    lines = np.concatenate([_frequencies_of(scale, middle, side) for scale, middle in ranges])
    across = lines @ pictures.astype(np.float32)
    # In one product: many medium ones would wake BLAS's threads for each.
    every = (across.reshape(-1, side) @ lines.T).reshape(
        len(pictures), len(ranges), KEPT, len(ranges), KEPT
    )
    found = np.empty((len(pictures), len(views), KEPT, KEPT), np.float32)
    for k, (rows, columns, turned) in enumerate(places):
        one = every[:, rows, :, columns]
        found[:, k] = one.swapaxes(1, 2) if turned else one
    return hashes_of_frequencies(found)


def _frequencies_of(scale: float, middle: float, side: int) -> np.ndarray:
    """From a line of pixels to the lowest frequencies of a part of it, float32 [8, side]."""
    centres = (scale * ((np.arange(SIDE) + 0.5) / SIDE - 0.5) + middle + 0.5) * side
    reach = max(1.0, abs(scale) * side / SIDE)
    weights = np.maximum(0, 1 - np.abs(np.arange(side) + 0.5 - centres[:, None]) / reach)
    return (COSINES @ (weights / weights.sum(axis=1, keepdims=True))).astype(np.float32)


@compiled
def _sample(pictures, transforms, out):
    """Reads the pictures at the views' pixels, in straight lines between the nearest four."""
    side, size = pictures.shape[1], out.shape[-1]
    last = np.float32(side - 1)
    picture = np.empty((side, side), np.float32)
    for n in range(out.shape[0]):
        picture[:] = pictures[n]
        for k in range(out.shape[1]):
            # From pixels of the view to pixels of the picture.
            m = transforms[n, k] * np.float32(side)
            across, down = m[0, 0] / size, m[1, 0] / size
            for i in range(size):
                v = np.float32((i + 0.5) / size - 0.5)
                u = np.float32(0.5 / size - 0.5)
                x0 = m[0, 0] * u + m[0, 1] * v + m[0, 2] + _HALF * side - _HALF
                y0 = m[1, 0] * u + m[1, 1] * v + m[1, 2] + _HALF * side - _HALF
                for j in range(size):
                    x = min(max(x0 + across * np.float32(j), np.float32(0)), last)
                    y = min(max(y0 + down * np.float32(j), np.float32(0)), last)
                    left, top = min(np.int32(x), side - 2), min(np.int32(y), side - 2)
                    a, b = x - np.float32(left), y - np.float32(top)
                    p, q = picture[top, left], picture[top, left + 1]
                    r, s = picture[top + 1, left], picture[top + 1, left + 1]
                    upper, lower = p + a * (q - p), r + a * (s - r)
                    out[n, k, i, j] = upper + b * (lower - upper)
