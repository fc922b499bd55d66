import numpy as np

from input_pipeline.near_duplicates.groups import make_groups


def groups(pairs, exact=()):
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return make_groups(first, second, np.array([pair in exact for pair in pairs], bool))


def test_all_of_a_group_are_paired_with_its_first():
    pairs = [(0, 1), (0, 2), (5, 6)]
    made = groups(pairs)
    assert made.members == [[0, 1, 2], [5, 6]]
    assert made.of_pairs.tolist() == [0, 0, 1]


def test_a_chain_joins_no_more_than_what_is_like_its_founder():
    # 0 - 1 - 2 - 3 - 4: 0 and 4 have nothing in common.
    made = groups([(0, 1), (1, 2), (2, 3), (3, 4)])
    assert made.members == [[1, 0, 2], [3, 4]]
    assert made.of_pairs.tolist() == [0, 0, -1, 1]


def test_what_lost_its_pairs_to_others_is_in_no_group():
    made = groups([(0, 1), (0, 2), (0, 3), (3, 4)])
    assert made.members == [[0, 1, 2, 3]]
    assert made.of_pairs.tolist() == [0, 0, 0, -1]


def test_copies_stay_together():
    # 3 is a copy of 2, and only 2 is paired with the founder 0.
    pairs = [(0, 1), (0, 2), (2, 3)]
    made = groups(pairs, exact=[(2, 3)])
    assert made.members == [[0, 1, 2, 3]]


def test_no_pairs_make_no_groups():
    assert groups([]).members == []
