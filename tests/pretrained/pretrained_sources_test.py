"""Where weights come from: told apart by content, and every bad file explained."""

import builtins
import shutil

import flax.serialization
import ml_dtypes
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file, save_file

from hybridhash_jax import pretrained
from hybridhash_jax.pretrained.account import LEFT_OUT, LOADED
from hybridhash_jax.pretrained.files import google_files
from hybridhash_jax.pretrained.fitting import fit
from hybridhash_jax.pretrained.names import google_names
from hybridhash_jax.pretrained.network import describe_network
from hybridhash_jax.pretrained.sources import read_source
from hybridhash_jax.pretrained.writing import encode
from tests.pretrained.pretrained_files import (
    GOLDEN,
    assert_same,
    parameters,
    small_classifier,
    small_network,
    source_of,
)
from tests.pretrained.torch_pickles import Call, Global, Ordered, storage, tensor, write_zip


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory):
    """The same plain NesT as nest.safetensors and nest.flax; a HybridHash as hash.safetensors."""
    folder = tmp_path_factory.mktemp("weights")
    for name, model in (
        ("hash.safetensors", small_network(seed=1)),
        ("nest.safetensors", small_classifier(seed=2)),
        ("nest.flax", small_classifier(seed=2)),
    ):
        (folder / name).write_bytes(encode(source_of(model), folder / name).data)
    return folder


def write_pth(path, tensors, wrap=lambda weights: weights, kind="FloatStorage"):
    """A file of torch.save with these tensors."""
    content = {
        name: tensor(
            storage(str(i), array.size, kind),
            array.shape,
            tuple(int(n) // array.itemsize for n in np.ascontiguousarray(array).strides),
        )
        for i, (name, array) in enumerate(tensors.items())
    }
    storages = {str(i): np.ascontiguousarray(array) for i, array in enumerate(tensors.values())}
    return write_zip(path, wrap(Ordered(content)), storages)


def refused(path, message, model=None, error: type[ValueError] = pretrained.WeightFileError):
    with pytest.raises(error, match=message) as caught:
        pretrained.load_pretrained(model or small_network(), path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["safetensors", "flax", "pth"])
def test_the_content_tells_the_kind_whatever_the_name(folder, tmp_path, kind):
    path = tmp_path / "weights.bin"
    if kind == "pth":
        write_pth(path, load_file(folder / "nest.safetensors"))
    else:
        shutil.copy(folder / f"nest.{kind}", path)
    model = small_classifier()
    loaded = pretrained.load_pretrained(model, path)
    assert loaded.kind == ("Google NesT" if kind == "flax" else "timm NesT")
    assert_same(model, small_classifier(seed=2))


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_wrapped_and_prefixed_names_are_unwrapped_and_noted(folder, tmp_path, wrapper, prefix):
    tensors = load_file(folder / "hash.safetensors")
    renamed = {prefix + name: array for name, array in tensors.items()}

    def wrap(weights):
        return {"epoch": 3, wrapper: weights}

    model = small_network()
    loaded = pretrained.load_pretrained(model, write_pth(tmp_path / "w.pth", renamed, wrap))
    assert_same(model, small_network(seed=1))
    assert f"weights taken from the file's '{wrapper}'; not read: 'epoch'" in loaded.notes
    assert any(repr(prefix) in note for note in loaded.notes) == bool(prefix)
    assert all(note in loaded.describe() for note in loaded.notes)


def test_a_prefix_of_some_names_only_is_no_prefix(folder, tmp_path):
    tensors = load_file(folder / "hash.safetensors")
    tensors["module.norm.weight"] = tensors.pop("norm.weight")
    save_file(tensors, tmp_path / "odd.safetensors")
    message = refused(
        tmp_path / "odd.safetensors", "2 places", error=pretrained.IncompatibleWeightsError
    )
    assert "module.norm.weight" in message and "norm/scale" in message


@pytest.mark.parametrize(
    ("dtype", "kind"), [(np.float16, "HalfStorage"), (ml_dtypes.bfloat16, "BFloat16Storage")]
)
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_half_precision_becomes_float32_and_is_noted(folder, tmp_path, dtype, kind, ending):
    halves = {n: a.astype(dtype) for n, a in load_file(folder / "hash.safetensors").items()}
    path = tmp_path / f"half.{ending}"
    if ending == "pth":
        write_pth(path, halves, kind=kind)
    else:
        save_file(halves, path)
    model = small_network()
    loaded = pretrained.load_pretrained(model, path)
    for name, array in parameters(small_network(seed=1)).items():
        expected = array.astype(dtype).astype(np.float32)
        np.testing.assert_array_equal(parameters(model)[name], expected, err_msg=name)
    (note,) = [note for note in loaded.notes if "float32" in note]
    assert note.startswith(f"{len(loaded.names(LOADED))} arrays are {np.dtype(dtype).name}")


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path):
    victim = tmp_path / "victim"
    payload = Call(Global("os", "mkdir"), (str(victim),))
    path = write_zip(tmp_path / "evil.pth", {"state_dict": Ordered({"w": payload})}, {})
    refused(path, "asks for os.mkdir.*not run")
    assert not victim.exists()


@pytest.mark.parametrize("name", ["nest.safetensors", "nest.flax", "nest.pth"])
def test_every_truncated_file_is_refused(folder, tmp_path, name):
    if name == "nest.pth":
        write_pth(tmp_path / name, load_file(folder / "nest.safetensors"))
        data = (tmp_path / name).read_bytes()
    else:
        data = (folder / name).read_bytes()
    path = tmp_path / "cut"
    for share in (0, 0.001, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(data[: int(len(data) * share)])
        refused(path, "damaged|truncated|neither")
    path.write_bytes(data[:-1])
    refused(path, "damaged|truncated|neither")


def test_damaged_messagepack_is_refused_whatever_was_changed(folder, tmp_path):
    data, rng = (folder / "nest.flax").read_bytes(), np.random.default_rng(0)
    network = describe_network(small_classifier())
    original = parameters(small_classifier(seed=2))
    outcomes = []
    for position in rng.integers(0, 3000, 60):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "x").write_bytes(changed)
        try:
            found = fit(read_source(tmp_path / "x"), network).arrays
        except ValueError as error:
            assert str(tmp_path / "x") in str(error)
            outcomes.append("refused")
        else:  # a bit of one number
            assert sum((found[p] != a).sum() for p, a in original.items()) <= 1
            outcomes.append("read")
    assert set(outcomes) == {"refused", "read"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html></html>", "neither.*web page"),
        (b"", "0 bytes.*neither"),
        (flax.serialization.msgpack_serialize({"params": {"w": np.zeros(3)}}), "no NesT.*params/w"),
        (flax.serialization.msgpack_serialize({"a": 1}), "no NesT.*It holds a"),
    ],
    ids=["page", "empty", "other network", "no arrays"],
)
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    refused(tmp_path / "file", message)


def test_another_program_s_network_is_refused_with_some_of_its_names(tmp_path):
    save_file({"conv1.weight": np.zeros((2, 2), np.float32)}, tmp_path / "resnet.safetensors")
    refused(tmp_path / "resnet.safetensors", "no NesT, HybridHash or Eff.*conv1.weight")


def test_a_missing_file_is_explained_with_what_could_be_given(tmp_path):
    refused(tmp_path / "none.pth", "No such file.*workdir")


def test_google_s_folder_is_read_where_its_index_points(folder, tmp_path):
    shutil.copy(folder / "nest.flax", tmp_path / "ckpt-8.flax")
    other = encode(source_of(small_classifier(seed=7)), "x.flax").data
    (tmp_path / "ckpt-12.flax").write_bytes(other)
    for name in ("ckpt-12.index", "ckpt-12.data-00000-of-00001"):
        (tmp_path / name).write_bytes(b"\0")
    model = small_classifier()
    loaded = pretrained.load_pretrained(model, tmp_path)
    assert "ckpt-12.flax is read; not read: ckpt-8.flax" in loaded.notes[0]
    assert_same(model, small_classifier(seed=7))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "gs://somewhere/ckpt-8"\n')
    loaded = pretrained.load_pretrained(model, epath.Path(tmp_path))  # as for a bucket
    assert "ckpt-8.flax is read; not read: ckpt-12.flax" in loaded.notes[0]
    assert_same(model, small_classifier(seed=2))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-9"\n')
    refused(tmp_path, "names ckpt-9.flax, which is not among ckpt-8.flax, ckpt-12.flax")


def test_folders_of_other_things_are_refused(tmp_path):
    refused(tmp_path, "neither a workdir.*holds nothing")
    (tmp_path / "16bits" / "checkpoints").mkdir(parents=True)
    refused(tmp_path, f"Its runs are in {tmp_path}/16bits")


def test_a_bucket_without_its_client_is_explained(monkeypatch):
    imported = builtins.__import__

    def without_clients(name, *args, **kwargs):
        if name.split(".")[0] in ("gcsfs", "tensorflow"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_clients)
    refused("gs://gresearch/nest-checkpoints/nest-b_imagenet", "pip install gcsfs.*gcloud")


def test_other_addresses_are_refused():
    refused("https://example.org/jx_nest_base.pth", "Download it first")


def test_google_s_names_are_undone_by_their_inverse():
    parameters_there, others = google_files.read(GOLDEN / "google_nest.flax")
    assert set(others) == {"step", "optimizer/state/step"}
    found = google_names.to_ours(parameters_there)
    assert not found.unknown
    back, homeless = google_names.to_theirs(found.arrays, found.heads)
    assert not homeless and back.keys() == parameters_there.keys()
    for name, array in parameters_there.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


@pytest.mark.parametrize("name", ["nest.flax", "nest.safetensors"])
def test_heads_that_a_file_tells_must_be_the_network_s(folder, name):
    message = refused(
        folder / name,
        "4 places",
        model=small_classifier(num_heads=(4, 4)),
        error=pretrained.IncompatibleWeightsError,
    )
    label = "levels/0/layers/0/attention/* (4 arrays); made for 2 heads, here there are 4"
    assert label in message


def test_attention_with_shared_keys_is_refused(folder, tmp_path):
    """Google's networks for 32-pixel images."""
    parameters_there, _ = google_files.read(folder / "nest.flax")
    shared = {
        name.replace("MultiHeadAttention_0/DenseGeneral_1", "MultiQueryAttention_0/Dense_0"): array
        for name, array in parameters_there.items()
    }
    (tmp_path / "c10.flax").write_bytes(google_files.write(shared))
    refused(tmp_path / "c10.flax", "MultiQueryAttention_0.*32-pixel.*not supported")


@pytest.mark.parametrize("leaf", ["DenseGeneral_1/bias", "proj_kernel", "DenseGeneral_0/kernel"])
def test_half_an_attention_of_google_s_is_listed_with_what_it_misses(folder, tmp_path, leaf):
    parameters_there, _ = google_files.read(folder / "nest.flax")
    gone = f"EncoderNDBlock_1/MultiHeadAttention_0/{leaf}"
    del parameters_there[gone]
    (tmp_path / "part.flax").write_bytes(google_files.write(parameters_there))
    part = "proj" if leaf.startswith("proj") else "qkv"
    kind = "kernel" if "kernel" in leaf else "bias"
    message = refused(
        tmp_path / "part.flax",
        f"levels/1/layers/0/attention/{part}/{kind}.*not in the file",
        model=small_classifier(),
        error=pretrained.IncompatibleWeightsError,
    )
    if part == "qkv":
        other = gone.replace("_1/b", "_0/b").replace("_0/k", "_1/k")
        assert f"{other} (1 array); nothing this program knows" in message


def test_levels_of_one_width_cannot_be_told_apart_in_google_s_files(tmp_path):
    model = small_classifier(embed_dims=(8, 8), num_heads=(2, 2))
    (tmp_path / "x.flax").write_bytes(encode(source_of(model), "x.flax").data)
    refused(tmp_path / "x.flax", "do not make a NesT", model=model)


def test_the_authors_unused_layer_and_training_state_are_left_out_by_name(folder):
    loaded = pretrained.load_pretrained(small_network(), folder / "hash.safetensors")
    assert set(loaded.names(LEFT_OUT)) == {"FcLayer.weight", "FcLayer.bias"}
    assert "never uses" in loaded.describe()
    source = read_source(folder / "nest.flax")
    assert source.unused == dict.fromkeys(["step", "optimizer/state/step"], "training state")
