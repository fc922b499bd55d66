"""Files appear whole, replace older ones, and leave nothing behind where they cannot."""

import os

import pytest

from input_pipeline.atomic_file import write_atomically
from input_pipeline.errors import DataError


def test_a_file_is_written_and_nothing_else_is_left(tmp_path):
    write_atomically(tmp_path / "a.txt", b"one")
    write_atomically(tmp_path / "a.txt", b"two")
    assert (tmp_path / "a.txt").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_older_file_survives_a_write_that_fails(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DataError, match=r"a\.txt.*disk full"):
        write_atomically(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "a.txt", b"")
