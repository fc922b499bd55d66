"""A damaged catalogue, as readers, writers and commands tell it."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridhash_jax.retrieval.index import (
    Index,
    IndexFileError,
    Writer,
    compact,
    describe,
    merge,
    open_index,
    open_writer,
    storage,
    verify,
)
from hybridhash_jax.retrieval.index.command import main
from tests.retrieval.index.made import codes_of, entry_of, make

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


def damaged_by(index: Path, statement: str) -> None:
    """As a flipped bit might leave the catalogue."""
    with contextlib.closing(sqlite3.connect(index / "catalogue-0.sqlite")) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    "use",
    [
        lambda path: open_index(path).entries([1]),
        lambda path: list(open_index(path).by_path()),
    ],
)
def test_an_image_whose_label_is_lost_is_damage_to_all(
    tmp_path: Path, use: Callable[[Path], object]
):
    path = make(tmp_path / "i", [b"a/1", b"b/2", b"b/3"])
    damaged_by(path, "UPDATE rows SET label = 99 WHERE row = 1")
    (told,) = verify(path)
    assert told.endswith("catalogue-0.sqlite is damaged: it does not list the labels of 1 image")
    with pytest.raises(IndexFileError, match="its catalogue is damaged; restore a copy"):
        use(path)
    assert open_index(path).labels() == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE segments SET codes = '../../' || codes", "a segment has no name of a file"),
        ("UPDATE segments SET hashes = CAST(hashes AS BLOB)", "a segment has no name of a file"),
        ("UPDATE segments SET rows = 'many'", "its rows have a gap"),
        ("UPDATE state SET changes = 'many'", "its catalogue is damaged"),
        ("DELETE FROM state", "its catalogue is damaged"),
        ("INSERT INTO tombstones VALUES (77, 1)", "its catalogue is damaged"),
        ("INSERT INTO tombstones VALUES (-1, 1)", "its catalogue is damaged"),
        ("INSERT INTO backends VALUES ('gpu', 'bf16', 'many', 1)", "its catalogue is damaged"),
        ("ALTER TABLE rows RENAME COLUMN height TO heigiu", "its tables are not those"),
        ("ALTER TABLE labels RENAME COLUMN label TO labem", "its tables are not those"),
        ("DROP INDEX rows_by_path", "its tables are not those of an index.*; restore a copy"),
        ("DELETE FROM rows", "its last image is not that of the last segment.*; restore a copy"),
        ("DELETE FROM segments", "its last image is not that of the last segment"),
    ],
)
def test_values_that_no_writer_enters_are_damage(tmp_path: Path, statement: str, told: str):
    path = make(tmp_path / "i", PATHS[:3])
    damaged_by(path, statement)
    files = set((path / "segments").iterdir())

    def write(path: Path) -> None:
        with open_writer(path) as writer:
            writer.known()

    for use in (open_index, describe, verify, compact, write):
        with pytest.raises(IndexFileError, match=told):
            use(path)
    assert set((path / "segments").iterdir()) == files


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "UPDATE rows SET path = (SELECT path FROM rows WHERE row = 0) WHERE row = 2",
            "in it twice",
        ),
        ("UPDATE rows SET label = 99 WHERE row = 1", "it does not list the labels of 1 image"),
        (
            "UPDATE rows SET size = x'00' WHERE row = 1",
            "it lists 1 image with facts that cannot be",
        ),
        ("UPDATE rows SET height = -5 WHERE row = 1", "it lists 1 image with facts that cannot be"),
        (
            "UPDATE rows SET path = 'text' WHERE row = 1",
            "it lists 1 image with facts that cannot be",
        ),
    ],
)
def test_what_verify_finds_in_a_catalogue_is_neither_compacted_nor_merged(
    tmp_path: Path, statement: str, told: str
):
    path = make(tmp_path / "i", PATHS[:3])
    damaged_by(path, statement)
    assert any(told in problem for problem in verify(path))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for use in (
        lambda: compact(path),
        lambda: compact(path, drop_damaged=True),
        lambda: merge([path], tmp_path / "all"),
    ):
        with pytest.raises(IndexFileError, match=f"its catalogue is damaged .*{told}.*; restore"):
            use()
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["i"]


@pytest.mark.parametrize(
    ("statement", "use"),
    [
        ("UPDATE rows SET size = x'00' WHERE row = 1", lambda index: index.entries([1])),
        ("UPDATE rows SET path = 'text' WHERE row = 1", lambda index: index.paths()),
        ("DELETE FROM rows WHERE row = 1", lambda index: index.entries([1])),
        ("UPDATE rows SET path = CAST(x'ff' AS TEXT)", lambda index: index.paths()),
    ],
)
def test_values_that_a_reader_meets_are_told_as_damage(
    tmp_path: Path, statement: str, use: Callable[[Index], object]
):
    path = make(tmp_path / "i", PATHS[:3])
    damaged_by(path, statement)
    with pytest.raises(IndexFileError, match="its catalogue is damaged; restore a copy"):
        use(open_index(path))


def test_an_emptied_catalogue_is_damage(tmp_path: Path):
    path = make(tmp_path / "i", PATHS[:3])
    (path / "catalogue-0.sqlite").write_bytes(b"")
    with pytest.raises(IndexFileError, match="its catalogue is damaged.*; restore a copy"):
        open_index(path)


def test_paths_in_no_order_are_not_listed_without_end(tmp_path: Path):
    path = make(tmp_path / "i", PATHS[:3])
    file = path / "catalogue-0.sqlite"
    file.write_bytes(file.read_bytes().replace(PATHS[2], b"!" * 100))
    with (
        open_writer(path) as writer,
        pytest.raises(IndexFileError, match="its catalogue is damaged"),
    ):
        list(writer.known())


def test_a_writer_removes_no_codes_whose_name_may_be_damaged(tmp_path: Path):
    path = make(tmp_path / "i", PATHS[:3])
    files = set((path / "segments").iterdir())
    damaged_by(path, "UPDATE segments SET codes = 'a' || substr(codes, 2)")
    damaged_by(path, "UPDATE segments SET codes = 'b' || substr(codes, 2)")
    with open_writer(path) as writer:
        writer.remove(PATHS[:1])
    assert set((path / "segments").iterdir()) == files


def test_codes_that_may_not_be_read_are_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = make(tmp_path / "i", PATHS[:3])

    def refuse(file: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    with open_writer(path) as writer:
        monkeypatch.setattr("numpy.memmap", refuse)
        for use in (lambda: open_index(path), lambda: verify(path), writer.known):
            with pytest.raises(IndexFileError, match=r"\.codes: Permission denied"):
                use()


def test_two_that_make_one_index_work_in_folders_of_their_own(tmp_path: Path):
    # Though their processes may have one number, as in containers that share a disk.
    target = tmp_path / "i"
    with pytest.raises(IndexFileError, match="not empty"), storage.building(target) as one:
        with storage.building(target) as other:
            assert one != other
    assert [file.name for file in tmp_path.iterdir()] == ["i"]


@pytest.mark.parametrize(
    ("statement", "count"),
    [("UPDATE rows SET row = -9 WHERE row = 1", 3), ("DELETE FROM rows WHERE row = 1", 2)],
)
def test_images_that_the_catalogue_has_lost_are_not_compacted_away(
    tmp_path: Path, statement: str, count: int
):
    path = make(tmp_path / "i", PATHS[:3])
    damaged_by(path, statement)
    (told,) = verify(path)
    assert f"it lists {count} images, and segments of 3" in told
    with open_index(path) as index:
        assert index.row_of(PATHS[1]) is None
        assert index.paths()[0] == [PATHS[0], PATHS[2]]
        assert index.matching({"path": "*"}).tolist() == [True, False, True]
    for use in (lambda: compact(path), lambda: merge([path], tmp_path / "all")):
        with pytest.raises(
            IndexFileError, match="is damaged .*it lists . images, and segm.*restore"
        ):
            use()
    assert open_index(path).row_of(PATHS[2]) == 2


def garbled(file: Path, table: bytes) -> None:
    """What SQLite says of it is no text."""
    data = file.read_bytes()
    assert table in data
    file.write_bytes(data.replace(table, table[:-1] + b"\xff"))


def test_damage_of_which_sqlite_cannot_tell_in_words_is_told(tmp_path: Path, capsys):
    path = make(tmp_path / "i", PATHS[:3])
    garbled(path / "catalogue-0.sqlite", b"tablelabels")
    for command in (["verify"], ["info"], ["compact"], ["remove", "x"]):
        assert main([command[0], str(path), *command[1:]]) == 1
        error = capsys.readouterr().err
        assert f"the index {path}: its catalogue is damaged; restore a copy" in error
