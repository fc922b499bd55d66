"""Texts that people write: a byte order mark is no part of them, and other encodings are told."""

import codecs

import numpy as np
import pytest

from input_pipeline import check
from input_pipeline.errors import DataError
from input_pipeline.lists.label_lists import parse_list, read_class_names, write_list
from input_pipeline.lists.listed import LIST_FILES
from input_pipeline.lists.texts import text_of

ADVICE = "text that is not UTF-8; save it as UTF-8"


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, mark):
    (tmp_path / "classes.txt").write_bytes(mark + "mère\nπ\n".encode())
    assert read_class_names(tmp_path) == ("mère", "π")
    assert parse_list(mark + b"a.jpg 1 0\nb.jpg 0 1\n", "x.txt")[0].paths == ["a.jpg", "b.jpg"]
    with pytest.raises(DataError, match=f"x.txt:3: {ADVICE}"):
        text_of(mark + b"a\nb\nm\xe8re\n", "x.txt")


def test_texts_in_latin_1_are_to_be_saved_as_utf_8(tmp_path, capsys):
    """And `check` still says what else is wrong."""
    for number, file in enumerate(LIST_FILES.values()):
        names = [f"{number}{letter}.jpg" for letter in "ab"]
        write_list(tmp_path / file, names, np.eye(2, dtype=np.uint8))
    (tmp_path / "classes.txt").write_text("cat\nmère\n", encoding="latin-1")
    (tmp_path / "test.txt").write_text("mère.jpg 1 0\n", encoding="latin-1")
    out = tmp_path / "problems.txt"
    assert check.main([f"--lists={tmp_path}", "--no_images", f"--out={out}"]) == 1
    shown = capsys.readouterr().out
    assert f"classes.txt:2: {ADVICE}" in shown
    assert f"test.txt:1: the path 'm\ufffdre.jpg' is {ADVICE}" in shown
