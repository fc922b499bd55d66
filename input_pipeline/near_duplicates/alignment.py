"""Lays one picture over another and says how alike they are where they overlap.

From the place where a view puts it, the picture is moved by least squares (Lucas and Kanade, "An
iterative image registration technique", 1981) with all affine movements, brightness and contrast;
pixels that do not fit, such as a caption's, count less.
"""

import numpy as np

from input_pipeline.compiled import compiled

SIDE = 64  # of a picture
_SMALL = SIDE // 2  # as which the other picture is compared
_UNKNOWNS = 8  # contrast, brightness, and six of the movement
_STEPS = 12
_TILES = 4  # a side
# Of the pixels of the other picture, that must lie on this one.
_LEAST_OVERLAP = 0.6
# A variance that is no content, in grey levels squared: noise, and what JPEG leaves of a flat sky.
_FLAT = 4.0
# Crops smaller than this side are compared with the whole resolution of the picture.
_FINE_BELOW = 0.75
# Beyond these a picture is folded onto a line rather than moved.
_SMALLEST, _LARGEST, _SKEWEST = 0.3, 2.0, 2.0


def reduced(pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 [N, 64, 64] at half their size, as float32."""
    shape = (len(pictures), _SMALL, 2, _SMALL, 2)
    return pictures.reshape(shape).mean(axis=(2, 4), dtype=np.float32)


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
    rows, pairs_first = np.unique(pairs[:, 0], return_inverse=True)
    columns, pairs_second = np.unique(pairs[:, 1], return_inverse=True)
    fine = pictures[rows]
    _compare(fine.astype(np.float32), reduced(fine), reduced(others[columns]),
             np.column_stack([pairs_first, pairs_second]), starts.astype(np.float64), out)  # fmt: skip
    return out


@compiled
def _compare(fine, coarse, others, pairs, starts, out):
    seen = np.empty((_SMALL, _SMALL))
    for k in range(len(pairs)):
        first, second = pairs[k, 0], pairs[k, 1]
        start = starts[k].copy()
        size = np.sqrt(abs(start[0, 0] * start[1, 1] - start[0, 1] * start[1, 0]))
        picture = fine[first] if size < _FINE_BELOW else coarse[first]
        out[k] = -1.0
        if _align(picture, others[second], start) and _is_movement(start):
            out[k] = _similarity(picture, others[second], start, seen)


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
def _align(picture, other, m):
    """Moves `m` until other = contrast * picture(m) + brightness; False where that cannot be."""
    n = other.shape[0]
    square, right = np.empty((_UNKNOWNS, _UNKNOWNS)), np.empty(_UNKNOWNS)
    f, found = np.empty(_UNKNOWNS), np.empty(3)
    contrast, brightness, usual = 1.0, 0.0, 0.0
    for step in range(_STEPS):
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
def _similarity(picture, other, m, seen):
    """The correlation of what is left after each tile's mean, of the best three quarters of tiles.

    Whole pictures correlate wherever there is sky above land; inside a tile only the same content
    does. A quarter of the tiles may be covered.
    """
    n = other.shape[0]
    tiles, found = _TILES * _TILES, np.empty(3)
    sums, edge = np.zeros((tiles, 6)), n // _TILES
    for i in range(n):
        for j in range(n):
            if not _value(picture, m, (j + 0.5) / n - 0.5, (i + 0.5) / n - 0.5, found):
                continue
            a, b = found[0], float(other[i, j])
            t = sums[(i // edge) * _TILES + j // edge]
            t[0] += 1
            t[1] += a
            t[2] += b
            t[3] += a * a
            t[4] += b * b
            t[5] += a * b
    shares, weights = np.full(tiles, np.inf), np.zeros(tiles)
    used = 0
    for k in range(tiles):
        count = sums[k, 0]
        if count:
            mean_a, mean_b = sums[k, 1] / count, sums[k, 2] / count
            of_a = sums[k, 3] / count - mean_a * mean_a + _FLAT
            of_b = sums[k, 4] / count - mean_b * mean_b + _FLAT
            weights[k] = count * np.sqrt(of_a * of_b)
            shares[k] = count * (sums[k, 5] / count - mean_a * mean_b) / weights[k]
            used += 1
    order = np.argsort(shares)[:used][used // 4 :]
    return np.sum(shares[order] * weights[order]) / np.sum(weights[order])
