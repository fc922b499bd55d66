"""The page over several code lengths, and the published numbers beside ours."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hybridhash_jax.report import page, published
from tests.report import report_cases as cases
from tests.report.report_html import Page, headings


def sweep(**changes):
    rows = published.published_for("imagenet100", 1000, "hybridhash")
    return cases.sweep() | {"published": rows} | changes


def test_the_page_is_balanced_and_links_only_to_the_reports():
    parsed = Page(page.render_sweep(sweep(), {}))
    links = [e.attributes["href"] for e in parsed.named("a")]
    assert links == [f"{bits}bits/report.html" for bits in (16, 32, 48, 64)]
    assert not {"script", "link", "iframe"} & {e.name for e in parsed.elements}


def test_a_link_cannot_leave_the_folder_by_its_scheme():
    changed = sweep()
    changed["lengths"][0]["report"] = 'javascript:alert(1)"><b>'
    changed["lengths"][1]["report"] = "a folder/#1/report.html"
    links = [e.attributes["href"] for e in Page(page.render_sweep(changed, {})).named("a")]
    assert ":" not in links[0]
    assert links[1] == "a%20folder/%231/report.html"


def test_each_length_has_its_row_shortest_first():
    changed = sweep()
    changed["lengths"].reverse()
    text = page.render_sweep(changed, {})
    rows = re.findall(
        r'<tr><td class="number"><a [^>]*>(\d+)</a>.*?<strong>([\d.]+)</strong>', text
    )
    assert rows == [("16", "0.7900"), ("32", "0.8800"), ("48", "0.9050"), ("64", "0.9180")]
    assert "16,000" in text
    assert "0.7600 (12)" in text


def test_what_a_sweep_lacks_is_left_out():
    bare = sweep(published=[])
    for length in bare["lengths"]:
        for key in ("best", "last", "selected_by", "epoch"):
            del length[key]
    text = page.render_sweep(bare, {})
    assert headings(text) == ["By code length", "How it was measured"]
    assert not {"best epoch", "last epoch", "None"} & set(re.findall(r">([^<]+)<", text))


def test_the_figure_is_embedded_with_alternative_text():
    pictures = {"map_over_bits.png": b"the bytes of a file"}
    (image,) = Page(page.render_sweep(sweep(), pictures)).named("img")
    assert image.attributes["src"].startswith("data:image/png;base64,")
    assert image.attributes["alt"]


def test_published_rows_stand_beside_ours_by_code_length():
    text = page.render_sweep(sweep(), {})
    table = text[text.index("<h2>Published") :]
    rows = re.findall(r'<tr( class="ours")?><td class="number">(\d+)</td>(.*)', table)
    expected = [(ours, str(b)) for b in (16, 32, 48, 64) for ours in (True, False, False)]
    assert [(bool(ours), bits) for ours, bits, _ in rows] == expected
    assert all(("default argsort" in rest) is not bool(ours) for ours, _, rest in rows)


def test_names_from_outside_stay_text():
    attack = "<script>alert(1)</script>"
    run: dict[str, Any] = cases.minimal_report()["run"] | {"command": attack}
    changed = sweep(title=attack, run=run | {"versions": {attack: attack}})
    parsed = Page(page.render_sweep(changed, {}))
    assert not parsed.named("script")
    assert parsed.text.count("alert(1)") >= 3


def test_published_numbers_are_those_of_the_authors_log():
    rows = published.published_for("imagenet100", 1000, "hybridhash")
    best = {row["bits"]: (row["map"], row["note"]) for row in rows if "best" in row["chosen"]}
    last = {row["bits"]: row["map"] for row in rows if "last" in row["chosen"]}
    assert best == {
        16: (0.8028, "epoch 3"), 32: (0.8886, "epoch 3"),
        48: (0.9095, "epoch 6"), 64: (0.9211, "epoch 6"),
    }  # fmt: skip
    assert last == {16: 0.7093, 32: 0.8256, 48: 0.8824, 64: 0.9022}
    assert all("queries" in row["chosen"] for row in rows if row["bits"] in best and row["note"])


@pytest.mark.parametrize(
    "protocol, top_k", [("imagenet100", None), ("imagenet100", 100), ("x", 1000)]
)
def test_numbers_of_another_protocol_or_cut_off_are_not_offered(protocol, top_k):
    assert published.published_for(protocol, top_k) == []


def test_every_published_number_names_its_source_tie_rule_and_choice():
    files = list(Path(published.__file__).parent.glob("*.json"))
    assert files
    for path in files:
        for series in json.loads(path.read_text()):
            rows = published.published_for(path.stem, series["top_k"])
            assert {row["bits"] for row in series["results"]} <= {row["bits"] for row in rows}
            for row in rows:
                assert row["source"] and row["ties"] and row["chosen"] and row["method"]
                assert row["backbone"] and row["supervision"] in ("train", "database")
                assert 0 < row["map"] < 1


def test_published_rows_are_plain_and_independent():
    first, second = (published.published_for("imagenet100", 1000) for _ in range(2))
    first[0]["map"] = 0.0
    assert second[0]["map"] == 0.8028
    assert set(second[0]) == {
        "bits", "map", "method", "name", "backbone", "supervision", "source", "ties", "chosen",
        "protocol", "note",
    }  # fmt: skip


def test_a_baseline_stands_below_the_table_with_what_each_length_keeps():
    text = page.render_sweep(sweep(baselines=[cases.BASELINE]), {})
    assert (
        "Cosine of the features: mAP@1000 0.9500, from 1,280 dimensions in 2,560 bytes an image. "
        "16 bits keep 83.2% of it in 2 bytes, 32 bits keep 92.6% of it in 4 bytes, 48 bits keep "
        "95.3% of it in 6 bytes, 64 bits keep 96.6% of it in 8 bytes."
    ) in text
    assert "of it in" not in page.render_sweep(sweep(), {})


@pytest.mark.parametrize(
    ("protocol", "top_k", "row"),
    [
        ("cifar10", None, ("dtsh", "AlexNet", 48, 0.800)),
        ("cifar10-1", None, ("adsh", "ResNet-50", 24, 0.9636)),
        ("cifar10-2", None, ("greedyhash", "AlexNet", 48, 0.932)),
        ("nuswide_21", 5000, ("hyp2", "AlexNet", 36, 0.831)),
        ("nuswide_21_m", 5000, ("csq", "ResNet-50", 64, 0.844)),
        ("imagenet100", 1000, ("cnnh", "a network that was not read", 64, 0.554)),
        ("coco", 5000, ("csq", "ResNet-50", 32, 0.838)),
        ("mirflickr", None, ("dpsh", "AlexNet", 48, 0.781)),
    ],
)
def test_published_numbers_of_other_methods_are_found_with_their_backbone(protocol, top_k, row):
    rows = published.load_published(protocol, top_k)
    assert row in [(one.name, one.backbone, one.bits, one.map) for one in rows]
    assert all(row[0] == one["name"] for one in published.published_for(protocol, top_k, row[0]))


def test_labels_of_the_whole_database_are_told_of_published_numbers():
    rows = published.load_published("cifar10-1", None)
    assert {row.supervision for row in rows if row.name == "adsh"} == {"database"}
    assert {row.supervision for row in rows if row.name == "csq"} == {"train"}
