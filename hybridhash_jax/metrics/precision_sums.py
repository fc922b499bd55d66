"""Average precision from the sizes of the distance groups, compiled by Numba: one query a row.

Notation: the groups before hold N items, R of them relevant, with grades that add up to C; the
group has n, r and c. For plain average precision every relevant item has grade 1, so C = R and
c = r. A cut-off k inside the group leaves it m = k - N places, h of which get relevant items.
"""

import functools

import numpy as np
from jaxtyping import Float64, Int64

from hybridhash_jax.metrics.numba_typed import compiled

# Below, sums are added up place by place: a difference of harmonic numbers, about 13 each, keeps
# only 2e-15 of its last place, which a factor N would blow up.
_FEW_PLACES = 32
_NEGLIGIBLE = 1e-20  # of a probability, against the largest of its distribution

Groups = Int64[np.ndarray, "Q distances"]
Harmonic = Float64[np.ndarray, "places"]


@functools.lru_cache(maxsize=2)  # for all metrics of a database
def harmonic_numbers(count: int) -> Float64[np.ndarray, "places"]:
    """Tabulates H_0..H_count, read-only; summed wider where the machine can, to round once."""
    terms = 1 / np.arange(1, count + 1, dtype=np.longdouble)
    table = np.concatenate([[0.0], np.cumsum(terms).astype(np.float64)])
    table.flags.writeable = False
    return table


@compiled
def expected_precisions(
    items: Groups,
    relevant: Groups,
    grades: Groups,
    places: int,
    harmonic: Harmonic,
    result: Float64[np.ndarray, "Q"],
) -> None:
    """Writes the expectation over the orders inside each group, see `metrics.ranked_precisions`.

    `items`, `relevant` and `grades` are n, r and c of each distance; `places` is k, at most M;
    `harmonic` is `harmonic_numbers(M)`.
    """
    for query in range(items.shape[0]):
        before, found, grade, total = 0, 0, 0, 0.0
        value = -1.0
        for group in range(items.shape[1]):
            n, r, c = items[query, group], relevant[query, group], grades[query, group]
            taken = min(n, places - before)
            if taken == 0:
                continue
            if taken < n:
                value = _cut_group(n, r, c, taken, before, found, grade, total, harmonic)
                break
            if r:
                total += _in_random_order(n, r, c / r, before, grade, harmonic)
            before, found, grade = before + n, found + r, grade + c
        if value < 0:
            value = total / found if found else 0.0
        result[query] = value


@compiled
def bounds(
    items: Groups,
    relevant: Groups,
    places: int,
    harmonic: Harmonic,
    lowest: Float64[np.ndarray, "Q"],
    highest: Float64[np.ndarray, "Q"],
) -> None:
    """Writes the least and the largest AP@places that any order inside the groups gives.

    Arguments are those of `expected_precisions`; `lowest` and `highest` are overwritten.
    """
    for query in range(items.shape[0]):
        before, found = 0, 0
        low, high = 0.0, 0.0
        cut = False
        for group in range(items.shape[1]):
            n, r = items[query, group], relevant[query, group]
            taken = min(n, places - before)
            if taken == 0:
                continue
            if taken < n:
                lowest[query], highest[query] = _cut_bounds(n, r, taken, before, found, low, high)
                cut = True
                break
            low += _in_a_row(r, before + n - r, found, harmonic)
            high += _in_a_row(r, before, found, harmonic)
            before, found = before + n, found + r
        if not cut:
            lowest[query] = low / found if found else 0.0
            highest[query] = high / found if found else 0.0


@compiled
def _inverse_sum(before: int, count: int, harmonic: Harmonic) -> float:
    """Sums 1 / (N + t) over t = 1..count."""
    if count > _FEW_PLACES:
        return harmonic[before + count] - harmonic[before]
    total = 0.0
    for place in range(before + 1, before + count + 1):
        total += 1 / place
    return total


@compiled
def _ramp_sum(before: int, count: int, inverse: float) -> float:
    """Sums (t - 1) / (N + t) over t = 1..count; `inverse` is `_inverse_sum`."""
    if count > _FEW_PLACES:
        return count - (before + 1) * inverse
    total = 0.0
    for t in range(1, count):
        total += t / (before + t + 1)
    return total


@compiled
def _in_random_order(
    n: int, h: int, mean: float, before: int, grade: int, harmonic: Harmonic
) -> float:
    """(h/n) sum over t = 1..n of [C + g + (t-1) g (h-1)/(n-1)] / (N+t), g the mean grade."""
    inverse = _inverse_sum(before, n, harmonic)
    total = (grade + mean) * inverse
    if h > 1:
        total += mean * (h - 1) / (n - 1) * _ramp_sum(before, n, inverse)
    return h / n * total


@compiled
def _cut_group(
    n: int,
    r: int,
    c: int,
    taken: int,
    before: int,
    found: int,
    grade: int,
    total: float,
    harmonic: Harmonic,
) -> float:
    """E over h of [(A + part of h) / (R + h)], h hypergeometric(n, r, m), A = `total`.

    Probabilities are the products of the ratios of neighbours, outward from the mode: no
    factorials, and the tails may be left out where they are negligible.
    """
    low, high = max(0, taken - (n - r)), min(r, taken)
    mode = min(max((taken + 1) * (r + 1) // (n + 2), low), high)
    inverse = _inverse_sum(before, taken, harmonic)
    ramp = _ramp_sum(before, taken, inverse)
    mean = c / r if r else 0.0
    level, slope = (grade + mean) * inverse, mean / max(taken - 1, 1) * ramp
    mass, value = 0.0, 0.0
    share, h = 1.0, mode
    while h <= high and share > _NEGLIGIBLE:
        mass += share
        if found + h:
            value += share * (total + h / taken * (level + slope * (h - 1))) / (found + h)
        share *= (r - h) * (taken - h) / ((h + 1) * (n - r - taken + h + 1))
        h += 1
    share, h = 1.0, mode
    while h > low:
        share *= h * (n - r - taken + h) / ((r - h + 1) * (taken - h + 1))
        h -= 1
        if share <= _NEGLIGIBLE:
            break
        mass += share
        if found + h:
            value += share * (total + h / taken * (level + slope * (h - 1))) / (found + h)
    return value / mass


@compiled
def _in_a_row(count: int, before: int, found: int, harmonic: Harmonic) -> float:
    """Sums (R + t) / (N + t) over t = 1..count: relevant items one after the other."""
    if count > _FEW_PLACES:
        return count - (before - found) * _inverse_sum(before, count, harmonic)
    total = 0.0
    for t in range(1, count + 1):
        total += (found + t) / (before + t)
    return total


@compiled
def _cut_bounds(
    n: int, r: int, taken: int, before: int, found: int, low: float, high: float
) -> tuple[float, float]:
    """Extremes over h, the relevant items among the m taken: they lie last, or first.

    AP@k divides by the relevant items found, so that one more at a late place may lower it;
    hence neither extreme need be at the least or the largest h.
    """
    least, most = max(0, taken - (n - r)), min(r, taken)
    lowest, highest = np.inf, -np.inf
    first, inverse = high, 0.0  # with h relevant items: A + sum of (R+t)/(N+t); 1/(N+m-h+1) + ...
    for h in range(most + 1):
        if h:
            first += (found + h) / (before + h)
            inverse += 1 / (before + taken - h + 1)
        if h < least:
            continue
        if found + h == 0:
            lowest, highest = 0.0, 0.0
            continue
        last = low + h - (before + taken - h - found) * inverse
        lowest, highest = min(lowest, last / (found + h)), max(highest, first / (found + h))
    return lowest, highest
