import numpy as np
import pytest

from hybridhash_jax.retrieval.engine import nearest
from hybridhash_jax.retrieval.export.check import check
from hybridhash_jax.retrieval.export.errors import ExportError
from hybridhash_jax.retrieval.export.rows import Rows
from hybridhash_jax.retrieval.export.target import Hits
from hybridhash_jax.retrieval.index import create_index, open_index, open_writer, to_words
from tests.retrieval.index.made import MODEL, entry_of


class Engine:
    """Finds what is nearest, but looks only at the first rows: `probes` of 8 parts."""

    place, lists, probes = "an engine", 8, 0

    def __init__(self, rows: Rows):
        self.ids, self.codes = rows.ids.copy(), rows.index.packed(rows.rows)
        self.asked: list[int] = []

    def count(self) -> int:
        return len(self.ids)

    def search(self, packed, k):
        self.asked.append(self.probes)
        part = len(self.ids) * self.probes // self.lists if self.lists else len(self.ids)
        words = to_words(self.codes[:part])
        found = [nearest([words], to_words(code[None])[0], k) for code in packed]
        return [self.answer(self.ids[one.rows], one.distances) for one in found]

    def answer(self, ids, distances):
        return Hits(ids, distances)

    def advice(self) -> str:
        return ""


@pytest.fixture
def rows(tmp_path):
    """400 codes of 4 kinds, a hundred of each, so that most distances tie."""
    create_index(tmp_path / "a.idx", MODEL, None)
    kinds = np.random.default_rng(0).integers(0, 256, (4, 8), np.uint8)
    with open_writer(tmp_path / "a.idx") as writer:
        writer.add([entry_of(b"%d" % n) for n in range(400)], np.tile(kinds, (100, 1)))
    with open_index(tmp_path / "a.idx") as index:
        yield Rows(index, ())


def test_equal_distances_count_whichever_come(rows):
    engine = Engine(rows)
    engine.lists = 0
    engine.codes, engine.ids = engine.codes[::-1], engine.ids[::-1]  # ties from the other end
    assert check(rows, engine, 20, 10, None).recall == 1


def test_the_fewest_lists_that_find_enough_are_chosen(rows):
    engine = Engine(rows)
    checked = check(rows, engine, 20, 100, None)  # of each kind an eighth is in each part
    assert (engine.asked, engine.probes, checked.recall) == ([1, 2, 4, 8], 8, 1)
    engine = Engine(rows)
    assert check(rows, engine, 20, 100, 2).recall == pytest.approx(0.25)
    assert engine.asked == [2]


def test_an_item_counts_once(rows):
    class Twice(Engine):
        def answer(self, ids, distances):
            return Hits(ids[[0] * len(ids)], distances[[0] * len(ids)])

    assert check(rows, Twice(rows), 5, 10, 8).recall == pytest.approx(0.1)


class Short(Engine):
    def count(self):
        return 399


class Far(Engine):
    def answer(self, ids, distances):
        return Hits(ids, distances + 1)


class Foreign(Engine):
    def answer(self, ids, distances):
        return Hits(ids ^ 1, distances)


class Half(Engine):
    lists = 0

    def answer(self, ids, distances):
        return Hits(ids[::2], distances[::2])


@pytest.mark.parametrize(
    "engine, message",
    [
        (Short, "an engine holds 399 codes, and the index 400"),
        (Far, "distances differ"),
        (Foreign, "codes that the index has not"),
        (Half, "compares all codes, and yet finds only 50.0% of the 10 nearest"),
    ],
)
def test_what_is_not_the_index(rows, engine, message):
    with pytest.raises(ExportError, match=message):
        check(rows, engine(rows), 20, 10, None)
