"""Three lists together: one row an image, and every contradiction between them is found."""

import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from input_pipeline.errors import DataError
from input_pipeline.lists import listed
from input_pipeline.lists.label_lists import LabelList, write_list
from input_pipeline.lists.listed import ListedImages, join_lists, list_path, load_lists
from input_pipeline.splits import LIST_PROTOCOLS, ListProtocol


def label_list(file: str, **labels: str) -> LabelList:
    """`label_list("f", a="01")` has the image a.jpg with the labels 0 1."""
    rows = np.array([[int(digit) for digit in row] for row in labels.values()], np.uint8)
    return LabelList([f"{name}.jpg" for name in labels], rows.reshape(len(labels), -1), file)


def list_problems(*lists: LabelList, expected: ListProtocol | None = None):
    train, query, database = lists
    return listed.list_problems(train, query, database, expected or ListProtocol())


TRAIN = label_list("train.txt", c="01", a="10")
QUERY = label_list("test.txt", q="11")
DATABASE = label_list("database.txt", a="10", b="00", c="01")


def test_images_are_numbered_by_first_appearance():
    joined = join_lists(TRAIN, QUERY, DATABASE)
    assert joined.names == ["c.jpg", "a.jpg", "q.jpg", "b.jpg"]
    assert joined.labels.dtype == np.uint8
    assert joined.labels.tolist() == [[0, 1], [1, 0], [1, 1], [0, 0]]
    assert joined.splits.train.tolist() == [0, 1]
    assert joined.splits.query.tolist() == [2]
    assert joined.splits.database.tolist() == [1, 3, 0]
    assert joined.splits.database.dtype == np.int64


def names_by_split(joined: ListedImages) -> list[list[str]]:
    splits = joined.splits
    parts = (splits.train, splits.query, splits.database)
    return [[joined.names[row] for row in rows] for rows in parts]


@hypothesis.given(st.lists(st.lists(st.integers(0, 15), unique=True), min_size=3, max_size=3))
def test_rows_lead_back_to_the_lists(numbers):
    lists = [
        LabelList(
            [f"{i}.jpg" for i in part],
            np.array([[i >> k & 1 for k in range(4)] for i in part], np.uint8).reshape(-1, 4),
            "f",
        )
        for part in numbers
    ]
    joined = join_lists(*lists)
    assert names_by_split(joined) == [part.paths for part in lists]
    assert len(joined.names) == len(set(joined.names)) == len(joined.labels)
    for name, labels in zip(joined.names, joined.labels.tolist(), strict=True):
        assert int(name.removesuffix(".jpg")) == sum(bit << k for k, bit in enumerate(labels))


def test_lists_without_a_contradiction_have_no_problem():
    assert list_problems(TRAIN, QUERY, DATABASE) == []


@pytest.mark.parametrize("split", ["train", "database"])
def test_a_query_that_is_also_elsewhere_is_named_with_both_places(split):
    lists = {"train": TRAIN, "query": QUERY, "database": DATABASE}
    leak = label_list(f"{split}.txt", x="01", q="11")
    (problem,) = list_problems(*(lists | {split: leak}).values())
    what = {"train": "both query and training image", "database": "both query and database"}
    assert problem.summary == (
        f"test.txt and {split}.txt: 1 image is {what[split]}: "
        f"'q.jpg' (test.txt:1 and {split}.txt:2)"
    )
    assert problem.details == (f"'q.jpg' (test.txt:1 and {split}.txt:2) is {what[split]}",)


def test_many_overlaps_are_counted_and_each_is_in_the_details():
    many = label_list("both.txt", **{f"i{k}": "01" for k in range(100)})
    (problem,) = list_problems(TRAIN, many, many)
    assert "100 images are both query and database" in problem.summary
    assert problem.summary.endswith("and 97 more")
    assert len(problem.details) == 100
    assert "'i99.jpg' (both.txt:100" in problem.details[-1]


def test_labels_that_disagree_are_told_with_both_vectors():
    other = label_list("database.txt", b="00", a="11")
    (problem,) = list_problems(TRAIN, QUERY, other)
    told = "'a.jpg' is 1 0 in train.txt:2 and 1 1 in database.txt:2"
    assert told in problem.summary
    with pytest.raises(DataError) as caught:
        join_lists(TRAIN, QUERY, other)
    assert told in str(caught.value)


def test_long_vectors_are_told_by_their_ones():
    ones, zeros = "0" * 39 + "1" + "0" * 40, "0" * 80
    first, second = label_list("train.txt", a=ones), label_list("database.txt", a=zeros)
    (problem,) = list_problems(first, label_list("test.txt", q=ones), second)
    assert "is 1 at 40 of 80 in train.txt:1 and 80 zeros in database.txt:1" in problem.summary


def test_lists_of_different_widths_are_one_problem():
    wide = label_list("database.txt", a="100", b="000")
    (problem,) = list_problems(TRAIN, QUERY, wide)
    assert "train.txt has 2, test.txt has 2, database.txt has 3" in problem.summary
    with pytest.raises(DataError, match=r"database\.txt has 3"):
        join_lists(TRAIN, QUERY, wide)


def test_lines_are_those_of_the_file_where_some_were_left_out():
    leak = LabelList(["q.jpg"], np.array([[1, 1]], np.uint8), "database.txt", np.array([17]))
    assert "(test.txt:1 and database.txt:17)" in list_problems(TRAIN, QUERY, leak)[0].summary


def test_empty_lists_are_passed_over():
    empty = LabelList([], np.zeros((0, 1), np.uint8), "test.txt")
    assert list_problems(TRAIN, empty, DATABASE) == []
    assert (
        list_problems(TRAIN, empty, DATABASE, expected=ListProtocol(num_query=5, num_classes=2))
        == []
    )
    assert join_lists(empty, QUERY, DATABASE).labels.shape == (4, 2)


def test_sizes_other_than_the_published_ones_are_told():
    right = ListProtocol(num_train=2, num_query=1, num_database=3, num_classes=2)
    assert list_problems(TRAIN, QUERY, DATABASE, expected=right) == []
    wrong = ListProtocol(num_train=10_000, num_query=1, num_database=None, num_classes=3)
    problems = list_problems(TRAIN, QUERY, DATABASE, expected=wrong)
    assert [problem.summary for problem in problems] == [
        "train.txt: 2 images, expected 10,000",
        "train.txt: 2 classes, expected 3",
        "test.txt: 2 classes, expected 3",
        "database.txt: 2 classes, expected 3",
    ]
    coco = LIST_PROTOCOLS["coco"]
    assert len(list_problems(TRAIN, QUERY, DATABASE, expected=coco)) == 6


def test_lists_are_read_from_a_folder(tmp_path):
    for part, name in ((TRAIN, "train.txt"), (QUERY, "queries.txt"), (DATABASE, "database.txt")):
        write_list(tmp_path / name, part.paths, part.labels)
    names = ("train.txt", "queries.txt", "database.txt")
    train, query, database = load_lists(tmp_path, names, num_classes=2)
    assert (train.paths, query.paths, database.paths) == (
        TRAIN.paths,
        QUERY.paths,
        DATABASE.paths,
    )
    with pytest.raises(DataError, match=r"test\.txt: there is no such list file"):
        load_lists(tmp_path)
    with pytest.raises(DataError, match="2 labels a line, but 21 classes are expected"):
        load_lists(tmp_path, names, num_classes=21)


def test_list_names_may_be_paths_of_their_own():
    assert list_path("lists", "train.txt") == "lists/train.txt"
    assert list_path("lists", "/data/train.txt") == "/data/train.txt"
    assert list_path("gs://bucket/lists", "train.txt") == "gs://bucket/lists/train.txt"
    assert list_path("lists", "gs://bucket/train.txt") == "gs://bucket/train.txt"


def test_imagenet_sized_lists_are_joined_and_compared_in_a_second():
    labels = np.zeros((128_503, 100), np.uint8)
    database = LabelList([f"train/{i:06}.jpg" for i in range(128_503)], labels, "database.txt")
    train = LabelList(database.paths[:13_000], labels[:13_000], "train.txt")
    query = LabelList([f"val/{i:06}.jpg" for i in range(5_000)], labels[:5_000], "test.txt")
    started = time.process_time()
    joined = join_lists(train, query, database)
    assert list_problems(train, query, database) == []
    assert time.process_time() - started < 1.5
    assert len(joined.names) == 133_503
