"""What was compiled in the background is not compiled again."""

import jax
import jax.numpy as jnp
import numpy as np

from hybridhash_jax import sharding
from hybridhash_jax.background_compilation import BackgroundCompilation

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


def test_a_failure_is_left_to_the_call_itself():
    ahead = BackgroundCompilation()
    ahead.start(jax.jit(lambda x: x @ x).lower, jnp.ones((2, 3)))
    ahead.wait()


def test_waiting_for_nothing_returns_at_once():
    BackgroundCompilation().wait()
