"""The page of a comparison, and its figure of ranks."""

import json
import re

import pytest

from hybridhash_jax.comparison.table import make_blocks, ranks
from hybridhash_jax.report import comparison_page, published
from tests.comparison.small_comparison import cell
from tests.report import report_cases as cases
from tests.report.browser import needs_browser, title_of
from tests.report.report_html import Page, headings

ATTACK = "<script>alert(1)</script>"


def comparison(**changes):
    cells = [
        *(cell("hybridhash", bits, [0.90, 0.91], title="HybridHash") for bits in (16, 48, 64)),
        *(cell("csq", bits, [0.80, 0.81], title="CSQ") for bits in (16, 48, 64)),
        cell("adsh", 16, [0.95, 0.96], title="ADSH", supervision="database"),
        cell("lsh", 16, [0.2, 0.3], title="LSH", supervision="none", train_seconds=None),
    ]
    cells[0] |= {"report": "runs/hybridhash/seed0/16bits/report.html"}
    cells[2] |= {"chosen": {"optimizer.learning_rate": 0.01}, "at_edge": ["x"]}
    report = cases.full_report()
    return {
        "title": "imagenet100: 4 methods", "measure": "mAP@1000", "top_k": 1000,
        "dataset": report["dataset"], "selected_by": "last", "lengths": [16, 48, 64],
        "backbone": {"variant": "paper", "features": "0123", "init_from": "a file"},
        "seeds": [0, 1], "chance": 0.0123, "cosine": cases.BASELINE, "cells": cells,
        "left_out": [{"method": "mdshc", "bits": None, "reason": "it takes one label an image"}],
        "tuning": {"held_out_images": 500, "most_trials": 6, "rates": [1e-3], "seed": 0},
        "published": [
            row for row in published.published_for("imagenet100", 1000)
            if row["bits"] in (16, 48, 64)
        ],
        "run": report["run"],
    } | changes  # fmt: skip


def render(**changes):
    content = comparison(**changes)
    blocks = make_blocks(content["cells"], content["lengths"])
    return comparison_page.render_comparison(content, blocks, None)


def test_the_page_is_balanced_and_links_to_the_reports_that_were_drawn():
    parsed = Page(render())
    links = [element.attributes["href"] for element in parsed.named("a")]
    assert links[0] == "runs/hybridhash/seed0/16bits/report.html"
    assert links[1:] == ["comparison.csv", "comparison.tex", "comparison.json"]
    assert not {"script", "link", "iframe"} & {element.name for element in parsed.elements}


def test_missing_seeds_are_told_and_only_methods_without_training_are_fitted():
    cells = comparison()["cells"]
    cells[0] |= {"seeds_missing": 1}
    cells[5] |= {"train_seconds": None}  # of a run that went on after its last step
    html = render(cells=cells)
    text = Page(html).text
    assert text.count("(2 of 3 seeds)") == 1
    assert "<strong>0.9050</strong>" in html  # HybridHash leads at the other lengths
    assert html.count("<strong>") == 2
    assert text.count("fitted") == 1


def test_cosine_stands_above_and_methods_without_labels_and_chance_below():
    text = Page(render()).text
    order = [
        "Cosine of the features", "Labels of the training images", "HybridHash", "CSQ",
        "Labels of the whole database", "ADSH", "No labels", "LSH", "Random order",
    ]  # fmt: skip
    places = [text.index(name) for name in order]
    assert places == sorted(places)
    assert "0.0123" in text and "mdshc it takes one label an image" in text


def test_only_methods_with_the_labels_of_the_database_are_marked():
    table = render().split("<tbody>")[1].split("</tbody>")[0]
    marked = [row for row in table.split("<tr") if "&#8224;" in row]
    assert len(marked) == 1 and "ADSH" in marked[0]
    without = [x for x in comparison()["cells"] if x["supervision"] != "database"]
    assert "&#8224;" not in render(cells=without)


def test_a_lead_is_bold_and_a_lone_method_is_not():
    table = render().split("<tbody>")[1].split("</tbody>")[0]
    assert re.findall(r"<strong>([\d.]+)", table) == ["0.9050"] * 3


def test_an_edge_is_marked_and_what_was_fitted_took_no_steps():
    text = Page(render()).text
    assert "0.01 (at the edge of what was tried)" in text
    assert "fitted" in text
    assert "500 training images that were held out, by at most 6 trials" in text
    assert "nothing was chosen" in Page(render(tuning=None)).text


def test_published_numbers_stand_behind_ours_with_what_they_depend_on():
    table = render().split("Published numbers for this protocol</h2>")[1].split("</table>")[0]
    rows = re.findall(r'<tr( class="ours")?><td class="name">([^<]*)</td>', table)
    assert rows[:4] == [
        (' class="ours"', "HybridHash"),
        ("", "HybridHash (He &amp; Wei, ICMR 2024)"),
        ("", "HybridHash (He &amp; Wei, ICMR 2024)"),
        (' class="ours"', "CSQ"),
    ]
    assert "0.8028" in table and "default argsort" in table and "ResNet-50" in table
    assert "the last epoch (12)" in table


def test_what_a_comparison_lacks_is_left_out():
    text = render(published=[], left_out=[], cosine=None)
    assert headings(text) == [
        "mAP@1000 of each method",
        "What each took, and what was chosen for it",
        "How it was measured",
    ]
    assert "None" not in Page(text).text


def test_names_from_outside_stay_text():
    cells = [cell("a", 16, [0.5, 0.6], title=ATTACK, paper=ATTACK, chosen={"x.y": ATTACK})]
    left_out = [{"method": ATTACK, "bits": 16, "reason": ATTACK}]
    parsed = Page(render(cells=cells, left_out=left_out, title=ATTACK))
    assert not parsed.named("script")
    assert parsed.text.count("alert(1)") >= 5


def test_the_page_and_its_figure_are_the_same_every_time(tmp_path):
    content = comparison()
    blocks, found = make_blocks(content["cells"], [16, 48, 64]), ranks(content["cells"])
    pages = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        page = comparison_page.write_comparison(tmp_path / name, content, blocks, found)
        pages.append(page.read_text())
    assert pages[0] == pages[1]
    (image,) = Page(pages[0]).named("img")
    assert image.attributes["src"].startswith("data:image/svg+xml;base64,")
    assert pages[0].count("1 is the best mean") == 1
    assert (tmp_path / "a" / "rank_over_bits.svg").read_text().startswith("<?xml")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_juts_out_of_a_window(tmp_path, width):
    content = comparison()
    blocks, found = make_blocks(content["cells"], [16, 48, 64]), ranks(content["cells"])
    text = comparison_page.write_comparison(tmp_path, content, blocks, found).read_text()
    text = re.sub('<meta http-equiv="Content-Security-Policy".*?>', "", text)
    measure = """<script>parent.postMessage(JSON.stringify({page:
      document.documentElement.scrollWidth, image: document.querySelector("img").naturalWidth}),
      "*");</script>"""
    (tmp_path / "page.html").write_text(text.replace("</body>", measure + "</body>"))
    (tmp_path / "frame.html").write_text(
        "<title></title><script>onmessage = (e) => { document.title = e.data; };</script>"
        f'<iframe src="page.html" style="border: 0; width: {width}px; height: 900px"></iframe>'
    )
    measured = json.loads(title_of(tmp_path / "frame.html"))
    assert measured["page"] <= width
    assert measured["image"] > 100  # it was drawn
