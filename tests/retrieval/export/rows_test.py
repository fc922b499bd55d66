import dataclasses
import hashlib

import numpy as np

from hybridhash_jax.retrieval.export.rows import Rows, all_different, id_of
from hybridhash_jax.retrieval.index import open_index, open_writer
from tests.retrieval.index.made import codes_of, entry_of, make


def test_an_id_is_of_the_path_alone():
    # Users compute it elsewhere, too.
    digest = hashlib.sha256(b"sea/a.jpg").hexdigest()
    assert id_of(b"sea/a.jpg") == int(digest[:16], 16) % 2**63
    assert 0 <= id_of(b"\xff\n") < 2**63


def test_equal_ids_become_different_ones():
    top = 2**63 - 1
    ids = np.array([5, 7, 5, 6, 5, top, top], np.int64)
    found = all_different(ids)
    assert len(set(found.tolist())) == 7 and found.min() >= 0
    assert found[[0, 1, 5]].tolist() == [5, 7, top]  # the first of each keeps it
    assert ids[2] == 5  # what was given stays


def test_a_digest_changes_with_what_is_exported(tmp_path):
    index = make(tmp_path / "a.idx", [b"a.jpg", b"b.jpg"])

    def digests(*columns: str) -> np.ndarray:
        with open_index(index) as opened:
            rows = Rows(opened, columns)
            return rows.digests[np.argsort(rows.ids)]

    before, wide_before = digests("path"), digests("path", "width")
    with open_writer(index) as writer:
        changed = dataclasses.replace(entry_of(b"b.jpg"), width=41, size=11)
        writer.add([changed], codes_of([b"b.jpg"]))
    assert (digests("path") == before).all()
    assert (digests("path", "width") != wide_before).sum() == 1
    with open_writer(index) as writer:
        writer.add([entry_of(b"b.jpg")], codes_of([b"b.jpg"], salt=1))
    assert (digests("path") != before).sum() == 1


def test_places_of_ids(tmp_path):
    with open_index(make(tmp_path / "a.idx", [b"%d" % number for number in range(50)])) as index:
        rows = Rows(index, ())
        ids = np.array([rows.ids[7], 3, rows.ids[49], 2**63 - 1])
        assert rows.places(ids).tolist() == [7, -1, 49, -1]
