"""Small random rankings, and metrics by their definitions, place by place and order by order."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from hybridhash_jax import metrics


@dataclass(frozen=True, eq=False)
class Case:
    """One query (all +1, labels 0..2) against random codes and labels, and a cut-off."""

    codes: np.ndarray
    labels: np.ndarray
    top_k: int

    @property
    def distance(self) -> np.ndarray:
        return (self.codes != 1).sum(axis=1)

    @property
    def grades(self) -> np.ndarray:
        """How many labels each item shares with the query."""
        return self.labels[:, :3].sum(axis=1)

    def rank(self, order: np.ndarray | slice = slice(None)) -> metrics.Ranking:
        query = np.ones((1, self.codes.shape[1])), [[1, 1, 1, 0]]
        return metrics.rank(*query, self.codes[order], self.labels[order])

    def orders(self) -> Iterator[np.ndarray]:
        """Grades by place, for every order of the items that distance allows."""
        groups = [self.grades[self.distance == d] for d in np.unique(self.distance)]
        for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
            yield np.array([grade for part in parts for grade in part])

    def over_orders(self, metric: Callable[[np.ndarray, int], float]) -> np.ndarray:
        return np.array([metric(grades, self.top_k) for grades in self.orders()])


@st.composite
def cases(draw: st.DrawFn, most: int = 6, bits: int = 3) -> Case:
    width, size = draw(st.integers(1, bits)), draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    codes = rng.integers(0, 2, (size, width)) * 2 - 1
    labels = (rng.random((size, 4)) < draw(st.sampled_from([0.1, 0.3, 0.6]))).astype(int)
    return Case(codes, labels, draw(st.integers(1, size)))


def precision_by_place(grades: np.ndarray, top_k: int) -> float:
    """AP@k: the mean of the precisions at the relevant places."""
    found = [place for place, grade in enumerate(grades[:top_k], 1) if grade]
    return sum(i / place for i, place in enumerate(found, 1)) / max(len(found), 1)


def weighted_by_place(grades: np.ndarray, top_k: int) -> float:
    """The same with the mean grade so far in place of the precision."""
    found = [place for place, grade in enumerate(grades[:top_k], 1) if grade]
    return sum(grades[:place].sum() / place for place in found) / max(len(found), 1)


def ndcg_by_place(grades: np.ndarray, top_k: int) -> float:
    def gain(ordered: np.ndarray) -> float:
        return sum((2.0**g - 1) / np.log2(p + 1) for p, g in enumerate(ordered[:top_k], 1))

    best = gain(np.sort(grades)[::-1])
    return gain(grades) / best if best else 0.0
