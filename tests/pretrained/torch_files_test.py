"""Weight files: what torch.save writes is read without torch, and nothing else is run.

PyTorch is no requirement here, so the files are built from the pickle opcodes it emits.
"""

import io
import pathlib
import pickle
from typing import IO, cast

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.pretrained.files import torch_files
from tests.pretrained.torch_pickles import (
    MACHINE,
    ORDERED_DICT,
    REBUILD_PARAMETER,
    REBUILD_TENSOR,
    Built,
    Call,
    Global,
    Ordered,
    Persistent,
    legacy_storage,
    storage,
    tensor,
    write_legacy,
    write_zip,
)


@pytest.fixture(name="path")
def fixture_path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "weights.bin"


class Bucket:
    """A file as a bucket gives it: no path of this machine."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)

    def open(self, mode: str) -> IO[bytes]:
        return cast(IO[bytes], self._path.open(mode))

    def read_bytes(self) -> bytes:
        return self._path.read_bytes()


def test_a_safetensors_file_in_a_bucket_keeps_its_metadata(path):
    metadata = {"num_heads": "1,2,4", "gelu": "tanh"}
    safetensors.numpy.save_file({"a": VALUES}, path, metadata)
    for place in (path, Bucket(path)):
        found = torch_files.read_tensors(place)
        assert found.metadata == metadata
        np.testing.assert_array_equal(found.tensors["a"], VALUES)
    safetensors.numpy.save_file({"a": VALUES}, path)
    assert torch_files.read_tensors(Bucket(path)).metadata == {}


VALUES = np.arange(12, dtype=np.float32)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    return torch_files.read_tensors(path).tensors


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("DoubleStorage", np.float64),
        ("FloatStorage", np.float32),
        ("HalfStorage", np.float16),
        ("BFloat16Storage", ml_dtypes.bfloat16),
        ("LongStorage", np.int64),
        ("IntStorage", np.int32),
        ("ShortStorage", np.int16),
        ("CharStorage", np.int8),
        ("ByteStorage", np.uint8),
        ("BoolStorage", np.bool_),
    ],
)
def test_each_storage_class_keeps_its_dtype(path, kind, dtype):
    array = np.array([1, 0, 3, 1, 0, 2]).astype(dtype)
    write_zip(path, {"w": tensor(storage("0", 6, kind), (2, 3), (3, 1))}, {"0": array})
    got = read(path)["w"]
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, array.reshape(2, 3))


def test_strides_and_offsets_into_a_shared_storage_are_honoured(path):
    shared = storage("7", 12)
    content = {
        "transposed": tensor(shared, (4, 3), (1, 4)),
        "window": tensor(shared, (2, 2), (4, 1), 5),
        "expanded": tensor(shared, (2, 3), (0, 1), 9),
        "scalar": tensor(shared, (), (), 11),
        "empty": tensor(shared, (0, 4), (4, 1), 12),
    }
    got = read(write_zip(path, content, {"7": VALUES}))
    grid = VALUES.reshape(3, 4)
    assert list(got) == list(content)
    np.testing.assert_array_equal(got["transposed"], grid.T)
    np.testing.assert_array_equal(got["window"], grid[1:, 1:3])
    np.testing.assert_array_equal(got["expanded"], [[9, 10, 11]] * 2)
    assert got["scalar"].shape == () and got["scalar"] == 11
    assert got["empty"].shape == (0, 4)


def test_tensors_of_one_storage_do_not_share_memory_once_read(path):
    content = {name: tensor(storage("0", 12), (12,), (1,)) for name in "ab"}
    got = read(write_zip(path, content, {"0": VALUES}))
    got["a"][0] = 99
    assert got["b"][0] == 0


def test_a_module_state_dict_with_parameters_and_metadata_is_read(path):
    weight = Call(REBUILD_PARAMETER, (tensor(storage("0", 12), (12,), (1,)), True, None))
    metadata = {"_metadata": Ordered({"": {"version": 1}})}
    content = Built(Ordered({"module.w": weight}), metadata)
    got = read(write_zip(path, content, {"0": VALUES}, byteorder=b"little"))
    assert list(got) == ["module.w"]
    np.testing.assert_array_equal(got["module.w"], VALUES)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "ema"])
def test_a_wrapped_state_dict_is_taken_out(path, wrapper):
    weights = Ordered({"w": tensor(storage("0", 12), (12,), (1,))})
    content = {"epoch": 3, wrapper: weights, "best": None}
    assert list(read(write_zip(path, content, {"0": VALUES}))) == ["w"]


def test_a_tensor_that_is_called_model_is_no_wrapper(path):
    content = {"model": tensor(storage("0", 12), (12,), (1,))}
    assert list(read(write_zip(path, content, {"0": VALUES}))) == ["model"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int64])
def test_safetensors_are_known_by_content_whatever_the_name(path, dtype):
    array = np.array([[1, 2, 3]]).astype(dtype)
    path.write_bytes(safetensors.numpy.save({"w": array}))
    got = read(path)["w"]
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, array)


def refused(path: pathlib.Path, message: str) -> None:
    with pytest.raises(WeightFileError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch", "FloatStorage.__class__"),
        ("collections", "OrderedDict.__class__"),
        ("argparse", "Namespace"),
    ],
)
def test_other_globals_are_refused_by_name(path, module, name):
    write_zip(path, {"w": Call(Global(module, name), ("x",))}, {})
    refused(path, f"asks for {module}.{name}.*not run.*state_dict")


def test_a_malicious_pickle_does_not_run(path, tmp_path):
    victim = tmp_path / "victim"

    class Payload:
        def __reduce__(self):
            return (pathlib.Path.touch, (victim,))

    data = pickle.dumps({"w": Payload()}, protocol=2)
    pickle.loads(data)
    assert victim.exists(), "the payload must work for this test to mean anything"
    victim.unlink()
    write_zip(path, data, {})
    refused(path, "not run")
    assert not victim.exists()


def test_a_pickle_cannot_alter_how_later_files_are_read(path):
    tampered = Built(REBUILD_TENSOR, (None, {"__defaults__": ({"neg": True},)}))
    write_zip(path, [tampered, Built(ORDERED_DICT, (None, {"update": None}))], {})
    refused(path, "damaged or malicious")
    write_zip(path, {"w": tensor(storage("0", 12), (12,), (1,))}, {"0": VALUES})
    np.testing.assert_array_equal(read(path)["w"], VALUES)


@pytest.mark.parametrize(
    "source",
    [
        Persistent(("module", Global("torch", "FloatStorage"), "0", "cpu", 12)),
        Persistent(("storage", "FloatStorage", "0", "cpu", 12)),
        Persistent(("storage", Global("torch", "FloatStorage"), 0, "cpu", 12)),
    ],
)
def test_persistent_references_other_than_storages_are_refused(path, source):
    write_zip(path, {"w": tensor(source, (12,), (1,))}, {"0": VALUES})
    refused(path, "which is no tensor storage")


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((13,), (1,), 0), ((12,), (1,), 1), ((3, 4), (5, 1), 0), ((1,), (1,), 12), ((2,), (11,), 1)],
)
def test_tensors_that_reach_beyond_their_storage_are_refused(path, size, stride, offset):
    write_zip(path, {"w": tensor(storage("0", 12), size, stride, offset)}, {"0": VALUES})
    refused(path, "tensor 'w'.*of a storage of 12")


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((2,), (-1,), 5), ((2,), (1,), -1), ((-2,), (1,), 0), ((2, 2), (1,), 0), ("ab", "cd", 0)],
)
def test_malformed_shapes_are_refused(path, size, stride, offset):
    write_zip(path, {"w": tensor(storage("0", 12), size, stride, offset)}, {"0": VALUES})
    refused(path, "malformed shape")


def test_an_absurd_expanded_tensor_is_refused(path):
    write_zip(path, {"w": tensor(storage("0", 12), (2**40, 2**30), (0, 0))}, {"0": VALUES})
    refused(path, "does not fit in memory")


def test_tensors_with_value_changing_flags_are_refused(path):
    content = {"w": tensor(storage("0", 12), (12,), (1,), 0, {"neg": True})}
    refused(write_zip(path, content, {"0": VALUES}), "'neg': True.*resolve_neg")


def test_a_record_of_the_wrong_length_is_refused(path):
    content = {"w": tensor(storage("0", 13), (12,), (1,))}
    refused(write_zip(path, content, {"0": VALUES}), "13 elements of float32.*48 bytes")


def test_a_missing_record_is_refused(path):
    content = {"w": tensor(storage("1", 12), (12,), (1,))}
    refused(write_zip(path, content, {"0": VALUES}), "data/1, which the file lacks")


def test_one_storage_under_two_dtypes_is_refused(path):
    content = {
        "a": tensor(storage("0", 12), (12,), (1,)),
        "b": tensor(storage("0", 12, "IntStorage"), (12,), (1,)),
    }
    refused(write_zip(path, content, {"0": VALUES}), "tensor 'b'.*second dtype")


def test_big_endian_files_are_refused(path):
    content = {"w": tensor(storage("0", 12), (12,), (1,))}
    refused(write_zip(path, content, {"0": VALUES}, byteorder=b"big"), "byte order 'big'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a state dict"),
        (tensor(storage("0", 12), (12,), (1,)), "holds a Tensor, not a state dict"),
        ({"lr": 1, "w": tensor(storage("0", 12), (12,), (1,))}, r"1 of its 2 .*'lr' \(int\)"),
        ({3: tensor(storage("0", 12), (12,), (1,))}, r"1 of its 1 .*3 \(Tensor\)"),
        ({"model": {"lr": 1}}, r"'lr' \(int\)"),
    ],
)
def test_what_is_no_state_dict_is_refused(path, content, message):
    refused(write_zip(path, content, {"0": VALUES}), message)


def test_a_damaged_pickle_is_refused(path):
    refused(write_zip(path, b"\x80\x02}q\x00(X", {}), "damaged or malicious")


def test_a_missing_file_is_refused(path):
    refused(path, "cannot open.*No such file")


def test_a_truncated_zip_is_refused(path):
    write_zip(path, {"w": tensor(storage("0", 12), (12,), (1,))}, {"0": VALUES})
    path.write_bytes(path.read_bytes()[:-60])
    refused(path, "truncated or damaged zip")


def test_a_changed_byte_is_noticed(path):
    write_zip(path, {"w": tensor(storage("0", 12), (12,), (1,))}, {"0": VALUES})
    data = bytearray(path.read_bytes())
    data[data.index(VALUES.tobytes())] ^= 1
    path.write_bytes(data)
    refused(path, "truncated or damaged zip")


def test_a_zip_file_of_other_things_is_refused(path):
    buffer = io.BytesIO()
    np.savez(buffer, a=VALUES)
    path.write_bytes(buffer.getvalue())
    refused(path, "0 data.pkl records.*a.npy")


def test_a_legacy_file_is_read_storage_by_storage(path):
    content = {
        "state_dict": Ordered(
            {
                "transposed": tensor(legacy_storage("70", 12), (4, 3), (1, 4)),
                "halves": tensor(legacy_storage("5", 3, "BFloat16Storage"), (3,), (1,)),
            }
        ),
        "optimizer": {"momentum": tensor(legacy_storage("6", 2, "LongStorage"), (2,), (1,))},
    }
    halves = np.array([1, 2, 3]).astype(ml_dtypes.bfloat16)
    write_legacy(path, content, {"6": np.array([4, 5]), "70": VALUES, "5": halves})
    found = torch_files.read_tensors(path)
    assert list(found.tensors) == ["transposed", "halves"]
    np.testing.assert_array_equal(found.tensors["transposed"], VALUES.reshape(3, 4).T)
    np.testing.assert_array_equal(found.tensors["halves"], halves)
    assert found.notes == ["weights taken from the file's 'state_dict'; not read: 'optimizer'"]


def test_a_malicious_legacy_pickle_is_refused_and_not_run(path, tmp_path):
    payload = Call(Global("os", "mkdir"), (str(tmp_path / "victim"),))
    refused(write_legacy(path, {"w": payload}, {}), "asks for os.mkdir.*not run")
    assert not (tmp_path / "victim").exists()


def test_every_cut_of_a_legacy_file_is_refused(path):
    content = {"w": tensor(legacy_storage("0", 12), (12,), (1,))}
    data = write_legacy(path, content, {"0": VALUES}).read_bytes()
    assert list(read(path)) == ["w"]
    for length in range(10, len(data), 7):
        path.write_bytes(data[:length])
        refused(path, "damaged|truncated")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"magic": 7}, "bare pickle"),
        ({"machine": MACHINE | {"little_endian": False}}, "big-endian"),
        ({"storages": {"1": VALUES}}, "storage '1' that no tensor names"),
        ({"storages": {}}, "storage 0 is not in the file"),
        ({"storages": {"0": VALUES[:5]}}, "should have 12 numbers but the file says 5"),
        ({"content": {"w": legacy_storage("0", 12, view=("1", 0, 3))}}, "no tensor storage"),
    ],
    ids=str,
)
def test_other_legacy_files_are_refused(path, options, message):
    content = {"w": tensor(legacy_storage("0", 12), (12,), (1,))}
    refused(
        write_legacy(path, **({"content": content, "storages": {"0": VALUES}} | options)), message
    )


def test_a_truncated_safetensors_file_is_refused(path):
    path.write_bytes(safetensors.numpy.save({"w": np.zeros(1000, np.float32)})[:-8])
    refused(path, "looks like a .safetensors file")


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html><html>", b"PK"])
def test_other_content_is_refused(path, data):
    path.write_bytes(data)
    refused(path, f"{len(data)} bytes.*neither")
