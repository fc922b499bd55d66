"""Small pictures that are damaged or find no room, as writers and commands tell it."""

import os
from pathlib import Path

import pytest

from hybridhash_jax.retrieval.index import (
    create_index,
    merge,
    open_index,
    open_writer,
    thumbnails,
)
from hybridhash_jax.retrieval.index.command import main
from tests.retrieval.index.damage_test import garbled
from tests.retrieval.index.made import MODEL, codes_of, entry_of, make


def with_pictures(path: Path, *names: bytes) -> Path:
    create_index(path, MODEL, None)
    with open_writer(path) as writer:
        pictures = [b"JPEG" * 1000 for _ in names]
        writer.add([entry_of(name) for name in names], codes_of(names), thumbnails=pictures)
    return path


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures find no room: SQLite takes one page, as where the disk ends."""
    tables = thumbnails._TABLES
    monkeypatch.setattr(
        thumbnails, "_TABLES", tables.replace("CREATE", "PRAGMA max_page_count = 1; CREATE")
    )


@pytest.mark.usefixtures("full")
def test_a_writer_counts_thumbnails_that_it_could_not_keep(tmp_path: Path):
    path = make(tmp_path / "i")
    with open_writer(path) as writer:
        for names in ([b"a", b"b"], [b"c"]):
            entries = [entry_of(name) for name in names]
            writer.add(entries, codes_of(names), thumbnails=[b"JPEG", None][: len(names)])
        assert (writer.lost_thumbnails, writer.lost_why) == (2, "database or disk is full")
    assert len(open_index(path)) == 3


def test_merging_tells_thumbnails_that_cannot_be_kept(tmp_path: Path, request):
    path = with_pictures(tmp_path / "i", b"a", b"b")
    assert merge([path], tmp_path / "all") == []
    request.getfixturevalue("full")
    (told,) = merge([path], tmp_path / "none")
    assert told == f"not all thumbnails of {path} could be kept: database or disk is full"


def test_verify_tells_damaged_thumbnails_and_that_search_does_without(tmp_path: Path, capsys):
    path = with_pictures(tmp_path / "i", *(b"%d" % number for number in range(20)))
    assert main(["verify", str(path)]) == 0
    assert capsys.readouterr().out == f"{path} is whole\n"
    file = path / "thumbnails.sqlite"
    whole = file.read_bytes()
    for damaged in (b"damaged" * 1000, whole[:8192] + b"x" * (len(whole) - 8192)):
        file.write_bytes(damaged)
        assert main(["verify", str(path)]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == f"{path} is whole"
        assert second.startswith(f"notice: {file} is damaged; search is unaffected")


def test_thumbnails_of_which_sqlite_cannot_tell_in_words_are_made_anew(tmp_path: Path):
    path = with_pictures(tmp_path / "i", b"a")
    file = path / "thumbnails.sqlite"
    garbled(file, b"tablethumbnails")
    assert open_index(path).thumbnail(0) is None
    assert thumbnails.is_damaged(file)
    assert list(thumbnails.all_in(file)) == []
    assert thumbnails.keep(file, [(b"b", b"JPEG")]) is None
    assert list(thumbnails.all_in(file)) == [(b"b", b"JPEG")]


def test_a_cache_that_outgrew_a_full_disk_gives_its_room_back(tmp_path: Path, monkeypatch):
    file = tmp_path / "thumbnails.sqlite"
    assert thumbnails.keep(file, [(b"a", b"JPEG")]) is None
    size = file.stat().st_size
    grown = size // 8192 + 2
    full = thumbnails._TABLES.replace("CREATE", f"PRAGMA max_page_count = {grown}; CREATE", 1)
    monkeypatch.setattr(thumbnails, "_TABLES", full)
    pictures = [(b"%d" % number, os.urandom(30_000)) for number in range(9)]
    assert thumbnails.keep(file, pictures) == "database or disk is full"
    assert list(thumbnails.all_in(file)) == [(b"a", b"JPEG")]  # it was rolled back: nothing grew

    def half_done(*_: object) -> None:
        os.truncate(file, 2 * size)  # as SQLite does where it has no room to roll back
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(thumbnails, "_change", half_done)
    assert "No space left" in (thumbnails.keep(file, pictures) or "")
    assert not list(tmp_path.iterdir())
