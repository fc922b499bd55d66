"""The page of one code length: complete, self-contained, honest, safe."""

import base64
import functools
import io
import json
import re

import pytest
from PIL import Image

from hybridhash_jax.report import page, wording
from tests.report import report_cases as cases
from tests.report.report_html import Page, headings

PNG = io.BytesIO()
Image.new("RGB", (8, 4), "blue").save(PNG, "PNG")
FIGURES = ("pr_curve.png", "precision_at_n.png", "bit_balance.png", "training.png")
PICTURES: dict[str, bytes] = dict.fromkeys(FIGURES, PNG.getvalue())


def hundred_classes():
    report = cases.full_report(64)
    report["per_class"] = [
        {"name": f"class {i}", "queries": 50, "database": 1285, "map_expected": i * 37 % 100 / 100}
        for i in range(100)
    ]
    return report


CASES = {
    "digits": (cases.full_report, cases.digit_images, PICTURES),
    "several labels": (cases.multi_label_report, cases.photographs, PICTURES),
    "no images": (cases.full_report, dict, PICTURES),
    "hundred classes": (hundred_classes, cases.digit_images, PICTURES),
    "collapsed": (cases.collapsed_report, cases.digit_images, PICTURES),
    "minimal": (cases.minimal_report, dict, {}),
}


@functools.cache
def rendered(name):
    report, images, pictures = CASES[name]
    return page.render_report(report(), images(), pictures)


@pytest.mark.parametrize("name", CASES)
def test_every_page_is_balanced_and_refers_to_nothing_outside_itself(name):
    text = rendered(name)
    parsed = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "iframe", "object", "base"} & {e.name for e in parsed.elements}
    for element in parsed.elements:
        for key, value in element.attributes.items():
            assert not key.startswith("on"), element
            if key in ("src", "href", "srcset", "action", "data"):
                assert value.startswith("data:image/"), element
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("name", CASES)
def test_every_picture_has_alternative_text_and_can_be_decoded(name):
    for image in Page(rendered(name)).named("img"):
        assert image.attributes["alt"].strip()
        kind, _, content = image.attributes["src"].partition(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as picture:
            picture.load()
            assert picture.format is not None
            assert f"data:image/{picture.format.lower()}" == kind
            if "figure" not in image.inside:
                assert max(picture.size) <= 192


@pytest.mark.parametrize("name", ["digits", "several labels", "no images"])
def test_marks_of_neighbours_equal_their_relevance_in_sign_class_and_words(name):
    expected = [n["relevant"] for s in CASES[name][0]()["samples"] for n in s["neighbours"]]
    distances = [n["distance"] for s in CASES[name][0]()["samples"] for n in s["neighbours"]]
    text = rendered(name)
    marks = re.findall(
        r'<li class="item (right|wrong)">(?:(?!</li>).)*?'
        r'aria-label="(right|wrong), (\d+) bits differ">(.) (\d+)</span>',
        text,
        re.DOTALL,
    )
    assert len(marks) == len(expected) == 100
    for (kind, spoken, number, sign, shown), relevant, distance in zip(
        marks, expected, distances, strict=True
    ):
        assert kind == spoken == ("right" if relevant else "wrong")
        assert sign == ("✓" if relevant else "✗")
        assert int(number) == int(shown) == distance
    assert {True, False} == set(expected)


def test_the_parts_come_in_order():
    assert headings(rendered("digits")) == [
        "Key numbers",
        "Curves",
        "Queries and what they find",
        "Classes, worst first",
        "The worst queries",
        "Training",
        "How it was measured",
        "Published numbers for this protocol",
    ]
    text = Page(rendered("several labels")).text
    assert text.index("0.9785") < text.index("Before you trust") < text.index("Key numbers")


def test_what_a_report_lacks_is_left_out():
    assert headings(rendered("minimal")) == [
        "Key numbers",
        "Classes, worst first",
        "How it was measured",
    ]
    text = Page(rendered("minimal")).text
    for word in ("NDCG", "Checksum", "Seed", "None", "null", "Before you trust", "Encoding"):
        assert word not in text
    assert "NDCG" in Page(rendered("several labels")).text


def test_null_is_the_same_as_missing():
    report = cases.minimal_report()
    for key in ("graded", "evaluations", "training", "selection", "times", "published"):
        report[key] = None
    for key in ("provenance", "official", "checksum", "split_seed", "unreadable"):
        report["dataset"][key] = None
    for key in ("seed", "variant", "parameters", "init_from"):
        report["run"][key] = None
    report["codes"]["fingerprint"] = None
    assert page.render_report(report, {}, {}) == rendered("minimal")


@pytest.mark.parametrize("key", ["evaluations", "training", "selection", "times", "published"])
def test_each_part_that_may_be_missing_can_be_missing_alone(key):
    report = cases.full_report()
    del report[key]
    assert "None" not in Page(page.render_report(report, {}, PICTURES)).text


def test_the_headline_has_four_decimals_the_tie_band_and_the_random_order():
    text = Page(rendered("digits")).text
    assert "0.9785 mAP@all, expected over ties Between 0.9731 and 0.9812" in text
    assert "a random order of the whole database gives 0.1063" in text
    assert "1,597 images" in text
    assert "mAP@1000" in Page(rendered("several labels")).text


def test_codes_without_ties_are_said_to_have_none():
    report = cases.minimal_report()
    report["map"] = dict.fromkeys(report["map"], 0.5)
    text = Page(page.render_report(report, {}, {})).text
    assert "The order of items at equal distance makes no difference" in text


def test_names_from_outside_stay_text():
    report = cases.full_report()
    attack = '<script>alert(1)</script><img src=x onerror="alert(2)"> & \'quoted" {{ 7 * 7 }}'
    report["title"] = report["dataset"]["name"] = report["run"]["command"] = attack
    report["per_class"][0]["name"] = report["codes"]["source"] = attack
    report["run"]["versions"] = {attack: attack}
    report["published"][0]["method"] = report["published"][0]["note"] = attack
    for item in (report["samples"][0]["query"], report["worst_queries"][0]):
        item["name"], item["labels"] = attack, [attack, "</title></style>"]
    report["samples"][0]["neighbours"][0]["labels"] = [attack]
    for images in ({}, cases.digit_images()):
        parsed = Page(page.render_report(report, images, {}))
        assert not parsed.named("script")
        assert not any("onerror" in element.attributes for element in parsed.elements)
        assert parsed.text.count("alert(1)") >= 8
        assert "{{ 7 * 7 }}" in parsed.text


def test_names_that_are_no_valid_text_can_still_be_written():
    report = cases.full_report()
    report["samples"][0]["query"]["name"] = "caf\udce9\x00.png"
    report["title"] = "\ud800 title"
    text = page.render_report(report, {}, {})
    assert text.encode("utf-8")
    assert "caf\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.png" in text


def test_classes_come_worst_first_and_those_without_a_query_last():
    text = rendered("hundred classes")
    found = [float(x) for x in re.findall(r'<td class="name">.*?<td class="number">([\d.]+)', text)]
    assert found == [i / 100 for i in range(100)]
    names = re.findall(r'<td class="name">(.*?)</td>', rendered("several labels"))
    assert names[-1] == cases.LONG_NAMES[0]
    assert names[:-1] == list(cases.LONG_NAMES[1:])


def test_the_bar_of_a_class_is_as_long_as_its_value():
    widths = re.findall(r'class="bar"><i style="width: ([\d.]+)%"', rendered("hundred classes"))
    assert [float(width) for width in widths] == [float(i) for i in range(100)]


def test_many_classes_are_behind_a_fold_but_all_there():
    parsed = Page(rendered("hundred classes"))
    assert "The other 70 classes" in parsed.text
    assert len(re.findall('<td class="name">', rendered("hundred classes"))) == 100
    assert "The other" not in Page(rendered("digits")).text


def test_collapsed_codes_and_queries_without_a_match_are_warned_about():
    text = Page(rendered("collapsed")).text
    for words in ("cannot tell images apart", "93% of the database", "12 of 16 bits"):
        assert words in text
    assert "3 of 200 queries have no relevant item" in Page(rendered("several labels")).text
    assert "2 images could not be read" in Page(rendered("several labels")).text
    assert not Page(rendered("digits")).of_class("caution")


def test_without_images_names_and_classes_stand_in_their_place():
    parsed = Page(rendered("no images"))
    assert len(parsed.of_class("tile")) == 10 + 100 + 20
    assert all("figure" in image.inside for image in parsed.named("img"))
    assert "images/00007.png" in parsed.text


def test_tiny_images_are_shown_as_pixels_and_photographs_are_not():
    tiny = [e for e in Page(rendered("digits")).named("img") if "figure" not in e.inside]
    large = [e for e in Page(rendered("several labels")).named("img") if "figure" not in e.inside]
    assert all(e.attributes["class"] == "pixels" for e in tiny)
    assert not any("class" in e.attributes for e in large)


def test_the_measurement_can_be_repeated_from_the_page():
    text = Page(rendered("digits")).text
    report = cases.full_report()
    for words in (
        report["run"]["command"], report["dataset"]["checksum"], "jax 0.11.2", "Seed 0",
        "553,440", "1 x cpu", "9b51c02e", "0.61 s", "2,946 images/s", "bundled",
        "mean over all orders of items at equal distance", "flatters the number",
        "0.9785 at epoch 25; last: 0.9771 at epoch 25",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize("selected_by", page.CHOSEN)
def test_how_the_evaluation_was_chosen_is_said(selected_by):
    report = cases.full_report()
    report["selection"]["selected_by"] = selected_by
    text = Page(page.render_report(report, {}, {})).text
    assert f"Which evaluation: {page.CHOSEN[selected_by]} (epoch 25)" in text
    assert ("flatters" in text) is (selected_by == "query")


def test_published_rows_stand_beside_ours_with_their_tie_rule_and_choice():
    table = rendered("digits").partition("<h2>Published")[2]
    rows = re.findall(r'<tr( class="ours")?><td class="number">(\d+)</td>(.*)', table)
    assert [(bool(ours), bits) for ours, bits, _ in rows] == [
        (False, "16"), (True, "32"), (False, "32")
    ]  # fmt: skip
    assert "0.7093" in rows[0][2] and "last epoch" in rows[0][2]
    assert "0.9785" in rows[1][2] and page.TIE_RULE in rows[1][2]
    assert "default argsort" in rows[2][2] and "best on the queries; epoch 3" in rows[2][2]


def test_only_known_pictures_are_embedded():
    text = page.render_report(cases.full_report(), {}, {"pr_curve.png": PNG.getvalue(), "x": b"y"})
    assert len(Page(text).named("img")) == 1


def test_a_report_read_back_from_json_gives_the_same_page():
    report = cases.multi_label_report()
    again = json.loads(json.dumps(report))
    images = cases.photographs()
    assert page.render_report(again, images, PICTURES) == rendered("several labels")


def test_worst_queries_that_are_cut_among_equals_say_how_many_are_as_bad():
    report = cases.full_report() | {"worst_queries_tied": 5}
    assert (
        "5 more queries have the AP of the last one here"
        in Page(page.render_report(report, {}, {})).text
    )
    report["worst_queries_tied"] = 1
    assert "1 more query has the AP" in Page(page.render_report(report, {}, {})).text
    assert "the AP of the last" not in Page(rendered("digits")).text


def test_one_of_a_thing_is_singular():
    report = cases.full_report()
    report["dataset"] |= {"queries": 1, "database": 1, "classes": 1}
    report["evaluations"], report["top_k"] = report["evaluations"][:1], 1
    text = Page(page.render_report(report, {}, {})).text
    for words in (
        "1 query against a database of 1 image, 1 class.",
        "1 evaluation ",
        "first 1 place;",
    ):
        assert words in text
    assert not re.search(r"(?<!@)\b1 (queries|images|classes|evaluations|places|epochs)\b", text)


def test_every_thumbnail_can_be_enlarged_without_a_script():
    parsed = Page(rendered("digits"))
    thumbnails = [e for e in parsed.named("img") if "figure" not in e.inside]
    assert len(thumbnails) == 10 + 100 + 20
    assert all({"details", "summary"} <= {*e.inside} for e in thumbnails)


def test_long_class_names_may_be_broken():
    report = cases.minimal_report()
    report["per_class"][0]["name"] = "road_vehicle/lorry"
    report["per_class"][1]["name"] = "Donaudampfschifffahrt & co"
    text = page.render_report(report, {}, {})
    assert "road_<wbr>vehicle/<wbr>lorry</td>" in text
    assert "Donaudampf\N{SOFT HYPHEN}schifffahrt &amp; co</td>" in text


def test_a_baseline_stands_beside_the_map_with_what_the_codes_keep_of_it():
    report = cases.full_report(32)
    plain = page.render_report(report, {}, {})
    report["baselines"] = [cases.BASELINE | {"map_expected": 1.0}]
    text = page.render_report(report, {}, {})
    said = (
        "Cosine of the features: mAP@all 1.0000, from 1,280 dimensions in 2,560 bytes an image. The "
        "codes keep 97.9% of it in 4 bytes."
    )
    assert said in text
    assert "of it in" not in plain
    lines = text.splitlines()
    added = [line for line in lines if line not in plain.splitlines()]
    assert added == [f"<div>{said}</div>"]


@pytest.mark.parametrize(
    ("bits", "value", "baseline", "said"),
    [
        (64, 0.6, 0.3, "reach 200.0% of it in 8 bytes"),
        (12, 0.3, 0.3, "keep 100.0% of it in 2 bytes"),
        (1, 0.3, 0.0, "have 0.3000 in 1 byte"),
    ],
)
def test_codes_may_be_better_than_a_baseline_or_the_baseline_nothing(bits, value, baseline, said):
    assert wording.kept({"map_expected": baseline}, bits, value) == said


def test_the_name_of_a_baseline_is_escaped():
    report = cases.full_report() | {"baselines": [cases.BASELINE | {"name": "<b>\ud800"}]}
    assert "&lt;b&gt;\N{REPLACEMENT CHARACTER}: mAP@all" in page.render_report(report, {}, {})
