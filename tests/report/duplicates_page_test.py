"""The page of near-duplicates."""

import numpy as np

from hybridhash_jax.report.duplicates_page import render_duplicates
from tests.report.report_html import Page, headings

ATTACK = "<script>alert(1)</script>"


def content(**changes):
    def image(row: int, path: str, relation: str = "", against: bool = False):
        return {
            "row": row,
            "path": path,
            "against": against,
            "width": 640,
            "height": 480,
            "hash": "0" * 16,
            "relation": relation,
            "similarity": 0.912,
        }

    whole = {
        "format": 1,
        "first": {"place": "pictures", "images": 9, "flat": 0, "unreadable": []},
        "against": None,
        "view": "multi",
        "radius": 12,
        "similarity": 0.84,
        "groups": [
            {
                "id": "12345678",
                "images": [image(0, "a.jpg"), image(1, f"{ATTACK}.jpg", "mirrored")],
            },
            {"id": "9abcdef0", "images": [image(2, "b.jpg"), image(3, "c\udcff\n.jpg", "cropped")]},
        ],
        "pairs": [],
        "accepted_pairs": 0,
    }
    return whole | changes


def thumbnail(row: int, side: int) -> np.ndarray | None:
    return None if row == 2 else np.full((30, 60, 3), 40 * row, np.uint8)


def test_images_are_side_by_side_with_what_they_are_to_the_first():
    text = render_duplicates(content(), thumbnail)
    page = Page(text)
    assert headings(text) == ["Groups", "How they were found"]
    shown = page.text
    assert "12345678" in shown and "0.91 mirrored" in shown and "first of the group" in shown
    assert text.count("data:image/") == 3  # the name stands in for the fourth
    assert "9 images in pictures" in shown and "Nothing was deleted" in shown


def test_names_are_escaped_and_nothing_is_loaded():
    text = render_duplicates(content(), thumbnail)
    assert ATTACK not in text and "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    text.encode()  # a name that is not UTF-8 is shown somehow


def test_both_sides_are_named_where_there_are_two():
    other = {"place": "database", "images": 5, "flat": 0, "unreadable": []}
    given = content(against=other)
    given["groups"][0]["images"][1]["against"] = True
    shown = Page(render_duplicates(given, thumbnail)).text
    assert "9 images in pictures, compared with 5 images in database" in " ".join(shown.split())


def test_pairs_between_groups_and_unreadable_images_are_listed():
    pair = {
        "group": None,
        "first": "a.jpg",
        "second": "b.jpg",
        "similarity": 0.9,
        "distance": 8,
        "relation": "cropped",
        "rows": [0, 2],
    }
    first = content()["first"] | {"unreadable": [{"path": "x.jpg", "reason": "the file is empty"}]}
    shown = Page(render_duplicates(content(pairs=[pair], first=first), thumbnail)).text
    assert "Pairs between groups" in shown and "x.jpg: the file is empty" in shown


def test_no_groups_are_said_to_be_none():
    assert "There are none." in Page(render_duplicates(content(groups=[]), thumbnail)).text


def test_a_long_list_of_groups_is_cut_and_says_so():
    groups = [content()["groups"][0] | {"id": f"{k:08x}"} for k in range(320)]
    text = render_duplicates(content(groups=groups), thumbnail)
    assert "20 more groups" in text and text.count("<article") == 300
