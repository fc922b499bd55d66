"""A damaged catalogue and small pictures that cannot be kept, as writers and commands tell them."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridhash_jax.retrieval.index import (
    Index,
    IndexFileError,
    Writer,
    create_index,
    merge,
    open_index,
    open_writer,
    thumbnails,
)
from hybridhash_jax.retrieval.index.command import main
from tests.retrieval.index.made import MODEL, codes_of, entry_of, make

PATHS = [b"%0100d" % number for number in range(400)]


def overwrite_pages(index: Path, told_by: bytes) -> None:
    """Every page of the catalogue that holds these bytes, but for the first one."""
    file = index / "catalogue-0.sqlite"
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    pages = [at for at in range(size, len(data), size) if told_by in data[at : at + size]]
    assert pages
    for at in pages:
        data[at : at + size] = b"x" * size
    file.write_bytes(data)


@pytest.mark.parametrize(
    "use",
    [
        lambda writer: writer.known()[PATHS[7]],
        lambda writer: list(writer.known()),
        lambda writer: writer.add([entry_of(PATHS[7])], codes_of(PATHS[7:8])),
        lambda writer: writer.remove([PATHS[7]]),
    ],
)
def test_a_damaged_catalogue_is_told_to_writers_as_to_readers(
    tmp_path: Path, use: Callable[[Writer], object]
):
    path = make(tmp_path / "i", PATHS)
    overwrite_pages(path, PATHS[7])
    with open_writer(path) as writer, pytest.raises(IndexFileError, match="its catalogue is damag"):
        use(writer)


@pytest.mark.parametrize(
    ("of", "use"),
    [
        ("changes", lambda index: index.index),
        ("segments", lambda index: index.segment_records()),
        ("problems", lambda index: index.catalogue_problems()),
    ],
)
def test_every_query_of_a_catalogue_is_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    of: str,
    use: Callable[[Writer | Index], object],
):
    def damaged(*_: object) -> None:
        error = sqlite3.DatabaseError("malformed")
        error.sqlite_errorname = "SQLITE_CORRUPT"
        raise error

    path = make(tmp_path / "i", [b"a"])
    opened = open_writer(path) if of == "changes" else open_index(path)
    with opened as index:
        monkeypatch.setattr(f"hybridhash_jax.retrieval.index.catalogue.{of}", damaged)
        with pytest.raises(IndexFileError, match="its catalogue is damaged; restore a copy"):
            use(index)
        monkeypatch.undo()


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
