"""Lists of names in messages stay short, and whatever letters they have can be shown."""

import io
import sys

from input_pipeline.messages import shortened, show_any_letter


def test_letters_that_a_terminal_lacks_are_shown_as_escapes(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    show_any_letter()
    print("caf\u00e9 \udce9 a", flush=True)
    assert shown.getvalue().split() == [rb"caf\xe9", rb"\udce9", b"a"]


def test_few_names_are_all_given_and_many_are_counted():
    assert shortened([]) == ""
    assert shortened(["a", "b"], shown=2) == "a, b"
    assert shortened(["a", "b", "c", "d"], shown=2) == "a, b and 2 more"
    assert shortened([str(i) for i in range(5_001)], shown=1) == "0 and 5,000 more"


def test_a_list_of_lines_ends_with_a_line_that_counts_the_rest():
    assert shortened(["a", "b", "c"], 2, "\n  ") == "a\n  b\n  and 1 more"
