"""Checkpoints of a run, kept with Orbax and verified when they are read.

Every checkpoint holds the state as a flat mapping from path to array, and beside it a fingerprint
of every array, so that a damaged file is noticed even where its format has no checksum.
"""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax import lax
from orbax.checkpoint import checkpoint_managers

from hybridhash_jax.parameters import flatten
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.workdir import names
from input_pipeline.options import Option

State = TypeVar("State")
OPTIONS = (
    Option("every_epochs", "epochs between two checkpoints", above=0, may_change=True),
    Option("keep_latest", "newest checkpoints to keep", at_least=1, may_change=True),
)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read."""


class _KeepLatestAndBest(checkpoint_managers.PreservationPolicy):
    """Keeps the newest n and the best; Orbax's `best_fn` would delete the newest."""

    def __init__(self, keep_latest: int):
        self.keep_latest = keep_latest
        self.best_step: int | None = None

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        newest = {info.step for info in checkpoints[-self.keep_latest :]}
        return [info.step in newest or info.step == self.best_step for info in checkpoints]


class CheckpointStore:
    """The checkpoints of one run, one folder a step."""

    def __init__(self, directory: Path, keep_latest: int = 2, *, read_only: bool = False):
        """Opens `directory`, making it unless `read_only`.

        With keep_latest >= 2 there is always one to fall back on should the newest be damaged.
        """
        OPTIONS[1].check(keep_latest)
        self.directory = directory.absolute()
        self._policy = _KeepLatestAndBest(keep_latest)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy,
            enable_async_checkpointing=not read_only,
            cleanup_tmp_directories=not read_only,  # left by a process that was killed
            create=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def keep_best(self, step: int | None) -> None:
        """Names the checkpoint that is kept however old it gets."""
        self._policy.best_step = step

    def save(self, step: int, state: Any, meta: Mapping[str, Any]) -> None:
        """Saves in the background; a checkpoint of the same step is replaced.

        A CheckpointError if this or the save before could not be written; older ones are intact.
        """
        flat = flatten(state)
        meta = dict(meta) | {"fingerprint": fingerprint(flat)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(flat), meta=ocp.args.JsonSave(meta))
        try:
            if step in self._manager.all_steps():
                self._manager.wait_until_finished()
                self._manager.delete(step)
            self._manager.save(step, args=args, force=True)
        except Exception as error:
            raise self._write_error(error) from error

    def wait(self) -> None:
        """Returns when every save is on disk; raises CheckpointError if one failed."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self._write_error(error) from error

    def _write_error(self, error: Exception) -> CheckpointError:
        intact = ", ".join(str(step) for step in committed_steps(self.directory)) or "none yet"
        return CheckpointError(
            f"could not write a checkpoint to {self.directory}: {_first_line(error)}. "
            f"Is the disk full? Checkpoints that are intact: step {intact}. Make room and start "
            "the same command again to go on from there."
        )

    def restore_latest(self, like: State) -> tuple[State, dict[str, Any]] | None:
        """The newest readable checkpoint, or None where there is none at all.

        A damaged one is reported, moved to `damaged_checkpoints` beside the directory, and the one
        before is used; a CheckpointError if all of them are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.restore(step, like)
            except CheckpointError as error:
                moved = self._set_aside(step)
                logger.warning("%s; moved to %s", error, moved)
        if steps:
            raise CheckpointError(
                f"every checkpoint in {self.directory} was damaged (steps {steps}); they are in "
                f"{self.directory.parent / names.DAMAGED}. Start again with a new workdir."
            )
        return None

    def restore(self, step: int, like: State) -> tuple[State, dict[str, Any]]:
        """One checkpoint, in the structure, shapes and shardings of `like`, and its meta data.

        A CheckpointError if it is missing, damaged, or of another network.
        """
        where = self.directory / str(step)
        if not where.is_dir():
            raise CheckpointError(f"there is no checkpoint {where}; there are: {self.steps()}")
        flat = flatten(like)
        try:
            meta = read_meta(where)
            expected = meta.pop("fingerprint")
            stored = {path: _stored_name(path, expected) for path in flat}
            abstract = {
                stored[path]: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
                for path, x in flat.items()
            }
            args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            restored = self._manager.restore(step, args=args)["state"]
            found = fingerprint(restored)
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {where} cannot be read ({_first_line(error)})"
            ) from error
        if found != expected:
            raise CheckpointError(f"checkpoint {where} is damaged: its arrays have changed")
        leaves = [restored[name] for name in stored.values()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), meta

    def _set_aside(self, step: int) -> Path:
        target = self.directory.parent / names.DAMAGED / str(step)
        if jax.process_index() == 0:
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(self.directory / str(step), target)
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("set aside a damaged checkpoint")
        self._manager.reload()
        return target

    def close(self) -> None:
        """Ends the background threads."""
        self._manager.close()


def read_meta(where: Path) -> dict[str, Any]:
    """What is kept beside the arrays of one checkpoint: the history, and their fingerprint."""
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        return dict(checkpointer.restore(where.absolute() / "meta", args=ocp.args.JsonRestore()))


def _stored_name(path: str, stored: Mapping[str, Any]) -> str:
    """The name in a checkpoint; earlier versions knew a memory bank as the only method's state."""
    earlier = f"bank/{path.removeprefix('method/')}"
    return earlier if path not in stored and earlier in stored else path


def model_fingerprint(params: Any) -> str:
    """Eight hex digits that are the same for bit-identical parameters, and hardly for others."""
    return f"{sum(fingerprint(flatten(params)).values()) % 2**32:08x}"


def fingerprint(arrays: Mapping[str, jax.Array]) -> dict[str, int]:
    """A 32-bit checksum of each array's bits, each weighted by an odd number of its position.

    The sums wrap and do not depend on their order, so neither on the devices.
    """
    sums = jax.device_get(_checksums(dict(arrays)))
    return {name: int(value) for name, value in sums.items()}


@jax.jit
def _checksums(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: _checksum(x) for name, x in arrays.items()}


def _checksum(x: jax.Array) -> jax.Array:
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
    bits = lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    position = jnp.zeros(x.shape, jnp.uint32)
    for axis in range(x.ndim):
        stride = math.prod(x.shape[axis + 1 :])
        position += lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(stride % 2**32)
    return jnp.sum(bits * (2 * position + 1), dtype=jnp.uint32)


def committed_steps(directory: Path) -> list[int]:
    """Steps whose checkpoint is complete, by the names in `directory`; none if it is not there."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
