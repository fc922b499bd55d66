"""MIRFlickr's and VOC's annotations as published, and what is wrong with wrong files."""

import numpy as np
import pytest

from input_pipeline.annotations.raw_annotations import (
    MIRFLICKR_CLASSES,
    VOC2012_CLASSES,
    read_mirflickr,
    read_voc2012,
)
from input_pipeline.errors import DataError
from tests.input_pipeline.annotations.raw_sets import make_mirflickr, make_voc2012, random_bits

VALUES = random_bits(50, [30] * 20).astype(int) * 2 - 1


def refusal(read, directory) -> str:
    with pytest.raises(DataError) as caught:
        read(directory)
    return str(caught.value)


def test_mirflickr_has_24_potential_and_14_relevant_labels():
    relevant = {name for name in MIRFLICKR_CLASSES if name.endswith("_r1")}
    assert len(relevant) == 14
    assert len(set(MIRFLICKR_CLASSES) - relevant) == 24
    assert {name.removesuffix("_r1") for name in relevant} <= set(MIRFLICKR_CLASSES)


def test_mirflickr_numbers_become_labels_and_unlabelled_images_stay(tmp_path):
    numbers = make_mirflickr(tmp_path / "mirflickr25k_annotations_v080", 300)
    raw = read_mirflickr(tmp_path)
    assert raw.labels.shape == (25_000, 38) and raw.labels.dtype == np.uint8
    for column, name in enumerate(raw.class_names):
        assert (np.flatnonzero(raw.labels[:, column]) + 1).tolist() == numbers[name]
    assert raw.paths[0] == "im1.jpg" and raw.paths[-1] == "im25000.jpg"
    assert not raw.labels.any(axis=1).all()


def test_mirflickr_paths_carry_the_image_folder_if_it_lies_beside(tmp_path):
    annotations = tmp_path / "mirflickr25k_annotations_v080"
    make_mirflickr(annotations, 5)
    assert read_mirflickr(annotations).paths[1] == "im2.jpg"
    (tmp_path / "mirflickr").mkdir()
    for directory in (annotations, tmp_path):
        raw = read_mirflickr(directory)
        assert raw.paths[1] == "mirflickr/im2.jpg"
        assert "mirflickr/im1.jpg" in raw.notes[0]


def test_mirflickr_accepts_any_line_ends(tmp_path):
    make_mirflickr(tmp_path / "a", 5)
    expected = read_mirflickr(tmp_path / "a").labels
    file = tmp_path / "a" / "sky.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", b" \r\n") + b"\r\n")
    np.testing.assert_array_equal(read_mirflickr(tmp_path / "a").labels, expected)


@pytest.mark.parametrize("wrong", ["0", "25001", "im7.jpg", "-3", "", "7 8", "9" * 12, "１"])
def test_mirflickr_names_a_wrong_line(tmp_path, wrong):
    make_mirflickr(tmp_path / "a", 5)
    file = tmp_path / "a" / "dog.txt"
    file.write_text(f"1\n2\n{wrong}\n4\n", encoding="utf-8")
    assert f"{file}:3: " in refusal(read_mirflickr, tmp_path / "a")


def test_mirflickr_names_missing_files(tmp_path):
    assert "mirflickr25k_annotations_v080" in refusal(read_mirflickr, tmp_path)
    make_mirflickr(tmp_path / "annotations", 5)
    (tmp_path / "annotations" / "dog_r1.txt").unlink()
    assert "lacks dog_r1 of MIRFlickr's 38" in refusal(read_mirflickr, tmp_path)
    for name in MIRFLICKR_CLASSES[:9]:
        (tmp_path / "annotations" / f"{name}.txt").unlink()
    assert "and 5 more" in refusal(read_mirflickr, tmp_path)


@pytest.mark.parametrize("place", ["VOCdevkit/VOC2012", "VOC2012", "."])
def test_voc_labels_are_read_wherever_the_archive_was_unpacked(tmp_path, place):
    ids = make_voc2012(tmp_path / place, VALUES)
    raw = read_voc2012(tmp_path)
    assert raw.paths == [f"JPEGImages/{i}.jpg" for i in ids]
    assert raw.class_names == VOC2012_CLASSES and len(VOC2012_CLASSES) == 20
    np.testing.assert_array_equal(raw.labels, VALUES == 1)
    assert raw.labels.dtype == np.uint8
    assert raw.notes == ("50 images are listed; the published set has 11,540",)


def test_voc_objects_that_are_only_difficult_count_as_absent(tmp_path):
    values = VALUES.copy()
    values[:7, 3] = 0
    make_voc2012(tmp_path, values)
    raw = read_voc2012(tmp_path)
    assert not raw.labels[:7, 3].any()
    assert any(note.startswith("7 labels are of difficult") for note in raw.notes)


@pytest.mark.parametrize(
    "wrong", ["2008_000001", "2008_000001 2", "2008_000001 1 1", "", "../x 1", "2008_000001 +1"]
)
def test_voc_names_a_wrong_line(tmp_path, wrong):
    make_voc2012(tmp_path, VALUES)
    file = tmp_path / "ImageSets" / "Main" / "cat_trainval.txt"
    lines = file.read_text().splitlines()
    lines[9] = wrong
    file.write_text("\n".join(lines))
    assert f"{file}:10: " in refusal(read_voc2012, tmp_path)


def test_voc_names_missing_files_and_images_that_differ(tmp_path):
    assert "VOCdevkit/VOC2012/ImageSets/Main" in refusal(read_voc2012, tmp_path)
    make_voc2012(tmp_path, VALUES)
    main = tmp_path / "ImageSets" / "Main"
    lines = (main / "cow_trainval.txt").read_text().splitlines()
    (main / "cow_trainval.txt").write_text("\n".join(lines[:30]))
    assert f"{main / 'cow_trainval.txt'}:31: " in refusal(read_voc2012, tmp_path)
    (main / "cow_trainval.txt").write_text("\n".join([*lines[:4], lines[5], lines[4], *lines[6:]]))
    assert f"{main / 'cow_trainval.txt'}:5: " in refusal(read_voc2012, tmp_path)
    (main / "cow_trainval.txt").unlink()
    assert f"cannot read {main / 'cow_trainval.txt'}" in refusal(read_voc2012, tmp_path)


def test_voc_refuses_an_image_listed_twice(tmp_path):
    make_voc2012(tmp_path, VALUES)
    for name in VOC2012_CLASSES:
        file = tmp_path / "ImageSets" / "Main" / f"{name}_trainval.txt"
        lines = file.read_text().splitlines()
        file.write_text("\n".join([*lines, lines[0]]))
    assert "aeroplane_trainval.txt:51: image '2008_000000'" in refusal(read_voc2012, tmp_path)
