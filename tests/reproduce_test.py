"""docs/reproduce.md: its numbers are those that the program stands beside results, and its cost adds up."""

import re

import pytest

from benchmarks import reproduction_cost
from hybridhash_jax.report.published import load_published
from tests.runs.small_run import ROOT

TEXT = (ROOT / "docs" / "reproduce.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
PROTOCOLS = {
    "HybridHash, ImageNet-100": ("imagenet100",),
    "Other methods, CIFAR-10": ("cifar10", "cifar10-1"),
    "Other methods, ImageNet-100": ("imagenet100",),
    "Other methods, NUS-WIDE": ("nuswide_21",),
    "Other methods, COCO and MIRFlickr": ("coco",),
}
CUTOFFS = {"cifar10": None, "cifar10-1": None, "imagenet100": 1000, "mirflickr": None}


def quoted(section: str) -> list[tuple[str, list[str], list[str]]]:
    """Of every row of published numbers: its first cell, the heads, and the cells after it."""
    rows, heads = [], None
    for line in SECTIONS[section].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            heads = None
        elif heads is None:
            heads = cells[1:] if cells[0].startswith("published") else []
        elif heads and set(line) - set("|-"):
            rows.append((cells[0], heads, cells[1:]))
    return rows


@pytest.mark.parametrize("section", PROTOCOLS)
def test_quoted_numbers_are_the_published_ones(section):
    rows = quoted(section)
    assert len(rows) > 1
    for first, heads, cells in rows:
        for head, cell in zip(heads, cells, strict=True):
            if head in ("backbone", "measured here") or not cell:
                continue
            protocols = [head.strip("`")] if "`" in head else PROTOCOLS[section]
            known = [
                number
                for name in protocols
                for number in load_published(name, CUTOFFS.get(name, 5000))
            ]
            assert any(
                number.map == pytest.approx(float(cell), abs=1e-9)
                and head in (str(number.bits), f"`{number.protocol}`")
                and (first.startswith(number.method.split(" ")[0]) or first[:3] in ("log", "the"))
                for number in known
            ), (first, head, cell)


def test_the_cost_is_what_the_script_prints(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["reproduction_cost"])
    reproduction_cost.main()
    assert f"\n\n{capsys.readouterr().out}\n" in TEXT


def test_a_run_costs_three_forward_passes_an_image_and_one_for_each_evaluated():
    plan = reproduction_cost.Plan("hybridhash", "imagenet100", epochs=12, evaluations=4)
    assert (plan.trained, plan.encoded) == (156_000, 534_012)
    text = reproduction_cost.table(30.0, {"slow": (100.0, 1000.0), "fast": (1e3, 1e4)})
    row = next(line for line in text.splitlines() if "HybridHash, `imagenet100`" in line)
    assert "| 30.1 |" in row  # PFLOP: 30 GFLOP x (3 x 156,000 + 534,012)
    assert row.endswith("| 35 min | 3.5 min |")  # 1,560 s + 534 s, and a tenth


def test_durations_have_two_digits():
    expected = {17: "17 s", 89: "89 s", 91: "1.5 min", 1_200: "20 min", 90_000: "25 h"}
    assert {seconds: reproduction_cost.duration(seconds) for seconds in expected} == expected
