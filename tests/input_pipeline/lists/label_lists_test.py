"""List files: what is accepted, what is refused with file and line, and what is written."""

import gzip
import os
import re
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from input_pipeline.errors import DataError
from input_pipeline.lists.label_lists import LabelList, parse_list, read_list, write_list

PLAIN = b"a.jpg 0 1 0\nb.jpg 1 1 0\n"


def parse(data: bytes, num_classes: int | None = None) -> LabelList:
    found, problems = parse_list(data, "train.txt", num_classes)
    assert problems == []
    return found


def problems_of(data: bytes, num_classes: int | None = None) -> list[str]:
    return parse_list(data, "train.txt", num_classes)[1]


def test_paths_and_labels_are_those_of_the_lines():
    found = parse(PLAIN)
    assert found.paths == ["a.jpg", "b.jpg"]
    assert found.labels.dtype == np.uint8
    assert found.labels.tolist() == [[0, 1, 0], [1, 1, 0]]
    assert [found.place(row) for row in range(2)] == ["train.txt:1", "train.txt:2"]


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"\n", b" \n"),
        PLAIN.replace(b"\n", b" \t  \r\n"),
        PLAIN.removesuffix(b"\n"),
        PLAIN + b"\n \n\r\n",
        b"\xef\xbb\xbf" + PLAIN,
        b"./a.jpg 0 1 0\n././b.jpg 1 1 0",
        b"a.jpg\t0\t1\t0\nb.jpg  1 1  0\n",
    ],
)
def test_harmless_differences_between_files_do_not_matter(data):
    found = parse(data)
    assert found.paths == ["a.jpg", "b.jpg"]
    assert found.labels.tolist() == [[0, 1, 0], [1, 1, 0]]


def test_paths_may_contain_blanks_and_other_letters():
    found = parse("my photos/blue sea 1.jpg 0 1\nwüste/ü 2.jpg 1 0\n".encode())
    assert found.paths == ["my photos/blue sea 1.jpg", "wüste/ü 2.jpg"]
    assert found.labels.tolist() == [[0, 1], [1, 0]]


def test_backslashes_separate_folders_where_no_slash_does():
    data = b"actor\\1.jpg 0 1\nactor/2\\3.jpg 1 0\n"
    assert parse(data).paths == ["actor/1.jpg", "actor/2\\3.jpg"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"c.jpg 0 1", "2 labels .* expected 3"),
        (b"c.jpg,0,1,0", "it has commas where blanks are expected"),
        (b"c.jpg 0.0 1.0 0.0", "its labels are decimals"),
        (b"c.jpg [0 1 0]", "in brackets"),
        (b"c.jpg 7", "is it a class id. write a 0 or 1 for every class"),
        (b"c.jpg 0 1 0 0", "4 labels .* expected 3"),
        (b"c.jpg 0 2 0", "label '2' is not 0 or 1"),
        (b"c.jpg 2 0 1 0", "label '2' is not 0 or 1"),
        (b"c.jpg 12 0 1 0", "label '12' is not 0 or 1"),
        (b"c.jpg", "no labels, expected 3"),
        (b"0 1 0", "no path"),
        (b"0 1 0 1", "no path"),
        (b" 0 1 0", "no path"),
        (b"", "nothing on this line"),
        (b"/c.jpg 0 1 0", "absolute"),
        (b"x/../../c.jpg 0 1 0", "leaves the image folder"),
        (b"\xff.jpg 0 1 0", "not UTF-8"),
        (b"./a.jpg 0 1 0", "'a.jpg' is listed already on line 1"),
    ],
)
def test_a_wrong_line_is_reported_with_file_and_line_and_the_others_are_kept(line, why):
    found, problems = parse_list(b"a.jpg 0 1 0\n" + line + b"\nb.jpg 1 1 0\n", "train.txt")
    assert len(problems) == 1
    assert re.match(rf"train\.txt:2: .*{why}", problems[0])
    assert found.paths == ["a.jpg", "b.jpg"]
    assert found.labels.tolist() == [[0, 1, 0], [1, 1, 0]]
    assert found.place(1) == "train.txt:3"


def test_wrong_first_lines_are_reported_like_any_other():
    for others in (PLAIN, PLAIN.removesuffix(b"\n")):
        assert problems_of(b"0 0 1 1\n" + others) == [
            "train.txt:1: no path before the labels; expected a path and 3 labels"
        ]
    assert problems_of(b"0 0 1 1") == [
        "train.txt:1: no path before the labels; expected a path and 4 labels"
    ]
    assert len(problems_of(b"a\n" + PLAIN)) == 1
    assert len(problems_of(b"x\n" * 50 + PLAIN + b"c.jpg 0 1")) == 51


def test_problems_come_in_the_order_of_the_lines():
    data = b"a.jpg 0 1\na.jpg 1 1\nb.jpg 2 0\n/c.jpg 0 0\nd.jpg 0 1\nd.jpg 0 1"
    assert [problem.split(":")[1] for problem in problems_of(data)] == ["2", "3", "4", "6"]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", b" \r\n"])
def test_an_empty_file_is_a_problem(data):
    found, problems = parse_list(data, "train.txt", 3)
    assert problems == ["train.txt:1: the file is empty"]
    assert found.paths == [] and found.labels.shape == (0, 3)


def test_a_file_without_any_labels_is_one_problem():
    found, problems = parse_list(b"a.jpg\nb.jpg\nc.jpg\n", "train.txt")
    assert len(problems) == 1 and "no labels" in problems[0]
    assert found.paths == []


def test_another_width_throughout_is_one_problem_and_the_list_is_still_read():
    found, problems = parse_list(PLAIN, "train.txt", 4)
    assert problems == ["train.txt:1: 3 labels a line, but 4 classes are expected"]
    assert found.labels.shape == (2, 3)
    assert len(problems_of(PLAIN + b"c.jpg 0 1 0 0\n", 4)) == 2  # where some lines are right


def test_one_column_for_two_classes_is_refused():
    (problem,) = problems_of(b"a.jpg 1\nb.jpg 0\n")
    assert "one label a line" in problem
    assert "'a.jpg 1 0' and 'b.jpg 0 1'" in problem


def test_utf_16_is_named():
    (problem,) = problems_of("a.jpg 1 0\nb.jpg 0 1\n".encode("utf-16"))
    assert "UTF-16; save it as UTF-8" in problem


def test_the_line_ends_of_old_macs_are_named():
    (problem,) = problems_of(b"a.jpg 1 0\rb.jpg 0 1\r")
    assert problem == "train.txt:1: its lines end with CR, as old Macs wrote them; save it with LF"
    assert not problems_of(b"a.jpg 1 0\r\nb.jpg 0 1\r\n")


def test_the_number_of_classes_must_be_positive():
    with pytest.raises(ValueError, match="num_classes must be 1 or more, got 0"):
        parse_list(PLAIN, "train.txt", 0)


def test_more_lines_than_are_parsed_at_once_keep_their_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (20_000, 7))
    lines = [f"{i}.jpg " + " ".join(map(str, row)) for i, row in enumerate(labels.tolist())]
    lines[9_000] = lines[9_000].replace(" ", "  ")
    found = parse("\n".join(lines).encode())
    np.testing.assert_array_equal(found.labels, labels)
    assert found.paths[9_000] == "9000.jpg" and found.paths[-1] == "19999.jpg"


LINE = st.tuples(
    st.text("ab 1.é\\", min_size=1, max_size=8).map(lambda x: "x" + x + ".j"),
    st.lists(st.sampled_from("01"), min_size=3, max_size=3),
    st.sampled_from([" ", "\t", "  "]),
    st.sampled_from(["\n", "\r\n", " \n"]),
)


@hypothesis.given(st.lists(LINE, min_size=1, max_size=8, unique_by=lambda line: line[0]))
def test_every_separator_and_line_end_gives_the_same_list(lines):
    text = "".join(blank.join([path, *labels]) + end for path, labels, blank, end in lines)
    plain = "".join(" ".join([path, *labels]) + "\n" for path, labels, *_ in lines)
    found, problems = parse_list(text.encode(), "f", 3)
    expected, plain_problems = parse_list(plain.encode(), "f", 3)
    assert problems == plain_problems
    assert found.paths == expected.paths
    np.testing.assert_array_equal(found.labels, expected.labels)
    if not problems:
        assert found.labels.tolist() == [[int(x) for x in labels] for _, labels, *_ in lines]


@hypothesis.given(st.binary(max_size=60) | st.text("ab.jpg/ 01\n\r\t", max_size=60))
def test_no_bytes_whatever_make_it_fail(data):
    raw = data if isinstance(data, bytes) else data.encode()
    found, problems = parse_list(raw, "f")
    assert len(found.paths) == len(found.labels) == len(set(found.paths))
    assert found.lines is not None and len(found.lines) == len(found.paths)
    assert found.labels.max(initial=0) <= 1
    assert found.paths or problems


def test_read_list_raises_with_the_first_problems_and_their_number(tmp_path):
    (tmp_path / "train.txt").write_bytes(PLAIN + b"c.jpg 0 1\n" * 12)
    with pytest.raises(DataError) as caught:
        read_list(tmp_path / "train.txt", 3)
    message = str(caught.value)
    assert f"{tmp_path / 'train.txt'}:3: 2 labels" in message
    assert "12 problems" in message and "7 more" in message
    assert "'images/1.jpg 0 1 0'" in message


def test_read_list_unpacks_gz(tmp_path):
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(PLAIN))
    assert read_list(str(tmp_path / "train.txt.gz"), 3).paths == ["a.jpg", "b.jpg"]
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(PLAIN)[:-9])
    with pytest.raises(DataError, match=r"train\.txt\.gz: this list file cannot be read"):
        read_list(tmp_path / "train.txt.gz")
    (tmp_path / "train.txt.gz").write_bytes(PLAIN)
    with pytest.raises(DataError, match=r"train\.txt\.gz: this list file cannot be read"):
        read_list(tmp_path / "train.txt.gz")


def test_a_missing_list_is_named_with_what_belongs_there(tmp_path):
    with pytest.raises(DataError, match=r"train\.txt: there is no such list file; a line is"):
        read_list(tmp_path / "train.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read_list(tmp_path)


def test_write_list_writes_what_read_list_reads(tmp_path):
    file = tmp_path / "train.txt"
    write_list(file, ["a.jpg", "my photos/ü 1.jpg"], np.array([[0, 1], [1, 0]]))
    assert file.read_bytes() == "a.jpg 0 1\nmy photos/ü 1.jpg 1 0\n".encode()
    assert read_list(file).paths == ["a.jpg", "my photos/ü 1.jpg"]
    assert os.listdir(tmp_path) == ["train.txt"]


@pytest.mark.parametrize(
    ("paths", "labels", "why"),
    [
        (["a.jpg"], [[0, 1], [1, 0]], r"1 paths with labels of shape \(2, 2\)"),
        ([], np.zeros((0, 2)), "0 paths"),
        (["a.jpg"], [[0, 2]], "0 or 1"),
        (["a\nb.jpg"], [[0, 1]], "cannot be written"),
        (["a.jpg", "a.jpg"], [[0, 1], [0, 1]], "listed already"),
        (["a.jpg "], [[0, 1]], "cannot be written"),
        (["a 1"], [[0, 1]], "cannot be written"),
        (["a\\b.jpg"], [[0, 1]], "cannot be written"),
        (["./a.jpg"], [[0, 1]], "cannot be written"),
        (["../a.jpg"], [[0, 1]], "leaves"),
        (["\udcff.jpg"], [[0, 1]], "not UTF-8"),
    ],
)
def test_write_list_refuses_what_would_not_be_read_back(tmp_path, paths, labels, why):
    with pytest.raises(ValueError, match=why):
        write_list(tmp_path / "train.txt", paths, np.array(labels))
    assert os.listdir(tmp_path) == []


def test_imagenet_sized_lists_are_parsed_in_two_seconds():
    labels = (b" 0" * 76 + b" 1" + b" 0" * 23 + b"\n").join(
        b"./data/imagenet/image/n03944341_%d.JPEG" % i for i in range(128_504)
    )
    data = labels[: labels.rindex(b"\n") + 1]
    started = time.process_time()
    found = parse(data, 100)
    assert time.process_time() - started < 2
    assert found.labels.shape == (128_503, 100)
