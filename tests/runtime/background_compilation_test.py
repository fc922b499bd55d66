"""What was compiled in the background is not compiled again."""

import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.run import train
from hybridhash_jax.runtime.background_compilation import BackgroundCompilation
from tests.runs.small_run import StopAt, make_config

COMPILED = "/jax/core/compile/backend_compile_duration"


def test_a_function_is_compiled_once_and_arguments_may_be_given_away():
    mesh = sharding.make_mesh(8)
    whole, split = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    scale = jax.jit(lambda w, x: x @ w, in_shardings=(whole, split), out_shardings=whole)
    weights, rows = jax.device_put(jnp.ones((3, 2)), whole), np.ones((16, 3), np.float32)
    placed = jax.device_put(rows, split)
    again = jax.device_put(jnp.ones((3, 2)), whole)
    ahead, compilations = BackgroundCompilation(), []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == COMPILED:
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        ahead.start(scale.lower, weights, placed)
        weights.delete()
        ahead.wait()
        assert len(compilations) == 1
        found = scale(again, placed)
        assert len(compilations) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    np.testing.assert_array_equal(found, np.full((16, 2), 3.0))


SPLIT = {"num_devices": 8, "mesh__fsdp": 2}
CLASSIFY = {
    "task": "classify", "evaluation__selected_by": "validation", "pretraining__ema_decay": 0.8,
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, SPLIT, SPLIT | CLASSIFY], ids=["one", "8", "classify, 8"])
def test_the_first_evaluation_runs_what_was_compiled_while_the_first_epoch_trained(
    tmp_path, options: dict[str, Any]
):
    compiled: dict[bool, list[str]] = {True: [], False: []}  # in the main thread, and in others

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == COMPILED:
            in_main = threading.current_thread() is threading.main_thread()
            compiled[in_main].append(str(kwargs["fun_name"]))

    config = make_config(
        num_epochs=1, evaluation__before_training=False, model__patch_size=4,
        model__embed_dims=(32,), model__num_heads=(2,), model__depths=(1,), **options,
    )  # fmt: skip
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        (entry,) = train(config, tmp_path, StopAt())
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(entry["evaluations"]) == 1
    (evaluation,) = compiled[False]
    assert "jit(train_step)" in compiled[True]
    assert evaluation not in compiled[True]


def test_a_failure_is_left_to_the_call_itself():
    ahead = BackgroundCompilation()
    ahead.start(jax.jit(lambda x: x @ x).lower, jnp.ones((2, 3)))
    ahead.wait()


def test_waiting_for_nothing_returns_at_once():
    BackgroundCompilation().wait()
