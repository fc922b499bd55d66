"""The counts that `check` prints."""

import numpy as np

from input_pipeline.images.image_checks import ImageFacts, image_table
from input_pipeline.lists.label_lists import LabelList
from input_pipeline.lists.list_tables import list_table

LABELS = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0], [0, 1, 1]], np.uint8)
LISTS = {
    "train": LabelList(list("abcd"), LABELS, "train.txt"),
    "query": LabelList([], np.zeros((0, 1), np.uint8), "test.txt"),
}


def test_a_split_is_counted_by_class_with_its_unlabelled_images():
    _, train, query = list_table(LISTS, ("sky", "sea", "sun")).splitlines()
    assert train.split()[:4] == ["train", "4", "3", "1"]
    assert train.endswith("least 1 (sky), median 1, most 3 (sun)")
    assert query.split() == ["query", "0"]


def test_classes_without_names_are_numbered():
    assert "least 1 (class 0), median 1, most 3 (class 2)" in list_table(LISTS, None)


def test_images_are_counted_with_the_smallest_and_the_largest_by_area():
    facts = [ImageFacts(None, 9, 9, 1000), ImageFacts(None, 40, 2, 500), ImageFacts("broken")]
    counts, ends = image_table(["a", "b", "c"], facts, 2.0).splitlines()
    assert counts == "images: 3 checked, 1 unreadable; 1,500 bytes; 2.0 s, 2 images/s"
    assert ends == "smallest 40 x 2 ('b'), largest 9 x 9 ('a')"


def test_no_readable_image_has_no_smallest_one():
    assert "smallest" not in image_table(["a"], [ImageFacts("broken")], 0.0)
