"""Who leads, by numbers computed by hand; ranks; groups that are never mixed."""

import pytest

from hybridhash_jax.comparison.table import leaders, make_blocks, ranks
from tests.comparison.small_comparison import cell


@pytest.mark.parametrize(
    ("best", "second", "leads"),
    [
        # .80 +- .02 and .77 +- .01: the lead .03 exceeds .02.
        ([0.78, 0.80, 0.82], [0.76, 0.77, 0.78], True),
        # .80 +- .01 and .77 +- .04: it does not exceed the second's.
        ([0.79, 0.80, 0.81], [0.73, 0.77, 0.81], False),
        # .80 +- .04 and .77 +- .01: nor its own.
        ([0.76, 0.80, 0.84], [0.76, 0.77, 0.78], False),
        ([0.80], [0.70], False),  # of one seed no deviation is known
        ([0.80, 0.80], [0.80, 0.80], False),
    ],
)
def test_the_best_leads_only_by_more_than_both_deviations(best, second, leads):
    cells = [cell("a", 16, second), cell("b", 16, best), cell("c", 16, [0.1, 0.2, 0.3])]
    assert leaders(cells) == ({16: "b"} if leads else {})


def test_a_method_that_lacks_seeds_leads_nothing_and_says_so():
    cells = [cell("a", 16, [0.7, 0.7], seeds_missing=1), cell("b", 16, [0.5, 0.5, 0.5])]
    assert leaders(cells) == {}
    first, second = make_blocks(cells, [16])[0]["rows"]
    assert (first["cells"][0]["partly"], second["cells"][0]["partly"]) == ("2 of 3 seeds", "")
    cells = [cell("a", 16, [0.4, 0.4], seeds_missing=1), cell("b", 16, [0.5, 0.5, 0.5])]
    assert leaders(cells) == {16: "b"}


def test_one_method_alone_leads_nothing():
    assert leaders([cell("a", 16, [0.5, 0.5])]) == {}


def test_each_length_has_its_own_leader():
    cells = [
        cell("a", 16, [0.5, 0.5]), cell("b", 16, [0.6, 0.6]),
        cell("a", 32, [0.7, 0.7]), cell("b", 32, [0.6, 0.6]),
    ]  # fmt: skip
    assert leaders(cells) == {16: "b", 32: "a"}


def test_groups_of_other_labels_are_apart_and_have_their_own_leader():
    cells = [
        cell("a", 16, [0.5, 0.5]),
        cell("b", 16, [0.4, 0.4]),
        cell("c", 16, [0.9, 0.9], supervision="database"),
        cell("d", 16, [0.2, 0.2], supervision="none"),
    ]
    blocks = make_blocks(cells, [16])
    assert [block["supervision"] for block in blocks] == ["train", "database", "none"]
    leading = [
        row["method"] for block in blocks for row in block["rows"] if row["cells"][0]["leads"]
    ]
    assert leading == ["a"]  # the best of all is alone in its group


def test_the_best_row_comes_first_and_a_missing_length_leaves_a_gap():
    cells = [
        cell("a", 16, [0.5, 0.5]), cell("a", 32, [0.5, 0.5]),
        cell("b", 16, [0.9, 0.9]),
        cell("c", 16, [0.6, 0.6]), cell("c", 32, [0.7, 0.7]),
    ]  # fmt: skip
    (block,) = make_blocks(cells, [16, 32])
    assert [row["method"] for row in block["rows"]] == ["c", "a", "b"]
    assert block["rows"][2]["cells"][1] is None


def test_equal_means_share_their_rank():
    cells = [cell("a", 16, [0.5]), cell("b", 16, [0.7]), cell("c", 16, [0.5]), cell("a", 32, [0.1])]
    assert ranks(cells) == {"b": {16: 1.0}, "a": {16: 2.5, 32: 1.0}, "c": {16: 2.5}}


def test_only_the_first_group_is_ranked():
    cells = [
        cell("a", 16, [0.5]), cell("b", 16, [0.7]),
        cell("adsh", 16, [0.9], supervision="database"), cell("itq", 16, [0.6], supervision="none"),
    ]  # fmt: skip
    assert ranks(cells) == {"b": {16: 1.0}, "a": {16: 2.0}}
    assert ranks(cells[2:]) == {"adsh": {16: 1.0}}
