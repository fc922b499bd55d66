"""The unpickler that all readers share gives a pickle what is allowed and nothing else."""

import io
import os
import pickle

import pytest

from input_pipeline.errors import DataError
from input_pipeline.restricted_pickle import load_restricted


class Refusal(Exception):
    pass


class Linked:
    """Pickles with a persistent id for every `complex`."""

    @staticmethod
    def dumps(value) -> bytes:
        class Pickler(pickle.Pickler):
            def persistent_id(self, obj):
                return ("number", obj.real) if isinstance(obj, complex) else None

        file = io.BytesIO()
        Pickler(file, 2).dump(value)
        return file.getvalue()


def load(data: bytes, allowed=None, **options):
    return load_restricted(io.BytesIO(data), allowed or {}, advice="is not needed", **options)


def test_an_allowed_name_gives_its_stand_in():
    data = pickle.dumps(os.path.join, 2)
    assert load(data, {("posixpath", "join"): "stand-in"}) == "stand-in"
    with pytest.raises(DataError, match=r"asks for posixpath\.join, which is not needed"):
        load(data)


def test_persistent_ids_are_resolved_or_refused():
    data = Linked.dumps([1, 2j + 3])
    assert load(data, persistent_load=lambda pid: pid[1] * 10) == [1, 30.0]
    with pytest.raises(DataError, match=r"refers to \('number', 3.0\)"):
        load(data)


def test_every_error_is_of_the_readers_kind():
    def refuse(pid):
        raise Refusal("not this one")

    with pytest.raises(Refusal, match="not this one"):
        load(Linked.dumps(1j), persistent_load=refuse, error=Refusal)
    for damaged in (b"", b"garbage", pickle.dumps([1, 2])[:-1]):
        with pytest.raises(Refusal, match="damaged"):
            load(damaged, error=Refusal)


def test_one_pickle_after_the_other_is_read_from_a_file():
    file = io.BytesIO(pickle.dumps(1) + pickle.dumps("two"))
    assert load_restricted(file, {}, advice="") == 1
    assert load_restricted(file, {}, advice="") == "two"
