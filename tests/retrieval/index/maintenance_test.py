"""Merging shards equals one run, compaction changes nothing that is searched, models never mix."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from hybridhash_jax.retrieval.index import (
    IndexFileError,
    check_same_model,
    compact,
    describe,
    maintenance,
    merge,
    open_index,
    open_writer,
    verify,
)
from tests.retrieval.index.made import MODEL, codes_of, content, entry_of, hashes_of, make

PATHS = [f"{number % 3}/{number:02}.jpg".encode() for number in range(20)] + [b"\xff,\n.jpg"]


def files(path: Path) -> dict[str, bytes]:
    """Every file by its name, but those that are caches; index.json without the generation."""
    found = {}
    for file in path.rglob("*"):
        if file.is_file() and "thumbnails" not in file.name:
            name, data = str(file.relative_to(path)), file.read_bytes()
            if file.name == "index.json":
                data = json.dumps({**json.loads(data), "generation": 0}).encode()
            found["catalogue" if name.startswith("catalogue-") else name] = data
    return found


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("segment_rows", [2**20, 5])
def test_merged_shards_equal_one_run_byte_for_byte(tmp_path, shards, segment_rows, monkeypatch):
    monkeypatch.setattr(maintenance, "SEGMENT_ROWS", segment_rows)
    one = make(tmp_path / "one", PATHS[:8], PATHS[8:])
    parts = [
        make(tmp_path / f"part{number}", PATHS[number::shards][::-1]) for number in range(shards)
    ]
    expected = content(one)
    assert not merge(parts, tmp_path / "all")
    compact(one)
    assert content(tmp_path / "all") == content(one) == expected
    assert files(tmp_path / "all") == files(one)
    assert open_index(one).paths()[0] == sorted(PATHS)
    assert len(open_index(one).segments) == -(-len(PATHS) // segment_rows)
    assert not verify(one)
    assert not verify(tmp_path / "all")


def test_of_a_path_in_two_indexes_the_last_counts(tmp_path):
    first, second = make(tmp_path / "1", [b"a", b"b"]), make(tmp_path / "2")
    with open_writer(second) as writer:
        new = entry_of(b"b", size=99)
        writer.add([new], codes_of([b"b"], salt=5), hashes_of([b"b"]))
    merge([first, second], tmp_path / "all")
    found = content(tmp_path / "all")
    assert found[b"b"][:2] == (new, codes_of([b"b"], salt=5).tobytes())
    assert found[b"a"] == content(first)[b"a"]


def test_compaction_drops_what_is_gone(tmp_path):
    path = make(tmp_path / "i", PATHS[:10], PATHS[10:])
    with open_writer(path) as writer:
        writer.remove(PATHS[:5])
        writer.note_backend("cuda", "float32", 256, 3)
    expected, reader = content(path), open_index(path)
    compact(path)
    assert content(path) == expected
    after = open_index(path)
    assert (after.num_rows, len(after.segments)) == (16, 1)
    assert after.generation > reader.generation
    assert after.backends == {("cuda", "float32"): (256, 3)}
    assert len(list(path.rglob("*.codes"))) == len(list(path.glob("catalogue-*"))) == 1
    # Whoever had it open goes on, though the files are gone.
    assert reader.row_of(PATHS[7]) == 7
    assert reader.entries([7])[0].path == PATHS[7]
    assert reader.packed([7, 12]).tolist() == codes_of([PATHS[7], PATHS[12]]).tolist()


def test_an_index_without_images_is_merged_and_compacted(tmp_path):
    path = make(tmp_path / "i", [b"a"])
    with open_writer(path) as writer:
        writer.remove([b"a"])
    compact(path)
    merge([path, make(tmp_path / "empty")], tmp_path / "all")
    for place in (path, tmp_path / "all"):
        with open_index(place) as index:
            assert (len(index), index.num_rows, index.segments) == (0, 0, ())
            assert index.matching([]).tolist() == []


def test_thumbnails_and_files_go_along(tmp_path):
    path = make(tmp_path / "i")
    with open_writer(path) as writer:
        writer.add([entry_of(b"a")], codes_of([b"a"]), thumbnails=[b"JPEG"])
    merge([make(tmp_path / "other", [b"0"]), path], tmp_path / "all")
    compact(tmp_path / "all")
    index = open_index(tmp_path / "all")
    assert index.thumbnail(1) == b"JPEG"
    assert index.file("encoder.npz") == b"weights"


def test_of_a_path_in_two_indexes_the_picture_is_that_of_the_code(tmp_path):
    paths = [b"both", b"gone", b"one"]
    for name, picture in (("1", b"OLD"), ("2", None), ("3", b"NEW")):
        with open_writer(make(tmp_path / name)) as writer:
            entries = [entry_of(path) for path in paths]
            writer.add(entries, codes_of(paths), thumbnails=[picture] * 3)
    with open_writer(tmp_path / "2") as writer:
        writer.remove([b"one"])
    with open_writer(tmp_path / "3") as writer:
        writer.remove([b"one", b"gone"])
    merge([tmp_path / name for name in "123"], tmp_path / "all")
    index = open_index(tmp_path / "all")
    assert index.paths()[0] == paths
    assert [index.thumbnail(row) for row in range(3)] == [b"NEW", None, b"OLD"]


@pytest.mark.parametrize("segment_rows", [2**20, 5])
def test_hashes_stay_where_other_images_have_none(tmp_path, segment_rows, monkeypatch):
    monkeypatch.setattr(maintenance, "SEGMENT_ROWS", segment_rows)
    bare = sorted([PATHS[0], PATHS[5], PATHS[20]])
    kept = sorted(set(PATHS) - set(bare))
    one = make(tmp_path / "one", kept[10:], kept[:10])
    parts = [make(tmp_path / "part1", kept[::2]), make(tmp_path / "part2", kept[1::2])]
    for place in (one, parts[0]):
        with open_writer(place) as writer:
            writer.add([entry_of(name) for name in bare], codes_of(bare))
    compact(one)
    merge(parts, tmp_path / "all")
    assert files(tmp_path / "all") == files(one)
    index = open_index(one)
    assert index.paths()[0] == kept + bare
    assert index.packed(range(21)).tolist() == codes_of(kept + bare).tolist()
    assert index.hashed.tolist() == [True] * len(kept) + [False] * len(bare)
    assert index.hashes(range(len(kept))).tolist() == hashes_of(kept).tolist()
    assert len(index.segments) == (2 if segment_rows > 5 else 5)
    assert not describe(one).has_hashes and not verify(one)
    with pytest.raises(IndexFileError, match="no codes or hashes of some"):
        index.hashes([0, len(kept)])


@pytest.mark.parametrize("change", [{"fingerprint": "b2" * 32, "name": "other"}, {"bits": 32}])
def test_codes_of_another_model_are_refused_naming_both(tmp_path, change):
    other = dataclasses.replace(MODEL, **change)
    sources = [make(tmp_path / "1", [b"a"]), make(tmp_path / "2", [b"b"], model=other)]
    with pytest.raises(IndexFileError) as caught:
        merge(sources, tmp_path / "all")
    for part in (
        f"{sources[0]} has",
        MODEL.name,
        other.name,
        f"{other.bits} bits",
        f"{sources[1]}",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "all").exists()


def test_another_backend_or_precision_warns(tmp_path):
    other = dataclasses.replace(MODEL, backend="cuda", dtype="bfloat16")
    assert check_same_model(MODEL, MODEL, "x", "y") is None
    (warning,) = merge(
        [make(tmp_path / "1", [b"a"]), make(tmp_path / "2", [b"b"], model=other)],
        tmp_path / "all",
    )
    assert "float32 on cpu" in warning
    assert "bfloat16 on cuda" in warning
    assert len(open_index(tmp_path / "all")) == 2


def test_other_roots_want_a_new_one(tmp_path):
    sources = [
        make(tmp_path / name, [name.encode()], root=tmp_path / f"photos{name}") for name in "12"
    ]
    with pytest.raises(IndexFileError, match="photos1.*photos2.*--root"):
        merge(sources, tmp_path / "all")
    merge(sources, tmp_path / "all", root=tmp_path)
    assert open_index(tmp_path / "all").root == tmp_path


def test_a_description_counts_what_there_is(tmp_path):
    path = make(tmp_path / "i", PATHS[:10], PATHS[10:])
    with open_writer(path) as writer:
        writer.remove([PATHS[0]])
    facts = describe(path)
    assert (facts.images, facts.tombstones, facts.segments) == (20, 1, 2)
    assert facts.labels == {"": 1, "0": 6, "1": 7, "2": 6}
    assert facts.bytes["codes"] == facts.bytes["hashes"] == 8 * 21
    (path / "lists.ivf").write_bytes(bytes(1000))
    (path / "unreadable.txt").write_bytes(bytes(100))
    facts = describe(path)
    assert facts.bytes["lists"] == 1000
    assert facts.bytes["total"] == sum(
        file.stat().st_size for file in path.rglob("*") if file.is_file()
    )


def test_codes_are_gathered_from_any_segments(tmp_path):
    index = open_index(make(tmp_path / "i", PATHS[:7], PATHS[7:8], PATHS[8:]))
    rows = np.array([20, 0, 7, 7, 8, 6])
    assert index.packed(rows).tolist() == codes_of([PATHS[row] for row in rows]).tolist()
    assert index.hashes(rows).tolist() == hashes_of([PATHS[row] for row in rows]).tolist()
    with pytest.raises(IndexFileError, match="no codes"):
        index.packed([21])
