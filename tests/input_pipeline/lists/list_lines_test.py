"""One line of a list: what is path, what are labels, and which paths are refused."""

import posixpath

import hypothesis
import hypothesis.strategies as st
import pytest

from input_pipeline.lists.list_lines import image_path, label_that_is_no_label, parse_line


@pytest.mark.parametrize(
    ("line", "path", "labels"),
    [
        (b"a.jpg 0 1 0", b"a.jpg", b"010"),
        (b"a b\t1.jpg\t0  1 \t1", b"a b\t1.jpg", b"011"),
        (b"IMG 2 1 1 0", b"IMG 2", b"110"),
        (b" a.jpg 0 0 0", b" a.jpg", b"000"),
    ],
)
def test_labels_are_the_fields_at_the_end_and_the_path_is_the_rest(line, path, labels):
    assert parse_line(line, 3) == (path, labels)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "nothing on this line"),
        (b"a.jpg", "no labels, expected 3"),
        (b"a.jpg 0 1", r"2 labels \(0 or 1\) after 'a.jpg', expected 3"),
        (b"a.jpg 0 1 1 0", r"4 labels .* expected 3"),
        (b"a.jpg x 0 1", r"2 labels .* after 'x', expected 3"),
        (b"0 1 0", "no path"),
        (b"0 1 0 1", "no path"),
        (b"a.jpg 0 2 1", "label '2' is not 0 or 1"),
        (b"a.jpg -1 0 0", "label '-1' is not 0 or 1"),
        (b"a.jpg 1.0 0 0", "label '1.0' is not 0 or 1"),
    ],
)
def test_a_wrong_line_is_explained(line, why):
    with pytest.raises(ValueError, match=why):
        parse_line(line, 3)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        (b"a.jpg 2", "2"),
        (b"a.jpg 3 1", "3"),
        (b"a.jpg 1e3", "1e3"),
        (b"photo 12", None),
        (b"photo 12.jpg", None),
        (b"a.jpg", None),
    ],
)
def test_a_number_behind_a_suffix_is_a_wrong_label(path, label):
    assert label_that_is_no_label(path) == label


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("./a/b.jpg", "a/b.jpg"),
        ("././a/b.jpg", "a/b.jpg"),
        (".//a.jpg", "a.jpg"),
        ("a//./b.jpg", "a/b.jpg"),
        ("a/../b.jpg", "b.jpg"),
        ("actor\\0001_2.jpg", "actor/0001_2.jpg"),
        (".\\actor\\1.jpg", "actor/1.jpg"),
        ("./actor\\1.jpg", "actor/1.jpg"),
        ("actor\\/.", "actor"),
        ("actor/odd\\name.jpg", "actor/odd\\name.jpg"),
        (".hidden.jpg", ".hidden.jpg"),
        ("a/..b.jpg", "a/..b.jpg"),
        ("at 12:30.jpg", "at 12:30.jpg"),
    ],
)
def test_a_path_has_one_form(text, path):
    assert image_path(text) == path


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/etc/passwd", "absolute"),
        ("\\etc\\passwd", "absolute"),
        ("C:\\a.jpg", "absolute"),
        ("c:/a.jpg", "absolute"),
        ("\\\\server\\a.jpg", "absolute"),
        ("gs://bucket/a.jpg", "absolute"),
        ("file:///a.jpg", "absolute"),
        ("../a.jpg", "leaves the image folder"),
        ("..\\a.jpg", "leaves the image folder"),
        ("a/../../b.jpg", "leaves the image folder"),
        ("a/..\\..\\b.jpg", "leaves the image folder"),
        ("./..", "leaves the image folder"),
        ("", "names no file"),
        ("./", "names no file"),
        ("a/", "names no file"),
        ("a/..\\", "names no file"),
        ("a/../c:/b.jpg", "absolute"),
        ("a\0.jpg", "names no file"),
    ],
)
def test_paths_outside_the_folder_or_without_a_file_are_refused(text, why):
    with pytest.raises(ValueError, match=why):
        image_path(text)


@hypothesis.given(st.text(alphabet="ab./\\:", max_size=12))
def test_every_accepted_path_stays_inside_and_is_in_its_final_form(text):
    try:
        path = image_path(text)
    except ValueError:
        return
    assert not posixpath.isabs(path)
    for form in (path, path.replace("\\", "/")):
        assert posixpath.normpath(posixpath.join("/root", form)).startswith("/root/")
    assert image_path(path) == path
