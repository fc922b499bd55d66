"""Starts a network from pre-trained weights, and says exactly what came from where."""

import collections
import os
from collections.abc import Sequence

import jax
from flax import nnx

from hybridhash_jax.distributed.agreement import check_same
from hybridhash_jax.models import Network
from hybridhash_jax.parameters import with_values
from hybridhash_jax.pretrained.account import Loaded
from hybridhash_jax.pretrained.fitting import fit
from hybridhash_jax.pretrained.network import describe_network, shapes_of
from hybridhash_jax.pretrained.sources import read_source
from hybridhash_jax.workdir.fingerprints import fingerprint_on_host


def load_pretrained(
    model: Network,
    path: str | os.PathLike[str],
    *,
    allow_missing: Sequence[str] = (),
    checkpoint: str = "selected",
) -> Loaded:
    """Fills `model`, in place; parameters that the file has not keep their values.

    Parameters that the file has not keep their values; see `fitting.fit` for `allow_missing`.
    `checkpoint` is of one of our workdirs: "latest", "selected" or a step.

    Raises:
      WeightFileError: the file is missing, broken, or nothing of the kind.
      IncompatibleWeightsError: what is unexplained, all of it; `model` is unchanged.
      DisagreementError: processes of one run found other arrays at this path.
    """
    source, target = read_source(path, checkpoint), describe_network(model)
    if jax.process_count() > 1:
        checksum = sum(fingerprint_on_host(source.arrays).values()) % 2**32
        check_same(f"the arrays in {path}", checksum)
    patterns = (allow_missing,) if isinstance(allow_missing, str) else allow_missing
    fitted = fit(source, target, patterns)
    params = nnx.state(model, nnx.Param)
    nnx.update(model, with_values(params, fitted.arrays))
    notes = list(source.notes)
    types = collections.Counter(array.dtype.name for array in source.arrays.values())
    for name, count in types.items():
        if name != "float32":
            notes.append(f"{count} arrays are {name} in the file; parameters are float32")
    tokens = any("token_attention" in path for path in source.arrays)
    for name, there in source.options.items():
        here = target.options.get(name, there)
        if here != there and (tokens or name != "token_layout"):
            notes.append(
                f'these weights were trained with {name}="{there}"; this network has "{here}"'
            )
    return Loaded(
        path=source.path,
        kind=source.kind,
        rows=tuple(fitted.rows),
        entries=tuple(source.names.values()),
        shapes=shapes_of(source.arrays),
        notes=tuple(notes),
    )
