"""The Python side: images, arrays and codes in, images out."""

import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest

from hybridhash_jax.codes import binary
from hybridhash_jax.retrieval import Encoder, open_index
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.index import IndexFileError, create_index, open_writer
from hybridhash_jax.retrieval.search.codes import Wanted, nearest_rows
from input_pipeline.errors import UnreadableImage
from tests.retrieval.search.pictured import COLOURS, ODD, FakeEncoder, distance, make_index, picture


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setattr(Encoder, "from_index", lambda index: FakeEncoder())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with open_index(make_index(tmp_path)) as index:
        yield index


def told(answer):
    return [(one.path, one.distance) for one in answer]


BLUE = (0, 0, 255)
NEAREST = sorted(
    ((name, distance(BLUE, colour)) for name, colour in COLOURS.items()), key=lambda one: one[1]
)


def test_a_file_an_array_and_codes_find_the_same(index, tmp_path):
    file = picture(tmp_path / "query.png", BLUE, (99, 40))
    packed = np.array(BLUE, np.uint8)
    queries = [
        file,
        str(file),
        np.full((20, 30, 3), BLUE, np.uint8),
        packed,
        binary.unpack(packed[None], 24)[0],
    ]
    assert [told(answer) for answer in index.search_many(queries)] == [NEAREST] * 5
    assert told(index.search(file, k=2)) == NEAREST[:2]
    assert told(index.search_stored("sea/1.png")) == NEAREST


def test_what_is_found_of_an_image(index, tmp_path):
    (found,) = index.search_stored(ODD, k=1)
    assert (found.path, found.label, found.distance, found.row) == (ODD, "sea", 0, 4)
    assert (found.width, found.height) == (16, 12)
    assert found.file == tmp_path / "images" / ODD
    assert found.file.is_file()


def test_ties_come_in_the_order_of_the_index_and_are_counted(index):
    answer = index.search_stored("sea/1.png", k=2)
    assert told(answer) == [("sea/1.png", 0), ("sea/2.png", 1)]
    assert (answer.at_last, answer.left_out) == (2, 1)
    answer = index.search_stored("sea/1.png", k=3)
    assert (answer.at_last, answer.left_out) == (2, 0)
    assert index.search_stored("wood/1.png", radius=0, where={"label": "sea"}).left_out == 0


def test_radius_and_conditions(index):
    assert told(index.search_stored("sea/1.png", k=None, radius=1)) == NEAREST[:3]
    only = index.search_stored("sea/1.png", where={"label": "wood"})
    assert [one.path for one in only] == ["wood/1.png"]
    both = index.search_stored("sea/1.png", where=[("label", "sea"), ("path", "*/[23]*")])
    assert [one.path for one in both] == ["sea/2.png", "sea/3.png"]
    assert index.search_stored("sea/1.png", where={"label": "none"}) == []


def test_rows_behind_a_damaged_segment_and_tombstones_keep_their_numbers(index):
    file = index.path / "segments" / index.index.segments[1].name
    file.write_bytes(bytes(len(file.read_bytes())))
    with open_writer(index.path) as writer:
        writer.remove([b"sea/1.png"])
    with open_index(index.path) as damaged:
        answer = damaged.search(np.array(BLUE, np.uint8))
        assert told(answer) == [one for one in NEAREST if one[0] not in ("sea/1.png", "sea/2.png")]
        assert [one.row for one in answer] == sorted(one.row for one in answer)[:1] + [4, 3]
        assert file.name in damaged.warnings[0]
        with pytest.raises(IndexFileError, match="damaged, too"):
            damaged.search_stored("sea/2.png")


def test_conditions_of_the_index_are_a_dict_or_pairs(index):
    for where in ({"label": "sea"}, [("label", "sea")]):
        assert index.index.matching(where).any()
    with pytest.raises(ValueError, match="give texts by key"):
        index.index.matching("label=sea")


def test_queries_may_come_from_a_generator(index):
    queries = (np.array(colour, np.uint8) for colour in COLOURS.values())
    assert [answer[0].path for answer in index.search_many(queries, k=1)] == list(COLOURS)


def test_many_queries_in_threads_equal_single_ones(index):
    rng = np.random.default_rng(0)
    words = np.zeros((50, 1), np.uint64)
    words.view(np.uint8)[:, :3] = rng.integers(0, 256, (50, 3))
    wanted = Wanted(k=3)
    many = nearest_rows(index.index, words, wanted, num_workers=4)
    for query, one in zip(words, many, strict=True):
        (alone,) = nearest_rows(index.index, query[None], wanted)
        np.testing.assert_array_equal(one.rows, alone.rows)


def test_approximate_answers_say_so_and_their_lists_are_kept(index, tmp_path):
    answer = index.search_stored("sea/1.png", k=2, kind="ivf")
    assert told(answer) == NEAREST[:2]
    assert not answer.exact
    assert "of the 100 nearest images (measured" in index.warnings[0]
    kept = (index.path / "lists.ivf").stat()
    with open_writer(index.path) as writer:
        entry = index.index.entries([0])[0]
        writer.add([dataclasses.replace(entry, path=b"new.png")], np.array([BLUE], np.uint8))
    with open_index(index.path) as later:
        answer = later.search_stored("sea/1.png", k=2, kind="ivf")
        assert [one.path for one in answer] == ["sea/1.png", "new.png"]
        assert "1 later images are all compared" in later.warnings[0]
    assert (index.path / "lists.ivf").stat().st_mtime_ns == kept.st_mtime_ns
    (index.path / "lists.ivf").write_bytes(b"damaged")
    with open_index(index.path) as again:
        again.search_stored("sea/1.png", k=2, kind="ivf")
    assert (index.path / "lists.ivf").stat().st_size > 100


def test_lists_are_built_again_for_other_rows(index):
    index.search_stored("sea/1.png", kind="ivf")
    with open_writer(index.path) as writer:
        writer.remove([b"sea/1.png"])
    from hybridhash_jax.retrieval.index import compact

    compact(index.path)
    with open_index(index.path) as compacted:
        answer = compacted.search_stored("sea/2.png", k=1, kind="ivf")
        assert [one.path for one in answer] == ["sea/2.png"]


def add(path, names, codes):
    with open_writer(path) as writer:
        entry = writer.index.entries([0])[0]
        entries = [dataclasses.replace(entry, path=name) for name in names]
        writer.add(entries, np.array(codes, np.uint8))


def test_lists_of_rows_that_a_restored_copy_has_not_are_built_again(index, tmp_path):
    shutil.copytree(index.path, tmp_path / "copy")
    add(index.path, [b"lost.png"], [(9, 9, 9)])
    with open_index(index.path) as later:
        later.search_stored("sea/1.png", kind="ivf")
    shutil.copytree(tmp_path / "copy", index.path, dirs_exist_ok=True)  # lists.ivf stays
    add(index.path, [b"new.png"], [BLUE])
    with open_index(index.path) as restored:
        for kind in ("exact", "ivf"):
            answer = restored.search(np.array(BLUE, np.uint8), k=2, kind=kind)
            assert told(answer) == [("sea/1.png", 0), ("new.png", 0)]


def test_lists_without_images_that_a_restored_copy_has_are_built_again(index, tmp_path):
    shutil.copytree(index.path, tmp_path / "copy")
    with open_writer(index.path) as writer:
        writer.remove([b"sea/1.png"])
    with open_index(index.path) as later:
        later.search_stored("sea/2.png", kind="ivf")
    shutil.copytree(tmp_path / "copy", index.path, dirs_exist_ok=True)
    with open_index(index.path) as restored:
        assert told(restored.search_stored("sea/1.png", k=1, kind="ivf")) == [("sea/1.png", 0)]


def test_a_packed_code_with_bits_behind_its_last_one_is_refused(tmp_path):
    model = dataclasses.replace(FakeEncoder().model, bits=12)
    create_index(tmp_path / "i", model, None)
    with open_index(tmp_path / "i") as index:
        assert index.search(np.array([255, 0b11110000], np.uint8)) == []
        with pytest.raises(ValueError, match="12 bits leave the lowest 4 bits of the last byte 0"):
            index.search(np.array([255, 0b11110001], np.uint8))


def test_lists_have_the_rows_of_a_segment_that_was_restored(index):
    def found():
        with open_index(index.path) as opened:
            answer = opened.search_stored("sea/1.png", k=2, kind="ivf")
            assert not answer.exact
            return [one.path for one in answer]

    segment = index.path / "segments" / index.index.segments[1].name
    away = segment.rename(index.path.parent / "away")
    assert found() == ["sea/1.png", "sea/3.png"]
    away.rename(segment)
    assert found() == ["sea/1.png", "sea/2.png"]


def test_an_encoder_of_another_model_is_refused(index):
    with pytest.raises(AssertionError):  # that is how the fake refuses
        open_index(index.path, FakeEncoder("other"))  # pyright: ignore[reportArgumentType]


def test_another_backend_and_notes_of_the_encoder_are_warned_of(index):
    encoder = FakeEncoder()
    encoder.model = dataclasses.replace(encoder.model, backend="cuda")
    encoder.notes = ("a note",)
    with open_index(index.path, encoder) as other:  # pyright: ignore[reportArgumentType]
        different, note = other.warnings
    assert "float32 on cpu" in different and "float32 on cuda" in different
    assert note == "a note"


def test_a_network_that_gives_nan(index):
    with pytest.raises(EncoderError, match="NaN"):
        index.search(np.full((8, 8, 3), 13, np.uint8))


@pytest.mark.parametrize(
    ("query", "part"),
    [
        (np.zeros(8, np.int8), "int8 .24. of -1 and .1"),
        (np.zeros(24, np.int8), "int8 .24."),
        (np.zeros((8, 8), np.uint8), r"uint8 \[h, w, 3\]"),
        (np.zeros((8, 8, 3), np.float32), "not float32"),
    ],
)
def test_arrays_that_are_neither_image_nor_code(index, query, part):
    with pytest.raises(ValueError, match=part):
        index.search(query)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"radius": 25}, "give 0 to 24"),
        ({"k": 0}, "1 or more"),
        ({"k": None}, "give k, radius"),
        ({"where": {"size": "3"}}, "label or path"),
        ({"kind": "fast"}, "exact, ivf"),
    ],
)
def test_what_cannot_be_asked(index, given, part):
    with pytest.raises(ValueError, match=part):
        index.search_stored("sea/1.png", **given)


def test_an_unreadable_query_is_named(index, tmp_path):
    (tmp_path / "x.png").write_bytes(b"text")
    with pytest.raises(UnreadableImage, match=r"x\.png: not an image"):
        index.search_many([tmp_path / "images" / "sea/1.png", tmp_path / "x.png"])
    with pytest.raises(ValueError, match="queries are several"):
        index.search_many("x.png")


def test_names_that_are_near(index, tmp_path):
    assert index.search_stored(tmp_path / "images/sea/2.png", k=1)[0].path == "sea/2.png"
    assert index.search_stored("sea/a,\\n\\xff.png", k=1)[0].path == ODD
    with pytest.raises(IndexFileError, match=r"Did you mean sea/3\.png\?"):
        index.search_stored("3.PNG")
    with pytest.raises(IndexFileError, match=r"Did you mean wood/1\.png"):
        index.search_stored("wod/1.png.jpg")
    with pytest.raises(IndexFileError, match=r"relative to its root, such as sea/1\.png"):
        index.search_stored("0")


@pytest.mark.slow
def test_stored_codes_need_no_network(tmp_path):
    code = (
        "import sys; from hybridhash_jax.retrieval.search.command import main;"
        f"assert main(['--index={make_index(tmp_path)}', '--name=sea/1.png',"
        f"             '--html={tmp_path / 'found.html'}']) == 0;"
        "print({'jax', 'flax', 'numba', 'faiss', 'ml_collections'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"k": 1.5}, "k=1.5; give a whole number"),
        ({"where": "sea"}, "where='sea'; give texts by key"),
        ({"where": {"label": ["sea"]}}, "give texts by key"),
        ({"query": np.zeros((0, 0, 3), np.uint8)}, "an image has pixels"),
        ({"query": 7}, "a query is a file, an image .*; this is int"),
        ({"query": b"\xff\xd8\xff\0"}, "a file's name, not what is in it"),
    ],
)
def test_what_cannot_be_asked_is_a_value_error(index, asked, told):
    with pytest.raises(ValueError, match=told):
        index.search(**({"query": np.array(BLUE, np.uint8)} | asked))
    with pytest.raises(ValueError, match="by its path, not by int"):
        index.search_stored(5)
