"""CIFAR-10's pickles are read, and nothing else that a pickle can ask for is run."""

import os
import pickle
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from input_pipeline.errors import DataError
from input_pipeline.sets.cifar10_pickle import load_pickled_dict


def python2_pickle(data: np.ndarray, labels: list[int]) -> bytes:
    """The bytes Python 2 and NumPy 1 wrote: byte strings, `dtype('u1', 0, 1)`, old names."""
    raw = data.tobytes()
    shape = b"".join(b"J" + n.to_bytes(4, "little") for n in data.shape)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(" + shape + b"tcnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    )
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + listed + b"u."


class Calls:
    """Pickles into an order to call `function` when it is read."""

    def __init__(self, function, *arguments):
        self.order = function, arguments

    def __reduce__(self):
        return self.order


def test_a_pickle_as_python_2_wrote_it_is_read_without_a_warning():
    data = np.arange(24, dtype=np.uint8).reshape(4, 6)
    loaded = load_pickled_dict(python2_pickle(data, [3, 1, 4, 1]), "data_batch_1")
    np.testing.assert_array_equal(loaded["data"], data)
    assert loaded["data"].dtype == np.uint8
    assert loaded["labels"] == [3, 1, 4, 1]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_pickle_of_todays_numpy_is_read(protocol, order):
    data = np.array(np.arange(24).reshape(4, 6), np.uint8, order=order)
    blob = pickle.dumps({"data": data, b"labels": [1, 2]}, protocol)
    loaded = load_pickled_dict(blob, "data_batch_1")
    np.testing.assert_array_equal(loaded["data"], data)
    assert loaded["labels"] == [1, 2]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, protocol):
    trace = tmp_path / "it_ran"
    blob = pickle.dumps({"data": Calls(os.mkdir, str(trace))}, protocol)
    with pytest.raises(DataError, match=r"test_batch: its pickle asks for .*\.mkdir"):
        load_pickled_dict(blob, "test_batch")
    assert not trace.exists()
    pickle.loads(blob)
    assert trace.exists(), "the pickle is harmless, so the test above proves nothing"


@pytest.mark.parametrize(
    "name",
    [b"builtins\neval", b"os\nsystem", b"numpy\nload", b"numpy.core.multiarray\nscalar"],
)
def test_every_other_global_is_refused_by_name(name):
    blob = b"c" + name + b"\n."
    with pytest.raises(DataError, match=name.decode().replace("\n", r"\.")):
        load_pickled_dict(blob, "data_batch_1")


@pytest.mark.parametrize("dtype", [object, np.int64, np.float32, "S3"])
def test_arrays_of_another_dtype_are_refused(dtype):
    blob = pickle.dumps({"data": np.zeros(3, dtype)}, 2)
    with pytest.raises(DataError, match="data_batch_1: an array of dtype"):
        load_pickled_dict(blob, "data_batch_1")


def test_an_array_of_bytes_cannot_smuggle_a_list_of_objects():
    # What NumPy writes for object arrays, but claiming to hold bytes.
    good = pickle.dumps({"data": np.zeros(3, object)}, 2)
    bad = good.replace(b"X\x02\x00\x00\x00O8", b"X\x02\x00\x00\x00u1")
    assert bad != good
    with pytest.raises(DataError, match="plain bytes"):
        load_pickled_dict(bad, "data_batch_1")


@pytest.mark.parametrize("value", [[1, 2], "text", np.zeros(3, np.uint8)])
def test_a_pickle_that_is_not_a_dict_is_refused(value):
    with pytest.raises(DataError, match="data_batch_1: a .* is not a dict"):
        load_pickled_dict(pickle.dumps(value, 2), "data_batch_1")


@hypothesis.given(st.data())
def test_damage_is_reported_as_damage(data):
    blob = python2_pickle(np.arange(24, dtype=np.uint8).reshape(4, 6), [3, 1, 4, 1])
    cut = data.draw(st.integers(0, len(blob) - 1))
    with pytest.raises(DataError, match="data_batch_1"):
        load_pickled_dict(blob[:cut], "data_batch_1")


@hypothesis.given(st.binary(max_size=200))
def test_random_bytes_never_escape_as_another_error(blob):
    try:
        load_pickled_dict(blob, "data_batch_1")
    except DataError as error:
        assert "data_batch_1" in str(error)
