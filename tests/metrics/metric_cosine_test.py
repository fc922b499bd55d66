"""Mean average precision of cosine rankings: by definition, as codes have it, and in any block."""

import itertools
import tracemalloc

import numpy as np
import pytest

from hybridhash_jax import metrics
from hybridhash_jax.metrics import cosine


def precision_by_orders(similarity: np.ndarray, relevant: np.ndarray, top_k: int) -> float:
    """AP@k by its definition: the mean over all orders of equal similarities, place by place."""
    groups = [relevant[similarity == s] for s in sorted(set(similarity.tolist()), reverse=True)]
    found = []
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        order = np.concatenate([np.asarray(part) for part in parts])[:top_k]
        places = np.flatnonzero(order) + 1
        found.append((np.arange(1, len(places) + 1) / places).sum() / max(len(places), 1))
    return float(np.mean(found))


def vectors(count: int, width: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(dtype)


@pytest.mark.parametrize("top_k", [1, 3, 6, 7, None])
def test_it_is_the_definition_with_equal_similarities_in_every_order(top_k):
    # Lengths of any size; items 1, 4 and 5 have the direction of item 0, item 6 has none.
    database = vectors(7, 5, 1)
    for row, length in ((1, 3.0), (4, 1e-3), (5, 700.0)):
        database[row] = length * database[0]
    database[6] = 0
    labels = (np.random.default_rng(2).random((7, 4)) < 0.4).astype(int)
    query, query_labels = vectors(20, 5, 3), np.eye(4, dtype=int)[np.arange(20) % 4]
    found = metrics.cosine_average_precisions(query, query_labels, database, labels, top_k)
    norms = np.linalg.norm(database.astype(float), axis=1)
    exact = query.astype(float) @ database.T.astype(float) / np.where(norms, norms, 1)
    exact /= np.linalg.norm(query.astype(float), axis=1)[:, None]
    for row in range(20):
        relevant = (labels @ query_labels[row] > 0).astype(int)
        by_definition = precision_by_orders(exact[row].round(6), relevant, top_k or 7)
        assert found[row] == pytest.approx(by_definition, abs=1e-12)


# 128 bits: similarities lie half way between two steps of 1e-6.
@pytest.mark.parametrize("bits", [12, 64, 128])
@pytest.mark.parametrize("top_k", [None, 1, 50, 299])
@pytest.mark.parametrize("several", [False, True])
def test_codes_rank_as_their_hamming_distances_do(bits, top_k, several):
    rng = np.random.default_rng(bits)
    query, database = (rng.choice([-1, 1], (count, bits)) for count in (30, 300))
    labels = rng.integers(0, 4, 330)
    if several:
        labels = (rng.random((330, 70)) < 0.05).astype(np.uint8)
        labels[0] = 0  # a query without anything relevant counts 0
    expected = metrics.average_precisions(query, labels[:30], database, labels[30:], top_k)
    found = metrics.cosine_average_precisions(
        query.astype(np.float32), labels[:30], database.astype(np.float16), labels[30:], top_k
    )
    np.testing.assert_array_equal(found, expected)
    assert not several or found[0] == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_blocks_types_and_lengths_of_vectors_change_nothing(monkeypatch, dtype):
    query, database = vectors(40, 16, 1, np.float16), vectors(500, 16, 2, np.float16)
    labels = np.arange(540) % 3
    whole = metrics.cosine_average_precisions(query, labels[:40], database, labels[40:], 100)
    monkeypatch.setattr(cosine, "_PAIRS", 7 * 500)
    monkeypatch.setattr(cosine, "_NUMBERS", 33 * 16)
    factor = 1 if dtype == np.float16 else 2.0**60
    found = metrics.cosine_average_precisions(
        query.astype(dtype), labels[:40], database.astype(dtype) * factor, labels[40:], 100
    )
    np.testing.assert_allclose(found, whole, atol=1e-3)  # a product's last digit
    assert abs(found.mean() - whole.mean()) < 1e-5


def test_numbers_beyond_the_range_of_a_product_are_ranked():
    query, database = vectors(5, 8, 1, np.float64), vectors(50, 8, 2, np.float64)
    labels = np.arange(55) % 3
    whole = metrics.cosine_average_precisions(query, labels[:5], database, labels[5:])
    for factor in (1e-30, 1e30):
        found = metrics.cosine_average_precisions(
            query * factor, labels[:5], database * factor, labels[5:]
        )
        np.testing.assert_allclose(found, whole, atol=1e-3)


@pytest.mark.parametrize("first", [0, 1])
def test_vectors_that_are_not_finite_are_counted_and_the_first_is_named(first):
    sides = [vectors(4, 3), vectors(9, 3)]
    sides[first][2, 1], sides[first][3, 0] = np.nan, np.inf
    name = ("query", "database")[first]
    message = f"2 of {len(sides[first])} {name} vectors have NaN or infinite.*row 2;"
    with pytest.raises(ValueError, match=message):
        metrics.cosine_average_precisions(sides[0], np.zeros(4, int), sides[1], np.zeros(9, int))


@pytest.mark.parametrize(
    ("query", "labels", "database", "message"),
    [
        (vectors(4, 3), 4, vectors(9, 2), "query vectors have 3 dimensions and those of the data"),
        (vectors(4, 3), 5, vectors(9, 3), "query has 4 vectors and query_labels has 5 rows"),
        (vectors(4, 3)[0], 3, vectors(9, 3), r"query must be numbers .* shape \(3,\) of float32"),
        (vectors(0, 3), 0, vectors(9, 3), r"query must be numbers .* shape \(0, 3\)"),
        (vectors(4, 3), 4, vectors(9, 3).astype(object), "database must be numbers .* of object"),
        (vectors(4, 3), 4, vectors(9, 3) * 1j, "database must be numbers .* of complex"),
    ],
)
def test_what_cannot_be_ranked_is_refused(query, labels, database, message):
    with pytest.raises(ValueError, match=message):
        metrics.cosine_average_precisions(query, np.zeros(labels, int), database, np.zeros(9, int))


def test_a_cut_off_is_checked_as_everywhere():
    with pytest.raises(ValueError, match="top_k must be a whole number"):
        metrics.cosine_average_precisions(vectors(2, 3), [0, 1], vectors(2, 3), [0, 1], 0)


def test_memory_holds_one_block_of_products(tmp_path, monkeypatch):
    monkeypatch.setattr(cosine, "_PAIRS", 1 << 20)
    monkeypatch.setattr(cosine, "_NUMBERS", 1 << 18)
    np.save(tmp_path / "features.npy", vectors(20_000, 64, dtype=np.float16))
    features = np.load(tmp_path / "features.npy", mmap_mode="r")
    labels = np.arange(20_000) % 5
    metrics.cosine_average_precisions(features[:1], labels[:1], features[:9], labels[:9])
    tracemalloc.start()
    try:
        metrics.cosine_average_precisions(features[:400], labels[:400], features, labels)
        # Products take 4 MiB, chunks 1; all pairs would take 32 MB, all vectors 5.
        assert tracemalloc.get_traced_memory()[1] < 12e6
    finally:
        tracemalloc.stop()
