"""CSV and LaTeX are read back as what they were written from, whatever the names hold."""

import csv
import io
import re

import pytest

from hybridhash_jax.comparison import exports
from hybridhash_jax.comparison.table import make_blocks
from tests.comparison.small_comparison import cell

ATTACK = r'50% of $x_1$ & {more} #1 ~^\textbf "quoted", =1+1'


def comparison(cells):
    return {
        "title": f"cifar10 100%\n{ATTACK}",
        "measure": "mAP@all",
        "seeds": [0, 1],
        "lengths": [16, 32],
        "cosine": {"map_expected": 0.5},
        "cells": cells,
    }


def test_a_csv_line_is_a_cell():
    cells = [cell("a", 16, [0.5, 0.6], title=ATTACK, chosen={"x.rate": 1e-3, "y.z": "b, c"})]
    (row,) = csv.DictReader(io.StringIO(exports.to_csv(cells, [0, 1, 2])))
    assert row["title"] == ATTACK
    assert float(row["mean"]) == pytest.approx(0.55)
    assert float(row["deviation"]) == pytest.approx(0.0707107, abs=1e-6)
    assert (row["seed0"], row["seed1"], row["seed2"]) == ("0.5", "0.6", "")
    assert row["chosen"] == "x.rate=0.001; y.z=b, c"


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x"])
def test_no_name_is_a_formula_of_a_spreadsheet(name):
    (row,) = csv.DictReader(io.StringIO(exports.to_csv([cell("a", 16, [0.5], title=name)], [0])))
    assert row["title"] == f"'{name}"


def test_latex_needs_no_package_and_every_special_letter_is_escaped():
    cells = [
        cell("a", 16, [0.5, 0.5], title=ATTACK),
        cell("b", 16, [0.3, 0.4]),
        cell("b", 32, [0.3, 0.4]),
    ]
    text = exports.to_latex(comparison(cells), make_blocks(cells, [16, 32]))
    body = [line for line in text.splitlines() if not line.startswith("%")]
    (row,) = (line for line in body if line.startswith("50"))
    assert row == (
        r"50\% of \$x\_1\$ \& \{more\} \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}textbf "
        r'"quoted", =1+1 & \textbf{0.500} $\pm$ 0.000 & -- \\'
    )
    commands = set(re.findall(r"\\([a-z]+)", "\n".join(body)))
    assert commands <= {
        "begin", "end", "hline", "multicolumn", "textbf", "textit", "pm", "textasciitilde",
        "textasciicircum", "textbackslash",
    }  # fmt: skip
    assert r"B & 0.350 $\pm$ 0.071 & 0.350 $\pm$ 0.071 \\" in body
    assert all(
        len(re.findall(r"(?<!\\)&", line)) == 2
        for line in body
        if " & " in line and "multi" not in line
    )


def test_a_line_break_in_a_name_ends_no_comment():
    text = exports.to_latex(comparison([cell("a", 16, [0.5])]), [])
    assert text.splitlines()[0].startswith("% cifar10 100% 50%")


def test_missing_seeds_are_marked_in_latex_and_in_the_terminal():
    cells = [cell("a", 16, [0.5, 0.5], seeds_missing=1), cell("b", 16, [0.3, 0.4, 0.5])]
    blocks = make_blocks(cells, [16])
    text = exports.to_latex(comparison(cells), blocks)
    assert r"A & 0.500 $\pm$ 0.000 (2 of 3 seeds) \\" in text
    assert r"B & 0.400 $\pm$ 0.100 \\" in text
    *_, row, other, legend = exports.to_text(comparison(cells), blocks).splitlines()
    assert row.split() == ["A", "0.5000", "+-", "0.0000?"] and other.endswith("0.1000 ")
    assert legend.startswith("? of fewer seeds")


def test_the_terminal_marks_a_lead_and_gaps():
    cells = [cell("a", 16, [0.5, 0.5]), cell("b", 16, [0.3, 0.4]), cell("b", 32, [0.3, 0.4])]
    lines = exports.to_text(comparison(cells), make_blocks(cells, [16, 32])).splitlines()
    (row,) = (line for line in lines if line.startswith("A"))
    assert row.split() == ["A", "0.5000", "+-", "0.0000*", "-"]
