"""Lists of names in messages stay short, and whatever letters they have can be shown."""

import io
import sys

import pytest

from input_pipeline.commands import run_command
from input_pipeline.messages import ensure_utf8, one_line, shortened, show_any_letter


def test_letters_that_a_terminal_lacks_are_shown_as_escapes(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    show_any_letter()
    print("caf\u00e9 \udce9 a", flush=True)
    assert shown.getvalue().split() == [rb"caf\xe9", rb"\udce9", b"a"]


def test_what_is_printed_to_closed_streams_goes_nowhere(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    ensure_utf8()
    print("an error", file=sys.stderr)  # to None it would go to standard output
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "stdout", None)
    ensure_utf8()
    assert run_command(lambda: "a result", "") == 0
    for stream in (sys.stdout, sys.stderr):
        stream.close()


@pytest.mark.parametrize(
    "name, shown",
    [("m\u00e8re 2", "m\u00e8re 2"), ("a\nb\x1b[1m", r"a\nb\x1b[1m"), ("\udce9\n", r"\xe9\n")],
)
def test_a_name_fits_in_one_line(name, shown):
    assert one_line(name) == shown


def test_few_names_are_all_given_and_many_are_counted():
    assert shortened([]) == ""
    assert shortened(["a", "b"], shown=2) == "a, b"
    assert shortened(["a", "b", "c", "d"], shown=2) == "a, b and 2 more"
    assert shortened([str(i) for i in range(5_001)], shown=1) == "0 and 5,000 more"


def test_a_list_of_lines_ends_with_a_line_that_counts_the_rest():
    assert shortened(["a", "b", "c"], 2, "\n  ") == "a\n  b\n  and 1 more"
