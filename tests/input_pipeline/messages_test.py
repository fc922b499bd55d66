"""Lists of names in messages stay short."""

from input_pipeline.messages import shortened


def test_few_names_are_all_given_and_many_are_counted():
    assert shortened([]) == ""
    assert shortened(["a", "b"], shown=2) == "a, b"
    assert shortened(["a", "b", "c", "d"], shown=2) == "a, b and 2 more"
    assert shortened([str(i) for i in range(5_001)], shown=1) == "0 and 5,000 more"


def test_a_list_of_lines_ends_with_a_line_that_counts_the_rest():
    assert shortened(["a", "b", "c"], 2, "\n  ") == "a\n  b\n  and 1 more"
