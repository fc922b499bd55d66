"""LSH, PCA and ITQ: properties that can be checked by hand, and chunks of any size."""

import tracemalloc

import jax
import numpy as np
import pytest

from hybridhash_jax.methods import ITQ, LSH, METHODS, PCA, FittedMethod, unsupervised
from hybridhash_jax.methods.unsupervised import (
    feature_mean,
    itq_rotation,
    principal_components,
)

FITTED = {name: kind for name, kind in METHODS.items() if kind.is_fitted}


def features(count: int = 300, width: int = 12, seed: int = 0) -> np.ndarray:
    """Of different variances, correlated, far from 0."""
    rng = np.random.default_rng(seed)
    spread = rng.standard_normal((count, width)) * np.arange(width, 0, -1)
    return (spread @ rng.standard_normal((width, width)) + 40).astype(np.float32)


def codes(method: FittedMethod, data: np.ndarray, bits: int) -> np.ndarray:
    kernel, bias = method.fit(data, bits)
    return np.where(data @ kernel + bias >= 0, 1, -1)


def quantization_loss(projected: np.ndarray, rotation: np.ndarray) -> float:
    rotated = projected @ rotation
    return float(np.square(np.where(rotated >= 0, 1, -1) - rotated).sum())


def test_the_fitted_methods_are_those_and_no_other_is():
    assert FITTED == {"lsh": LSH, "pca": PCA, "itq": ITQ}
    assert all(issubclass(kind, FittedMethod) and kind.head == "linear" for kind in FITTED.values())
    with pytest.raises(NotImplementedError, match="CSQ is trained by steps"):
        METHODS["csq"]().fit(features(), 4)
    with pytest.raises(NotImplementedError, match="ITQ is fitted and has no loss"):
        ITQ().loss(None, None, None, None)


@pytest.mark.parametrize("kind", FITTED.values())
def test_a_head_is_float32_and_splits_centred_features(kind):
    data = features()
    kernel, bias = kind().fit(data, 8)
    assert (kernel.shape, bias.shape) == ((12, 8), (8,))
    assert kernel.dtype == bias.dtype == np.float32
    outputs = data @ kernel + bias
    assert np.abs(outputs.mean(axis=0)).max() < 1e-3 * outputs.std()


def test_principal_components_are_those_of_the_singular_value_decomposition():
    data = features().astype(float)
    kernel, bias = PCA().fit(data, 5)
    right = np.linalg.svd(data - data.mean(axis=0))[2][:5].T
    right *= np.sign(right[np.abs(right).argmax(axis=0), np.arange(5)])
    np.testing.assert_allclose(kernel, right, atol=1e-6)
    np.testing.assert_allclose(bias, -data.mean(axis=0) @ right, rtol=1e-5, atol=1e-5)
    assert (kernel[np.abs(kernel).argmax(axis=0), np.arange(5)] > 0).all()


def test_the_rotation_of_itq_is_orthogonal_and_its_loss_never_rises():
    data = features().astype(float)
    mean = feature_mean(data)
    projected = (data - mean) @ principal_components(data, mean, 6)
    projected /= projected.std()
    rotations = [itq_rotation(projected, n, seed=3) for n in range(0, 40)]
    for rotation in rotations:
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(6), atol=1e-12)
    losses = [quantization_loss(projected, rotation) for rotation in rotations]
    assert (np.diff(losses) <= 1e-9 * losses[0]).all()
    assert losses[-1] < losses[0]
    assert losses[-1] < quantization_loss(projected, np.eye(6))  # that of PCA


def test_itq_is_pca_rotated_towards_its_signs():
    data = features(width=8)
    kernel, _ = ITQ().fit(data, 8)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(8), atol=1e-5)
    components, _ = PCA().fit(data, 8)
    rotation = components.T @ kernel
    np.testing.assert_allclose(components @ rotation, kernel, atol=1e-5)
    # All bits of ITQ share the variance; the last of PCA have next to none.
    variances = [(data @ k).std(axis=0) for k in (kernel, components)]
    assert variances[0].min() > 3 * variances[1].min()


def test_bits_of_random_projections_differ_as_often_as_the_angle_is_wide():
    data = np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32)
    found = codes(LSH(seed=2), data, 4096)
    centred = data - data.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    angles = np.arccos(np.clip(centred @ centred.T, -1, 1)) / np.pi
    differ = (found[:, None] != found[None]).mean(axis=-1)
    # Four deviations of a binomial at most.
    assert np.abs(differ - angles).max() < 4 * 0.5 / np.sqrt(4096)


@pytest.mark.parametrize("kind", [LSH, ITQ])
def test_the_seed_decides_what_is_random(kind):
    data = features()
    first = kind(seed=1).fit(data, 6)
    np.testing.assert_array_equal(first[0], kind(seed=1).fit(data, 6)[0])
    assert not np.array_equal(first[0], kind(seed=2).fit(data, 6)[0])
    np.testing.assert_array_equal(PCA(seed=1).fit(data, 6)[0], PCA(seed=2).fit(data, 6)[0])


@pytest.mark.parametrize("kind", FITTED.values())
def test_chunks_of_a_memory_map_give_what_the_whole_gives(kind, tmp_path, monkeypatch):
    np.save(tmp_path / "features.npy", features().astype(np.float16))
    data = np.load(tmp_path / "features.npy", mmap_mode="r")
    whole = kind().fit(np.array(data), 6)
    monkeypatch.setattr(unsupervised, "_CHUNK", 7 * 12)
    for part, expected in zip(kind().fit(data, 6), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)


def test_memory_holds_a_chunk_of_the_features(tmp_path, monkeypatch):
    monkeypatch.setattr(unsupervised, "_CHUNK", 1 << 16)
    np.save(tmp_path / "features.npy", np.zeros((40_000, 64), np.float16) + np.float16(0.5))
    data = np.load(tmp_path / "features.npy", mmap_mode="r")
    tracemalloc.start()
    try:
        ITQ(rows=2000).fit(data, 8)
        # A chunk takes 0.5 MB a copy, the 2,000 rows of 8 bits little; all rows 20 MB.
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", FITTED.values())
def test_what_all_features_share_changes_the_bias_alone(kind):
    data = features().astype(float)
    kernel, _ = kind().fit(data, 6)
    moved = kind().fit(data + 100, 6)
    np.testing.assert_allclose(moved[0], kernel, atol=1e-5)
    np.testing.assert_array_equal(codes(kind(), data, 6), codes(kind(), data + 100, 6))


def test_features_far_from_zero_lose_no_digits():
    data = np.random.default_rng(0).standard_normal((500, 4)) * [4, 3, 2, 1] + 1e7
    mean = feature_mean(data)
    np.testing.assert_allclose(mean, data.mean(axis=0), rtol=1e-15)
    near = data - 1e7
    expected = principal_components(near, feature_mean(near), 4)
    np.testing.assert_allclose(principal_components(data, mean, 4), expected, atol=1e-6)


def test_the_rotation_sees_evenly_spaced_rows_of_many():
    """Rows in between do not count for it, as for a fit to the others with the same moments."""
    data = features(61)
    few = ITQ(rows=4).fit(data, 3)
    changed = data.copy()
    changed[[1, 30]] = data[[30, 1]]  # the same mean and covariance
    np.testing.assert_allclose(ITQ(rows=4).fit(changed, 3)[0], few[0], atol=1e-5)
    changed[[1, 20]] = data[[20, 1]]  # rows 0, 20, 40 and 60 are looked at
    assert np.abs(ITQ(rows=4).fit(changed, 3)[0] - few[0]).max() > 1e-3
    np.testing.assert_array_equal(ITQ(rows=61).fit(data, 3)[0], ITQ(rows=10_000).fit(data, 3)[0])


@pytest.mark.parametrize(
    ("kind", "bits", "message"),
    [
        (PCA, 13, "13 bits of features of 12 dimensions.*at most 12 bits, or LSH"),
        (ITQ, 13, "13 bits of features of 12 dimensions.*at most 12 bits, or LSH"),
    ],
)
def test_more_bits_than_dimensions_are_refused(kind, bits, message):
    with pytest.raises(ValueError, match=message):
        kind().fit(features(), bits)
    assert LSH().fit(features(), bits)[0].shape == (12, 13)


@pytest.mark.parametrize(("kind", "count"), [(PCA, 8), (ITQ, 8), (LSH, 0)])
def test_too_few_rows_are_refused(kind, count):
    least = count + 1
    message = f"{count} rows of features, and 8 bits need at least {least};"
    with pytest.raises(ValueError, match=message):
        kind().fit(features(20)[:count], 8)
    kind().fit(features(20)[:least], 8)


@pytest.mark.parametrize("kind", FITTED.values())
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_that_are_not_finite_are_counted_and_the_first_is_named(kind, dtype, monkeypatch):
    monkeypatch.setattr(unsupervised, "_CHUNK", 7 * 12)
    data = features().astype(dtype)
    data[9, 3], data[17, 0], data[17, 1] = np.nan, np.inf, -np.inf
    with pytest.raises(ValueError, match="2 of 300 rows of features have NaN.*first is row 9;"):
        kind().fit(data, 4)


@pytest.mark.parametrize("data", [np.ones((4, 3), int), np.ones(4), np.ones((4, 3), object)])
def test_what_is_no_table_of_floats_is_refused(data):
    with pytest.raises(ValueError, match=r"must be floats \[images, dimensions\]; got"):
        LSH().fit(data, 2)


def test_the_signs_of_a_head_in_jax_are_those_of_numpy():
    data = features()
    kernel, bias = ITQ().fit(data, 8)
    outputs = data.astype(float) @ kernel + bias
    found = jax.numpy.matmul(data, kernel, precision="highest") + bias[None]
    clear = np.abs(outputs) > 1e-3
    np.testing.assert_array_equal((np.asarray(found) >= 0)[clear], (outputs >= 0)[clear])
