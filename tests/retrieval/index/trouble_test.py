"""Damage, newer formats, two writers and full disks: one clear message, and nothing is lost."""

import errno
import json
import os
import resource
import signal
import sqlite3
from pathlib import Path

import pytest

from hybridhash_jax.retrieval.index import (
    IndexFileError,
    compact,
    create_index,
    describe,
    merge,
    open_index,
    open_writer,
    reader,
    verify,
)
from hybridhash_jax.retrieval.search.damage import damage as damage_told
from hybridhash_jax.runtime.lock_file import held
from tests.retrieval.index.made import MODEL, codes_of, content, entry_of, hashes_of, make

PATHS = [b"0", b"1", b"2", b"3"]


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if how == "short" else data)


@pytest.mark.parametrize("how", ["flipped", "short", "missing"])
def test_a_damaged_segment_is_named_and_the_rest_is_searched(tmp_path, how):
    path = make(tmp_path / "i", PATHS[:2], PATHS[2:])
    name = open_index(path).segments[0].name
    damage(path / "segments" / name, how)
    index = open_index(path)
    assert index.damaged == (name,)
    assert index.alive.tolist() == [False, False, True, True]
    assert (len(index), index.paths()[0]) == (2, PATHS[2:])
    assert [segment.first_row for segment in index.segments] == [2]
    (problem,) = verify(path)
    assert name in problem
    assert "rows 0 to 1" in problem
    with pytest.raises(IndexFileError, match="damaged segment"):
        compact(path)
    with pytest.raises(IndexFileError, match="damaged segment"):
        merge([path], tmp_path / "all")


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", ["codes", "hashes"])
def test_images_of_a_damaged_segment_are_encoded_again(tmp_path, monkeypatch, large, kind):
    if large:  # of which opening reads nothing
        monkeypatch.setattr(reader, "_CHECKED_BYTES", 0)
    path = make(tmp_path / "i", PATHS[:2], PATHS[2:])
    expected = content(path)
    record = open_index(path).segment_records()[0]
    damage(path / "segments" / getattr(record, kind), "flipped")
    with open_writer(path) as writer:
        missing = [name for name in PATHS if name not in writer.known()]
        assert missing == PATHS[:2]
        assert set(writer.known()) == set(PATHS[2:])
        writer.add([entry_of(name) for name in missing], codes_of(missing), hashes_of(missing))
    assert content(path) == expected  # the same codes are the same file
    assert not verify(path)


def test_images_of_a_damaged_segment_can_be_forgotten(tmp_path):
    path = make(tmp_path / "i", PATHS[:2], PATHS[2:])
    damage(path / "segments" / open_index(path).segments[0].name, "missing")
    compact(path, drop_damaged=True)
    assert list(content(path)) == PATHS[2:]
    assert not verify(path)


@pytest.mark.parametrize("kind", ["codes", "hashes"])
def test_damage_that_opening_does_not_see_is_not_written_on(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(reader, "_CHECKED_BYTES", 0)
    path = make(tmp_path / "i", PATHS[:2], PATHS[2:])
    name = getattr(open_index(path).segment_records()[1], kind)
    damage(path / "segments" / name, "flipped")
    assert not open_index(path).damaged
    for use in (lambda: compact(path), lambda: merge([path], tmp_path / "all")):
        with pytest.raises(IndexFileError, match=f"1 damaged segment files, such as {name}"):
            use()
    assert len(verify(path)) == 1
    compact(path, drop_damaged=True)
    assert not verify(path)
    assert open_index(path).paths()[0] == (PATHS[:2] if kind == "codes" else PATHS)


@pytest.mark.parametrize("how", ["flipped", "short", "missing"])
def test_damaged_hashes_leave_the_codes(tmp_path, how):
    path = make(tmp_path / "i", PATHS[:2], PATHS[2:])
    file = path / "segments" / str(open_index(path).segment_records()[1].hashes)
    damage(file, how)
    index = open_index(path)
    assert (index.damaged, len(index)) == ((file.name,), 4)
    assert index.hashed.tolist() == [True, True, False, False]
    (told,) = damage_told(index)
    assert "All images are searched" in told
    compact(path, drop_damaged=True)  # only what is lost
    assert open_index(path).hashes([0, 1]).tolist() == hashes_of(PATHS[:2]).tolist()
    assert not verify(path)


def test_damaged_segments_of_images_that_are_gone_are_not_told(tmp_path):
    path = make(tmp_path / "i", PATHS[:2], PATHS[2:])
    codes, hashes = (sorted(path.rglob(f"*.{kind}")) for kind in ("codes", "hashes"))
    with open_writer(path) as writer:
        first = writer.index.segments[0].name
        writer.remove(PATHS[:2])
    for file in [one for one in codes if one.name == first] + hashes:
        damage(file, "missing")
    index = open_index(path)
    assert len(index.damaged) == len(verify(path)) == 1  # the hashes of those that are there
    assert index.paths()[0] == PATHS[2:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2; this release reads formats up to 1"),
        ({"bits": 32}, "index.json is damaged"),
        ({"model": {}}, "index.json is damaged"),
        ({"files": None}, "index.json is damaged"),
        ({"files": {"../../.bashrc": "a1"}}, "index.json is damaged"),  # names become paths
        ({"files": {"/etc/passwd": "a1"}}, "index.json is damaged"),
        ({"files": {"..": "a1"}}, "index.json is damaged"),
        ({"generation": "0/../../other"}, "index.json is damaged"),
    ],
)
def test_a_header_that_is_not_understood_is_an_error(tmp_path, change, message):
    path = make(tmp_path / "i", PATHS)
    header = path / "index.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), **change}))
    for use in (lambda: open_index(path), lambda: open_writer(path).__enter__()):
        with pytest.raises(IndexFileError, match=message):
            use()


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b'{"format": "x"}'])
def test_a_header_of_rubbish_is_an_error(tmp_path, data):
    path = make(tmp_path / "i")
    (path / "index.json").write_bytes(data)
    with pytest.raises(IndexFileError, match="index.json"):
        open_index(path)


def test_a_damaged_or_lost_catalogue_is_an_error(tmp_path):
    path = make(tmp_path / "i", PATHS)
    (file,) = path.glob("catalogue-*.sqlite")
    file.write_bytes(b"x" * 8192)
    with pytest.raises(IndexFileError, match="catalogue is damaged"):
        open_index(path)
    file.unlink()
    with pytest.raises(IndexFileError, match="catalogue-0.sqlite is missing"):
        open_index(path)


def test_what_is_no_index_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    for name, message in (("none", "does not exist"), ("", "holds no index.json"), ("file", "no")):
        with pytest.raises(IndexFileError, match=f"is no index: it .*{message}|encode FOLDER"):
            open_index(tmp_path / name)


def test_an_index_is_made_once(tmp_path):
    make(tmp_path / "i", PATHS)
    with pytest.raises(IndexFileError, match="exists already"):
        create_index(tmp_path / "i", MODEL, None)
    (tmp_path / "empty").mkdir()
    create_index(tmp_path / "empty", MODEL, None)
    assert len(open_index(tmp_path / "empty")) == 0


def test_an_index_may_lose_its_empty_folders(tmp_path):
    path = tmp_path / "i"
    create_index(path, MODEL, None)
    for folder in ("segments", "files"):
        (path / folder).rmdir()
    assert not verify(path)
    assert describe(path).bytes["files"] == 0
    compact(path)
    with open_writer(path) as writer:
        writer.add([entry_of(b"0")], codes_of([b"0"]), hashes_of([b"0"]))
    compact(path)
    merge([path], tmp_path / "all")
    assert content(tmp_path / "all") == content(path)


def test_a_second_writer_is_told_who_writes(tmp_path):
    path = make(tmp_path / "i", PATHS)
    with open_writer(path) as writer:
        for use in (lambda: open_writer(path).__enter__(), lambda: compact(path)):
            with pytest.raises(IndexFileError, match=f"process {os.getpid()} .* is writing"):
                use()
        writer.remove([PATHS[0]])
    assert len(open_index(path)) == 3
    with open_writer(path) as writer:
        writer.remove([PATHS[1]])


def test_what_a_killed_writer_left_goes(tmp_path):
    path = make(tmp_path / "i", PATHS)
    before = snapshot(path)
    for name in ("segments/ab.codes", "segments/.ab.codes.1.part", "catalogue-7.sqlite"):
        (path / name).write_bytes(b"left")
    (path / "catalogue-7.sqlite-journal").write_bytes(b"left")
    (path / "notes.txt").write_text("of somebody")
    assert not verify(path)
    with open_writer(path):
        pass
    (path / "notes.txt").unlink()
    assert snapshot(path) == before


def test_what_a_killed_maker_of_an_index_left_goes_and_that_of_a_living_one_stays(tmp_path):
    for name in (".i.1.part", ".i.2.part", ".other.1.part"):
        (tmp_path / name / "segments").mkdir(parents=True)
    with held(tmp_path / ".i.2.part" / "writer.lock"):
        make(tmp_path / "i", PATHS)
    assert {file.name for file in tmp_path.iterdir()} == {"i", ".i.2.part", ".other.1.part"}


def test_an_add_that_fails_half_way_leaves_nothing(tmp_path):
    path = make(tmp_path / "i", PATHS)
    before = content(path)
    names = [b"0", b"good", b"bad"]
    entries = [entry_of(b"0"), entry_of(b"good"), entry_of(b"bad", size=2**70)]
    with open_writer(path) as writer:
        with pytest.raises(OverflowError):
            writer.add(entries, codes_of(names), hashes_of(names))
        assert len(list(path.rglob("*.codes"))) == 1
        assert writer.index.generation == 1
    assert content(path) == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fills_while_a_segment_is_written_changes_nothing(tmp_path, monkeypatch, call):
    path = make(tmp_path / "i", PATHS)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before, old = content(path), snapshot(path)
    with open_writer(path) as writer, monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(IndexFileError, match="is full; this step is undone"):
            writer.add([entry_of(b"new")], codes_of([b"new"]))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        for use in (lambda: compact(path), lambda: merge([path], tmp_path / "all")):
            with pytest.raises(IndexFileError, match="the disk is full"):
                use()
    assert content(path) == before
    assert snapshot(path) == old
    assert [file.name for file in tmp_path.iterdir()] == ["i"]
    with open_writer(path) as writer:
        writer.add([entry_of(b"new")], codes_of([b"new"]), hashes_of([b"new"]))
    assert len(open_index(path)) == 5


@pytest.fixture
def small_files():
    """Files grow no further than 100 kB, as if the disk ended there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_while_the_catalogue_is_written_changes_nothing(tmp_path, small_files):
    path = make(tmp_path / "i", PATHS)
    before = content(path)
    paths = [b"%0200d" % number for number in range(400)]
    with open_writer(path) as writer:
        with pytest.raises(IndexFileError, match="is full; this step is undone"):
            writer.add([entry_of(name) for name in paths], codes_of(paths), hashes_of(paths))
        assert content(path) == before
        assert not verify(path)
        writer.add([entry_of(b"small")], codes_of([b"small"]), hashes_of([b"small"]))
    assert content(path).keys() == {*PATHS, b"small"}


def test_another_program_that_keeps_the_catalogue_locked_is_named(tmp_path, monkeypatch):
    path = make(tmp_path / "i", PATHS)
    monkeypatch.setattr("hybridhash_jax.retrieval.index.catalogue.WAIT_SECONDS", 0.1)
    other = sqlite3.connect(path / "catalogue-0.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(IndexFileError, match="kept its catalogue locked"):
        open_index(path)
    other.close()
    assert len(open_index(path)) == 4
