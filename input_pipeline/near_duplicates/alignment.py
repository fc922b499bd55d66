"""Lays one picture over another and says how alike they are where they overlap.

From the place where a view puts it, the picture is moved by least squares (Lucas and Kanade, "An
iterative image registration technique", 1981) with all affine movements, brightness and contrast;
pixels that do not fit, such as a caption's, count less.
"""

import numpy as np

from input_pipeline.compiled import compiled

SIDE = 64  # of a picture
_UNKNOWNS = 8  # contrast, brightness, and six of the movement
_STEPS, _COARSE_STEPS = 12, 5
_TILES = 4  # a side
# Of the pixels of the other picture, that must lie on this one.
_LEAST_OVERLAP = 0.6
# A variance that is no content, in grey levels squared: noise, and what JPEG leaves of a flat sky.
_FLAT = 4.0
# What tiles without their mean count in the similarity; the rest is of tiles without lines.
_OF_TILES = 0.7
# The similarity at half the size, below which pictures are not compared any further.
_LEAST_COARSE = 0.65
# Crops smaller than this side are compared with the whole resolution of the picture.
_FINE_BELOW = 0.75
# Beyond these a picture is folded onto a line rather than moved.
_SMALLEST, _LARGEST, _SKEWEST = 0.3, 2.0, 2.0


def reduced(pictures: np.ndarray) -> np.ndarray:
    """Square pictures [N, side, side] at half their size, as float32."""
    side = pictures.shape[-1] // 2
    return pictures.reshape(-1, side, 2, side, 2).mean(axis=(2, 4), dtype=np.float32)


def similarities(
    pictures: np.ndarray, others: np.ndarray, pairs: np.ndarray, starts: np.ndarray
) -> np.ndarray:
    """How well each other picture is found in a picture: float32 [P], 1 for the same content.

    Args:
      pictures: uint8 [N, 64, 64].
      others: uint8 [M, 64, 64], the whole of which is looked for.
      pairs: int64 [P, 2], rows of both.
      starts: float32 [P, 2, 3], where about it is; see `views.matrices`.
    """
    out = np.empty(len(pairs), np.float32)
    rows, first = np.unique(pairs[:, 0], return_inverse=True)
    columns, second = np.unique(pairs[:, 1], return_inverse=True)
    whole = pictures[rows].astype(np.float32)
    half, other = reduced(whole), reduced(others[columns])
    _compare(
        whole, half, reduced(half), other, reduced(other),
        np.column_stack([first, second]), starts.astype(np.float64), _COARSE_STEPS, _STEPS, out,
    )  # fmt: skip
    return out


@compiled
def _compare(whole, half, quarter, others, others_half, pairs, starts, coarse_steps, steps, out):
    # The steps are no constants here: Numba would compile all below once for each.
    for k in range(len(pairs)):
        first, second = pairs[k, 0], pairs[k, 1]
        m = starts[k].copy()
        is_part = np.sqrt(abs(m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])) < _FINE_BELOW
        # Coarsely first, which is enough to refuse most.
        picture = half[first] if is_part else quarter[first]
        out[k] = _best(picture, others_half[second], m, coarse_steps)
        if out[k] >= _LEAST_COARSE:
            picture = whole[first] if is_part else half[first]
            out[k] = _best(picture, others[second], m, steps)


@compiled
def _best(picture, other, m, steps):
    """The similarity after moving `m`, which stays where it was if it is better there.

    What shows little, such as a calm sea, can be moved anywhere.
    """
    before, moved = _similarity(picture, other, m), m.copy()
    if not _align(picture, other, moved, steps) or not _is_movement(moved):
        return before
    after = _similarity(picture, other, moved)
    if after > before:
        m[:] = moved
    return max(before, after)


@compiled
def _value(picture, m, u, v, found):
    """Value and slopes of the picture at a place of the other one; False outside of it."""
    side = picture.shape[0]
    x = (m[0, 0] * u + m[0, 1] * v + m[0, 2] + 0.5) * side - 0.5
    y = (m[1, 0] * u + m[1, 1] * v + m[1, 2] + 0.5) * side - 0.5
    if not (-0.5 <= x <= side - 0.5 and -0.5 <= y <= side - 0.5):
        return False
    x, y = min(max(x, 0.0), side - 1.0), min(max(y, 0.0), side - 1.0)
    left, top = min(int(x), side - 2), min(int(y), side - 2)
    a, b = x - left, y - top
    p, q = picture[top, left], picture[top, left + 1]
    r, s = picture[top + 1, left], picture[top + 1, left + 1]
    found[0] = (p + a * (q - p)) * (1 - b) + (r + a * (s - r)) * b
    found[1] = ((q - p) * (1 - b) + (s - r) * b) * side
    found[2] = ((r - p) * (1 - a) + (s - q) * a) * side
    return True


@compiled
def _align(picture, other, m, steps):
    """Moves `m` until other = contrast * picture(m) + brightness; False where that cannot be."""
    n = other.shape[0]
    square, right = np.empty((_UNKNOWNS, _UNKNOWNS)), np.empty(_UNKNOWNS)
    f, found = np.empty(_UNKNOWNS), np.empty(3)
    contrast, brightness, usual = 1.0, 0.0, 0.0
    for step in range(steps):
        square[:] = 0.0
        right[:] = 0.0
        inside, residuals = 0, 0.0
        for i in range(n):
            v = (i + 0.5) / n - 0.5
            for j in range(n):
                u = (j + 0.5) / n - 0.5
                if not _value(picture, m, u, v, found):
                    continue
                value, across, down, target = found[0], found[1], found[2], float(other[i, j])
                f[0], f[1] = value, 1.0
                f[2], f[3], f[4] = across * u, across * v, across
                f[5], f[6], f[7] = down * u, down * v, down
                weight = 1.0
                if step:
                    residual = abs(target - contrast * value - brightness)
                    weight = 1.0 / (1.0 + (residual / usual) ** 2)
                    residuals += min(residual, 40.0)
                for k in range(_UNKNOWNS):
                    weighted = weight * f[k]
                    right[k] += weighted * target
                    for other_k in range(k + 1):
                        square[k, other_k] += weighted * f[other_k]
                inside += 1
        if inside < _LEAST_OVERLAP * n * n:
            return False
        for k in range(_UNKNOWNS):
            square[k, k] *= 1.001
            square[k, k] += 1e-3
        _solve(square, right)
        contrast, brightness = right[0], right[1]
        if contrast < 0.05:
            return False
        usual = 1.5 * residuals / inside + 2.0 if step else 20.0
        largest = 0.0
        for k in range(6):
            change = min(max(right[2 + k] / contrast, -0.1), 0.1)
            m[k // 3, k % 3] += change
            largest = max(largest, abs(change))
        if largest < 2e-3:
            break
    return True


@compiled
def _solve(square, right):
    """Solves square @ x = right in place, by Cholesky's factors of the lower triangle."""
    n = len(right)
    for i in range(n):
        for j in range(i + 1):
            total = square[i, j]
            for k in range(j):
                total -= square[i, k] * square[j, k]
            square[i, j] = np.sqrt(max(total, 1e-12)) if i == j else total / square[j, j]
    for i in range(n):
        for k in range(i):
            right[i] -= square[i, k] * right[k]
        right[i] /= square[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            right[i] -= square[k, i] * right[k]
        right[i] /= square[i, i]


@compiled
def _is_movement(m):
    across = np.sqrt(m[0, 0] ** 2 + m[1, 0] ** 2)
    down = np.sqrt(m[0, 1] ** 2 + m[1, 1] ** 2)
    area = abs(m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])
    smaller, larger = min(across, down), max(across, down)
    return (
        smaller > _SMALLEST
        and larger < _LARGEST
        and larger < _SKEWEST * smaller
        and area > 0.7 * across * down
    )


@compiled
def _similarity(picture, other, m):
    """How alike the two are tile by tile, without what is the same all over a tile.

    Whole pictures correlate wherever there is sky above land; inside a tile only the same content
    does. Horizons and fading skies are left in the first part, but not in the second, whose tiles
    lack the mean of each row and column. A quarter of the tiles may be covered.
    """
    n = other.shape[0]
    edge, found = n // _TILES, np.empty(3)
    a, b = np.empty((edge, edge)), np.empty((edge, edge))
    inside = np.empty((edge, edge), np.bool_)
    shares, weights = np.full((2, _TILES * _TILES), np.inf), np.zeros((2, _TILES * _TILES))
    used = 0
    for tile in range(_TILES * _TILES):
        top, left = tile // _TILES * edge, tile % _TILES * edge
        count = 0
        for i in range(edge):
            v = (top + i + 0.5) / n - 0.5
            for j in range(edge):
                inside[i, j] = _value(picture, m, (left + j + 0.5) / n - 0.5, v, found)
                a[i, j] = found[0] if inside[i, j] else 0.0
                b[i, j] = other[top + i, left + j] if inside[i, j] else 0.0
                count += inside[i, j]
        if not count:
            continue
        used += 1
        _take_mean(a, inside, count)
        _take_mean(b, inside, count)
        shares[0, tile], weights[0, tile] = _correlation(a, b, count)
        for _ in range(2):
            for values in (a, b):
                _take_line_means(values, inside)
                _take_line_means(values.T, inside.T)
        shares[1, tile], weights[1, tile] = _correlation(a, b, count)
    total = 0.0
    for part in range(2):
        order = np.argsort(shares[part])[used // 4 : used]
        mean = np.sum(shares[part][order] * weights[part][order]) / np.sum(weights[part][order])
        total += mean * (_OF_TILES if part == 0 else 1 - _OF_TILES)
    return total


@compiled
def _take_mean(values, inside, count):
    mean = np.sum(values) / count
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if inside[i, j]:
                values[i, j] -= mean


@compiled
def _take_line_means(values, inside):
    for i in range(values.shape[0]):
        total, count = 0.0, 0
        for j in range(values.shape[1]):
            total += values[i, j]
            count += inside[i, j]
        for j in range(values.shape[1]):
            if inside[i, j]:
                values[i, j] -= total / count


@compiled
def _correlation(a, b, count):
    """Of values without their mean; and its weight, which grows slowly with contrast."""
    deviations = np.sqrt((np.sum(a * a) / count + _FLAT) * (np.sum(b * b) / count + _FLAT))
    return np.sum(a * b) / count / deviations, count * np.sqrt(deviations)
