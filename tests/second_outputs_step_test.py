"""What a method gets beside the outputs: those of a second view, or of parameters that follow."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.methods import METHODS, Method
from hybridhash_jax.workdir.checkpoints import flatten
from tests.runs.small_run import make_config


@dataclasses.dataclass(frozen=True)
class Kept(Method):
    """Learns from the difference of both outputs, and keeps the last ones."""

    title, group = "kept", "loss"

    def init_state(self, labels, bits, key):
        return {"outputs": jnp.zeros((128, bits)), "second": jnp.zeros((128, bits))}

    def loss(self, outputs, examples, state, step):
        assert examples.second is not None
        loss = jnp.square(outputs - 0.9).mean() + jnp.square(examples.second + 0.5).mean()
        kept = {"outputs": outputs, "second": examples.second}
        return loss, jax.lax.stop_gradient(kept)


@dataclasses.dataclass(frozen=True)
class OfTeacher(Kept):
    second = "momentum"

    @property
    def momentum(self):
        return 0.75


@dataclasses.dataclass(frozen=True)
class OfView(Kept):
    second = "view"


def after_steps(monkeypatch, kind, count=1, **overrides):
    """The states before and after some steps."""
    monkeypatch.setitem(METHODS, "hybridhash", kind)
    config = make_config(model__drop_path_rate=0.0, **overrides)
    experiment = create_experiment(config, create_dataset(config))
    state = experiment.create_state()
    states = [jax.device_get(state)]
    with contextlib.closing(experiment.train_batches(0)) as batches:
        for _ in range(count):
            batch = sharding.put_batch(next(batches), experiment.mesh)
            state, metrics = experiment.train_step(state, batch, experiment.run_key)
            states.append(jax.device_get(state))
    assert np.isfinite(metrics["loss"])
    return states


@pytest.mark.slow
def test_the_teacher_follows_before_it_is_asked_and_gets_no_gradient(monkeypatch):
    states = after_steps(monkeypatch, OfTeacher, 2)
    first, one, two = (flatten(state.params) for state in states)
    teacher = flatten(states[2].teacher)
    assert teacher.keys() == one.keys(), "all of this network is trained"
    for name, value in teacher.items():
        # After the first step it is what training began with, after the second a quarter nearer.
        expected = 0.75 * first[name] + 0.25 * one[name]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(flatten(states[1].teacher)[name], first[name])
    kept = states[1].method
    np.testing.assert_allclose(kept["second"], kept["outputs"], rtol=1e-4, atol=1e-5)
    assert any((two[name] != one[name]).any() for name in two)


@pytest.mark.thorough
def test_a_teacher_has_what_is_trained_and_nothing_else(monkeypatch):
    own = {"optimizer__frozen": ("^patch_embed/",), "features__keep": "never"}
    state = after_steps(monkeypatch, OfTeacher, **own)[1]
    names = set(flatten(state.teacher))
    assert names == {name for name in flatten(state.params) if "patch_embed" not in name}
    assert flatten(state.teacher).keys() < flatten(state.params).keys()


@pytest.mark.thorough
def test_a_second_view_is_augmented_anew_also_in_parts(monkeypatch):
    views = {"data__crop_padding": 2, "accumulation_steps": 2}
    kept = after_steps(monkeypatch, OfView, **views)[1].method
    assert np.abs(kept["second"] - kept["outputs"]).max() > 1e-3
    without = after_steps(monkeypatch, OfView, accumulation_steps=2)[1].method
    np.testing.assert_allclose(without["second"], without["outputs"], rtol=1e-5, atol=1e-6)
