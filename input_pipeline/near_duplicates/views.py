"""Views of a picture: turned, mirrored, cropped, as another image may show it, and their hashes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from input_pipeline.compiled import compiled
from input_pipeline.near_duplicates.hashing import hashes_of

# Sides of crops, and how many places along each side: a place is a twentieth of the picture, or
# nearly, from the next.
_CROPS = {0.9: 3, 0.8: 5, 0.7: 6, 0.6: 8}
_DEGREES = (-10, -5, 5, 10)
_SIDE = 32  # of what is hashed
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


def _dihedral() -> list[View]:
    views = []
    for quarters in range(4):
        turn = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), quarters)
        for mirrored in (False, True):
            linear = turn @ np.diag([-1 if mirrored else 1, 1])
            words = ["mirrored"] if mirrored else []
            words += [f"turned by {90 * quarters} degrees"] if quarters else []
            name = " and ".join(words) or "as it is"
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


def matrices(views: list[View], shapes: np.ndarray) -> np.ndarray:
    """The views' matrices for pictures of these shapes, width / height: float32 [N, V, 2, 3]."""
    turns = np.deg2rad([view.degrees for view in views])
    cosines, sines = np.broadcast_arrays(np.cos(turns), np.sin(turns)[None], shapes[:, None])[:2]
    shape = shapes[:, None]
    # Lengths are the same in all directions only where both sides are measured in pixels.
    rotation = np.stack([cosines, -sines / shape, sines * shape, cosines], axis=-1)
    rotation = rotation.reshape(len(shapes), len(views), 2, 2)
    return (rotation @ np.stack([view.matrix for view in views])).astype(np.float32)


def view_hashes(pictures: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Hashes uint64 [N, V] of pictures uint8 [N, side, side] seen through [N, V, 2, 3]."""
    count, views = transforms.shape[:2]
    seen = np.empty((count, views, _SIDE, _SIDE), np.float32)
    _sample(pictures, transforms, seen)
    return hashes_of(seen.reshape(-1, _SIDE, _SIDE)).reshape(count, views)


@compiled
def _sample(pictures, transforms, out):
    """Reads the pictures at the views' pixels, in straight lines between the nearest four."""
    side, size = pictures.shape[1], out.shape[-1]
    last = np.float32(side - 1)
    for n in range(out.shape[0]):
        picture = pictures[n]
        for k in range(out.shape[1]):
            m = transforms[n, k]
            for i in range(size):
                v = np.float32((i + 0.5) / size - 0.5)
                for j in range(size):
                    u = np.float32((j + 0.5) / size - 0.5)
                    x = (m[0, 0] * u + m[0, 1] * v + m[0, 2] + _HALF) * side - _HALF
                    y = (m[1, 0] * u + m[1, 1] * v + m[1, 2] + _HALF) * side - _HALF
                    x = min(max(x, np.float32(0)), last)
                    y = min(max(y, np.float32(0)), last)
                    left, top = min(int(x), side - 2), min(int(y), side - 2)
                    a, b = np.float32(x - left), np.float32(y - top)
                    p, q = np.float32(picture[top, left]), np.float32(picture[top, left + 1])
                    r, s = np.float32(picture[top + 1, left]), np.float32(picture[top + 1, left + 1])
                    upper, lower = p + a * (q - p), r + a * (s - r)
                    out[n, k, i, j] = upper + b * (lower - upper)
