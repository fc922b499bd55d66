"""Reads and writes the Flax checkpoints of google-research/nested-transformer.

Such a file is MessagePack of a state dict, with the parameters at optimizer/target. MessagePack
holds data only: reading it runs nothing.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import flax.serialization
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from hybridhash_jax.pretrained.errors import WeightFileError

_PARAMETERS = "optimizer/target/"


def looks_like_flax(head: bytes) -> bool:
    """Could a file that starts so be a MessagePack map?

    0x80, an empty map, starts a pickle. The first eight bytes of a safetensors file are a length,
    the upper half of which is 0.
    """
    if head.startswith(b"\x89PNG"):
        return False
    is_map = len(head) > 0 and (0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF))
    return is_map and head[4:8] != bytes(4)


def read(place: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    """(parameters by name, names of all other entries) of a `.flax` file of Google's code."""
    try:
        tree = flax.serialization.msgpack_restore(place.read_bytes())
    except OSError as error:
        raise WeightFileError(f"cannot open it: {error}") from error
    except Exception as error:  # Damaged MessagePack can fail in any way; all of them mean this.
        raise WeightFileError(
            "it looks like a Flax checkpoint but is truncated or damaged. Fetch it again."
        ) from error
    flat = flatten_dict(tree, sep="/") if isinstance(tree, dict) else {}
    parameters = {
        str(name).removeprefix(_PARAMETERS): value
        for name, value in flat.items()
        if str(name).startswith(_PARAMETERS) and isinstance(value, np.ndarray)
    }
    if not any(name.startswith("PatchEmbedding_0/") for name in parameters):
        raise WeightFileError(
            f"it is MessagePack, but no NesT of Google's: no PatchEmbedding_0 at {_PARAMETERS}. "
            f"It holds {', '.join(str(name) for name in list(flat)[:5]) or 'nothing'}."
        )
    return parameters, [str(n) for n in flat if str(n).removeprefix(_PARAMETERS) not in parameters]


def write(parameters: Mapping[str, np.ndarray]) -> bytes:
    """The content of a `.flax` file that holds these parameters, at step 0."""
    step = np.zeros((), np.int32)
    flat = {name: np.ascontiguousarray(array) for name, array in parameters.items()}
    optimizer = {"state": {"step": step}, "target": unflatten_dict(flat, sep="/")}
    return flax.serialization.msgpack_serialize({"step": step, "optimizer": optimizer})


def find_in_folder(folder: Any) -> tuple[Any, list[str]] | None:
    """(the `.flax` file of a folder as Google publishes them, notes); None if there is none.

    Its file `checkpoint` names one of them; without it the one of the highest number is taken.
    """
    files = sorted((p for p in folder.iterdir() if p.name.endswith(".flax")), key=_number)
    if not files:
        return None
    chosen, index = files[-1], folder / "checkpoint"
    if index.exists():
        text = index.read_bytes().decode("utf-8", "replace")
        match = re.search(r'^model_checkpoint_path:\s*"([^"]+)"', text, re.MULTILINE)
        name = os.path.basename(match[1]) + ".flax" if match else ""
        named = [path for path in files if path.name == name]
        if not named:
            raise WeightFileError(
                f"{folder}: its file `checkpoint` names {name or 'nothing'}, which is not among "
                f"{', '.join(p.name for p in files)}. Give one of these files."
            )
        chosen = named[0]
    others = ", ".join(path.name for path in files if path != chosen)
    notes = [f"of the folder, {chosen.name} is read" + (f"; not read: {others}" if others else "")]
    return chosen, notes


def _number(path: Any) -> tuple[int, str]:
    match = re.search(r"(\d+)\.flax$", path.name)
    return (int(match[1]) if match else -1), path.name
