"""NUS-WIDE's files: which concepts and images are kept, and what is wrong with wrong files."""

from pathlib import Path

import numpy as np
import pytest

from input_pipeline.annotations.raw_annotations import read_nuswide
from input_pipeline.errors import DataError
from tests.input_pipeline.annotations.raw_sets import CONCEPTS, make_nuswide, random_bits

LABELS = random_bits(60, [40] * 81)


def label_file(root: Path, concept: int = 4) -> Path:
    return root / "Groundtruth" / "AllLabels" / f"Labels_{CONCEPTS[concept]}.txt"


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_nuswide(root)
    return str(caught.value)


def test_the_commonest_concepts_are_kept_in_order_of_name(tmp_path):
    labels = np.zeros((6, 81), np.uint8)
    labels[:5, 70] = labels[:4, 10] = labels[1:5, 30] = 1
    labels[:2, 20] = 1
    labels[5, 50] = 1
    paths = make_nuswide(tmp_path, labels)
    raw = read_nuswide(tmp_path, concepts=3)
    assert raw.class_names == ("concept10", "concept30", "concept70")
    assert raw.paths == paths[:5]  # image 5 has none of the three
    np.testing.assert_array_equal(raw.labels, labels[:5][:, [10, 30, 70]])
    assert raw.labels.dtype == np.uint8


def test_among_equally_common_concepts_the_first_by_name_are_kept(tmp_path):
    make_nuswide(tmp_path, np.ones((3, 81), np.uint8))
    assert read_nuswide(tmp_path).class_names == CONCEPTS[:21]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b" \r\n", b"\t\n"])
def test_line_ends_and_trailing_blanks_do_not_matter(tmp_path, line_end):
    make_nuswide(tmp_path / "plain", LABELS)
    make_nuswide(tmp_path / "other", LABELS, line_end)
    plain, other = read_nuswide(tmp_path / "plain"), read_nuswide(tmp_path / "other")
    assert plain.paths == other.paths
    np.testing.assert_array_equal(plain.labels, other.labels)


def test_a_last_line_without_an_end_and_blank_lines_after_it_are_accepted(tmp_path):
    make_nuswide(tmp_path, LABELS)
    expected = read_nuswide(tmp_path).labels
    label_file(tmp_path, 0).write_bytes(label_file(tmp_path, 0).read_bytes().rstrip())
    label_file(tmp_path, 1).write_bytes(label_file(tmp_path, 1).read_bytes() + b"\r\n \n")
    np.testing.assert_array_equal(read_nuswide(tmp_path).labels, expected)


def test_files_are_found_inside_a_folder_of_the_archives_name(tmp_path):
    paths = make_nuswide(tmp_path / "NUS-WIDE", np.ones((3, 81), np.uint8))
    make_nuswide(tmp_path / "NUS-WIDE-Lite", np.ones((9, 81), np.uint8))
    assert read_nuswide(tmp_path).paths == paths


def test_files_may_lie_together_with_those_of_the_halves(tmp_path):
    make_nuswide(tmp_path / "a", LABELS)
    expected = read_nuswide(tmp_path / "a").labels
    for file in (tmp_path / "a").rglob("*.txt"):
        file.rename(tmp_path / file.name)
    (tmp_path / "Labels_concept00_Train.txt").write_text("1\n")
    np.testing.assert_array_equal(read_nuswide(tmp_path).labels, expected)


def test_totals_that_are_not_the_published_ones_are_noted(tmp_path):
    make_nuswide(tmp_path, LABELS)
    listed, kept = read_nuswide(tmp_path).notes
    assert listed == "60 images are listed; the published set has 269,648"
    assert "21 commonest" in kept and "195,834" in kept


def test_nothing_found_names_everything_tried(tmp_path):
    message = refusal(tmp_path)
    for part in ("ImageList/Imagelist.txt", str(tmp_path / "NUS-WIDE"), "image list"):
        assert part in message
    (tmp_path / "Imagelist.txt").write_text("a\\b.jpg\n")
    assert "Groundtruth/AllLabels" in refusal(tmp_path)
    assert "is not a folder" in refusal(tmp_path / "nowhere")


def test_a_missing_label_file_is_an_error(tmp_path):
    make_nuswide(tmp_path, LABELS)
    label_file(tmp_path).unlink()
    assert "80 concepts, NUS-WIDE has 81" in refusal(tmp_path)
    (tmp_path / "ConceptsList").mkdir()
    (tmp_path / "ConceptsList" / "Concepts81.txt").write_text("\r\n".join(CONCEPTS))
    assert "no Labels_NAME.txt for concept04, which" in refusal(tmp_path)


def test_label_files_beyond_the_list_of_concepts_are_not_read(tmp_path):
    make_nuswide(tmp_path, LABELS)
    (tmp_path / "Concepts81.txt").write_text("\n".join(CONCEPTS))
    label_file(tmp_path).with_name("Labels_backup.txt").write_text("not labels")
    assert len(read_nuswide(tmp_path).class_names) == 21


@pytest.mark.parametrize("wrong", ["2", "01", "011", "", "-1", "0 1", "x", "\xe9"])
def test_a_wrong_line_is_named(tmp_path, wrong):
    make_nuswide(tmp_path, LABELS)
    file = label_file(tmp_path)
    lines = file.read_text().splitlines()
    lines[16] = wrong
    file.write_text("\n".join(lines) + "\n", encoding="latin1")
    assert f"{file}:17: " in refusal(tmp_path)


@pytest.mark.parametrize(("lines", "where"), [(59, 60), (61, 61), (0, 1)])
def test_a_file_of_another_length_is_named(tmp_path, lines, where):
    make_nuswide(tmp_path, LABELS)
    label_file(tmp_path).write_text("0\n" * lines)
    assert f"{label_file(tmp_path)}:{where}: " in refusal(tmp_path)


@pytest.mark.parametrize(
    "wrong", ["", "/etc/passwd.jpg", "..\\a.jpg", "a/../../b.jpg", "C:\\a.jpg"]
)
def test_an_image_outside_the_folder_is_refused(tmp_path, wrong):
    make_nuswide(tmp_path, LABELS)
    file = tmp_path / "ImageList" / "Imagelist.txt"
    lines = file.read_text().splitlines()
    lines[3] = wrong
    file.write_text("\n".join(lines) + "\n")
    assert f"{file}:4: " in refusal(tmp_path)


def test_an_image_listed_twice_and_a_list_that_is_no_text_are_refused(tmp_path):
    make_nuswide(tmp_path, LABELS)
    file = tmp_path / "ImageList" / "Imagelist.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], lines[2]]))
    assert f"{file}:60: 'actor/0002_15838.jpg' is listed twice" in refusal(tmp_path)
    file.write_bytes(b"\xff\xd8\xff\xe0")
    assert f"{file} is not a text file" in refusal(tmp_path)
