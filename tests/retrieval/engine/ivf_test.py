"""Lists of similar codes: the recall that was measured, exact where they cannot answer."""

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings

from hybridhash_jax.retrieval.engine import Nearest, nearest
from hybridhash_jax.retrieval.engine.ivf import Ivf, IvfError, load
from hybridhash_jax.retrieval.engine.ivf_build import build
from tests.retrieval.engine.reference import assert_same, brute_force, codes_of, searches

ROWS, K = 20_000, 10


def clustered(rows: int, words: int, seed: int = 0) -> np.ndarray:
    """Codes around 50 centres, each bit of which differs with probability .08."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2, (50, 64 * words), np.uint8)
    bits = centres[rng.integers(0, 50, rows)] ^ (rng.random((rows, 64 * words)) < 0.08)
    return np.packbits(bits, axis=1).view(np.uint64)


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return clustered(ROWS, 1)


@pytest.fixture(scope="module")
def ivf(codes) -> Ivf:
    return build([codes], recall=0.95, k=K, made_of="a")


def with_all_lists(ivf: Ivf) -> Ivf:
    ivf.faiss_index.nprobe = ivf.lists
    return dataclasses.replace(ivf, probes=ivf.lists)


def approximate(found: Nearest) -> Nearest:
    return dataclasses.replace(found, exact=False)


def test_the_recall_is_reached_with_fewer_lists_than_there_are(codes, ivf):
    assert ivf.lists == 141
    assert 0.95 <= ivf.recall < 1
    assert 1 <= ivf.probes < ivf.lists / 4
    rng = np.random.default_rng(5)
    queries = codes[rng.integers(0, ROWS, 200)] ^ (
        np.uint64(1) << rng.integers(0, 64, (200, 1)).astype(np.uint64)
    )
    shares = []
    for query in queries:
        last = nearest([codes], query, K).distances[-1]
        shares.append((ivf.search([codes], query, K).distances <= last).mean())
    assert abs(np.mean(shares) - ivf.recall) < 0.04


def test_a_higher_target_takes_more_lists_and_is_reached(codes):
    targets = (0.5, 0.999, 1.0)
    built = [build([codes], recall=target, k=K) for target in targets]
    assert all(ivf.recall >= target for ivf, target in zip(built, targets, strict=True))
    assert built[0].probes < built[1].probes <= built[2].probes
    assert built[0].recall < 0.999


def test_a_query_does_not_find_itself_when_recall_is_measured():
    unlike = codes_of(3, 3_000, 1, 64)  # in its own list there is hardly another one near
    assert build([unlike], recall=0.5, k=1).probes > 1


def test_the_same_seed_builds_the_same_lists(codes, ivf):
    again = build([codes], recall=0.95, k=K, made_of="a")
    assert (again.probes, again.recall) == (ivf.probes, ivf.recall)
    assert_same(again.search([codes], codes[3], K), ivf.search([codes], codes[3], K))


@settings(max_examples=20)
@given(searches())
def test_over_all_lists_it_equals_the_exact_scan_with_its_ties(search):
    codes, query, k, radius, mask = search
    if not len(codes):
        return
    half = max(len(codes) // 2, 1)
    ivf = with_all_lists(build([codes[:half]], lists=min(3, half), k=3, num_queries=5))
    found = ivf.search(np.split(codes, [len(codes) // 3]), query, k, radius, mask)
    expected = brute_force(codes, query, k, radius, mask)
    assert_same(dataclasses.replace(found, exact=True), expected)


def test_a_filter_is_answered_from_the_lists_or_said_to_be_exact(codes, ivf):
    half = np.arange(ROWS) % 2 == 0
    found = ivf.search([codes], codes[5], K, mask=half)
    assert len(found) == K and half[found.rows].all() and not found.exact
    few = np.arange(ROWS) % 1_000 == 0
    assert_same(
        ivf.search([codes], codes[5], K, mask=few), brute_force(codes, codes[5], K, mask=few)
    )


def test_a_radius_does_not_hide_that_the_lists_hold_too_few(codes, ivf):
    few = np.arange(ROWS) % 100 == 0
    found = ivf.search([codes], codes[5], 150, radius=64, mask=few)
    assert_same(found, brute_force(codes, codes[5], 150, mask=few))
    near = ivf.search([codes], codes[5], 150, radius=3, mask=few)
    assert not near.exact and (near.distances <= 3).all()


def test_more_than_the_lists_hold_is_searched_exactly(codes, ivf):
    assert_same(ivf.search([codes], codes[5], ROWS // 2), brute_force(codes, codes[5], ROWS // 2))


def test_rows_added_since_are_found(codes, ivf):
    query = codes[5]
    new = np.stack([~query, query])
    found = ivf.search([codes, new], query, K)
    assert found.rows[0] == 5 and found.distances[1] == 0 and ROWS + 1 in found.rows
    mask = np.ones(ROWS + 2, np.bool_)
    mask[ROWS + 1] = False
    assert ROWS + 1 not in ivf.search([codes, new], query, K, mask=mask).rows


def test_rows_left_out_when_built_are_not_in_the_lists():
    codes = clustered(2_000, 2)
    mask = np.arange(2_000) >= 1_000
    ivf = with_all_lists(build([codes[:900], codes[1_000:]], mask, [0, 1_000], k=K))
    found = ivf.search([codes[:900], codes[1_000:]], codes[7], 20, mask=mask, first_rows=[0, 1_000])
    assert_same(found, approximate(brute_force(codes, codes[7], 20, mask=mask)))


def test_what_was_saved_finds_the_same(codes, ivf, tmp_path):
    ivf.save(tmp_path / "ivf")
    again = load(tmp_path / "ivf", 1)
    assert dataclasses.replace(again, faiss_index=None) == dataclasses.replace(
        ivf, faiss_index=None
    )
    for row in range(0, ROWS, 2_000):
        assert_same(again.search([codes], codes[row], K), ivf.search([codes], codes[row], K))


@pytest.mark.parametrize("place", [-1, -200, 200, 100])
def test_a_damaged_file_is_refused(ivf, tmp_path, place):
    ivf.save(tmp_path / "ivf")
    data = bytearray((tmp_path / "ivf").read_bytes())
    data[place] ^= 1
    (tmp_path / "ivf").write_bytes(data)
    with pytest.raises(IvfError, match="ivf is damaged: its checksum differs; build it again"):
        load(tmp_path / "ivf", 1)


def test_a_file_cut_short_or_of_something_else_is_refused(ivf, tmp_path):
    path = tmp_path / "ivf"
    ivf.save(path)
    whole = path.read_bytes()
    for content, message in [
        (whole[:-9], "damaged"),
        (b"", "holds no lists of codes"),
        (b"\x93NUMPY\n\n", "holds no lists of codes"),
        (whole.replace(b"format 1", b"format 7"), "of format 7, this program reads 1"),
    ]:
        path.write_bytes(content)
        with pytest.raises(IvfError, match=message):
            load(path, 1)
    with pytest.raises(IvfError, match="missing cannot be read"):
        load(tmp_path / "missing", 1)


def test_lists_of_other_codes_are_refused(codes, ivf, tmp_path):
    ivf.save(tmp_path / "ivf")
    with pytest.raises(IvfError, match="built from codes of 1 words; asked for 2"):
        load(tmp_path / "ivf", 2)
    with pytest.raises(IvfError, match="20000 codes of 1 words, which 9 of 1 words cannot hold"):
        ivf.search([codes[:9]], codes[0], K)


def test_without_faiss_the_message_says_what_to_install(codes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        IvfError, match="needs faiss, which is not installed: pip install faiss-cpu"
    ):
        build([codes], lists=4)
    with pytest.raises(IvfError, match="requirements-search.txt"):
        load(tmp_path / "ivf", 1)


@pytest.mark.parametrize(
    ("given_here", "message"),
    [
        ({"lists": 0}, "5 codes cannot be sorted into 0 lists"),
        ({"lists": 6}, "5 codes cannot be sorted into 6 lists; give 1 to 5"),
        ({"recall": 99}, "recall must be above 0 and at most 1; got 99"),
        ({"mask": np.zeros(5, np.bool_)}, "0 codes cannot be sorted into 1 lists"),
    ],
)
def test_what_cannot_be_built_is_refused(given_here, message):
    with pytest.raises(IvfError, match=message):
        build([codes_of(0, 5, 1, 9)], **given_here)
    with pytest.raises(IvfError, match="there are no codes"):
        build([])
