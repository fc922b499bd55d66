"""MDSHC's centres: how far apart codes can be asked to be, and moving them until they are.

The Gilbert-Varshamov bound says at which least distance d there are codes for all classes. One code
b after the other is then moved, against the others H [classes - 1, K]: minimise the mean of H b
over b in {-1, +1}^K with H b <= K - 2 d, by the lp-box method of multipliers (Wu & Ghanem, 2019),
in which b lies in a cube and on a sphere at once.
"""

import collections
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hybridhash_jax.methods.central.centres import distance_score, too_near
from input_pipeline.permutation import random_words

_FIRST_PENALTY, _GROWTH = 1e-5, 1.09
_STEP = (1 + math.sqrt(5)) / 2  # of the multipliers
_INNER, _OUTER = 10, 250  # iterations at one penalty, and penalties; about 100 are enough
_TOLERANCE = 1e-6
_SWEEPS = 5
_BUDGET = 4 * 10**9  # multiplications that `separate` may take, of about 1,000 iterations a code

Multipliers = tuple[np.ndarray, np.ndarray, np.ndarray]


def gilbert_varshamov_distance(num_classes: int, bits: int) -> int:
    """The least d with classes * (C(K, 0) + ... + C(K, d - 1)) >= 2^K; exact, and no more than K."""
    words, distance = 0, 0
    while num_classes * words < 2**bits:
        words += math.comb(bits, distance)
        distance += 1
    return min(distance, bits)


def separate(codes: np.ndarray, distance: int, seed: int = 0) -> np.ndarray:
    """Codes [classes, K] of -1 and +1, int8, with a least distance of `distance`, or the best found.

    Those that are far enough stay. Otherwise codes with a neighbour too near are moved, in up to 5
    sweeps and as many as a budget allows, and the best codes met are kept: by least distance, then
    mean, then variance of the distances. (In the authors' code a moved code is dropped again
    wherever the method of multipliers ends before its last penalty, so that most stay as they were.)
    """
    num_classes, bits = codes.shape
    if num_classes > 2**bits:
        return codes  # some are equal, whatever is done
    best, best_score = codes, distance_score(codes)
    most = _BUDGET // (1000 * num_classes * bits)
    for sweep in range(_SWEEPS):
        rows = too_near(codes, distance)[:most]
        if best_score[0] >= distance or not len(rows):
            break
        most -= len(rows)
        codes = move_codes(
            codes, distance, rows, _first_multipliers(codes.shape, rows, seed, sweep)
        )
        score = distance_score(codes)
        if score > best_score:
            best, best_score = codes, score
    return best


def _first_multipliers(
    shape: tuple[int, int], rows: np.ndarray, seed: int, sweep: int
) -> list[Multipliers]:
    """Of each row's three constraints, uniform in [0, 1)."""
    num_classes, bits = shape
    size = 2 * bits + num_classes - 1
    drawn: list[Multipliers] = []
    for row in rows:
        words = random_words(size, seed, sweep, int(row))
        uniform: np.ndarray = (words >> np.uint64(11)).astype(np.float64) / 2**53
        drawn.append((uniform[:bits], uniform[bits : 2 * bits], uniform[2 * bits :]))
    return drawn


def move_codes(
    codes: np.ndarray, distance: int, rows: np.ndarray, multipliers: list[Multipliers]
) -> np.ndarray:
    """The codes after each of `rows` was moved, in turn, against all others as they then are."""
    moved = codes.astype(np.float64)
    for row, start in zip(rows, multipliers, strict=True):
        moved[row] = move_code(moved[row], np.delete(moved, row, axis=0), distance, start)
    return moved.astype(np.int8)


def move_code(
    code: np.ndarray, others: np.ndarray, distance: int, multipliers: Multipliers
) -> np.ndarray:
    """One code [K] moved away from the others [classes - 1, K], -1 and +1, float64."""
    (last,) = collections.deque(iterations(code, others, distance, multipliers), maxlen=1)
    return np.where(last.b >= 0, 1.0, -1.0)


class Iteration(NamedTuple):
    """What an iteration leaves; at its end b is a code, and lies in the cube and on the sphere."""

    b: np.ndarray  # [K]
    cube: np.ndarray  # [K], the next point of [-1, 1]^K
    sphere: np.ndarray  # [K], the next point of length sqrt(K)
    slack: np.ndarray  # [classes - 1], by how much the distances exceed what is asked for
    multipliers: Multipliers  # of these three
    penalty: float


def iterations(
    code: np.ndarray, others: np.ndarray, distance: int, multipliers: Multipliers
) -> Iterator[Iteration]:
    """The iterations by which a code is moved; see the module, and `move_code`."""
    bits, limit = len(code), len(code) - 2 * distance
    mean: np.ndarray = others.mean(axis=0) if len(others) else np.zeros(bits)
    inverse: np.ndarray = np.linalg.inv(2 * np.eye(bits) + others.T @ others)
    of_cube, of_sphere, of_others = multipliers
    cube, sphere, slack = code, code, limit - others @ np.sign(code)
    residual, penalty = math.inf, _FIRST_PENALTY
    for number in range(_INNER * _OUTER):
        if number and number % _INNER == 0:
            if residual < _TOLERANCE:
                return
            penalty *= _GROWTH
        pull = cube + sphere + others.T @ (limit - slack - of_others / penalty)
        b: np.ndarray = inverse @ (pull - (of_cube + of_sphere + mean) / penalty)
        products: np.ndarray = others @ b
        cube = np.clip(b + of_cube / penalty, -1, 1)
        sphere = b + of_sphere / penalty
        sphere = sphere * (math.sqrt(bits) / max(float(np.linalg.norm(sphere)), 1e-30))
        slack = np.maximum(limit - products - of_others / penalty, 0)
        residuals = b - cube, b - sphere, products + slack - limit
        step = _STEP * penalty
        of_cube = of_cube + step * residuals[0]
        of_sphere = of_sphere + step * residuals[1]
        of_others = of_others + step * residuals[2]
        residual = max(float(np.abs(x).max(initial=0)) for x in residuals)
        yield Iteration(b, cube, sphere, slack, (of_cube, of_sphere, of_others), penalty)
