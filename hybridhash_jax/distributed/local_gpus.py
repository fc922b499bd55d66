"""Which of a host's GPUs are this process's, where several processes may share the host."""

import re
from collections.abc import Mapping
from pathlib import Path


def count_gpus(environ: Mapping[str, str]) -> int:
    """NVIDIA GPUs that this process may use."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len([*Path("/dev").glob("nvidia[0-9]*")])


def choose_gpus(environ: Mapping[str, str], gpus: int) -> list[int] | None:
    """Numbers of this process's GPUs among the `gpus` it may use; None leaves the choice to JAX.

    JAX gives the processes of one launcher the GPU of their number on the host, but all of them every
    GPU if they were started with flags, and one alone on its host only the first of them.
    """
    if environ.get("JAX_LOCAL_DEVICE_IDS") or not gpus:
        return None
    number, processes = _place(environ)
    if number is None:
        return None
    if gpus == 1:
        return [0]  # the launcher has bound it
    return [number] if processes > 1 else [*range(gpus)]


def _place(environ: Mapping[str, str]) -> tuple[int | None, int]:
    """The process's number on its host, and how many a host has; None where no launcher says so."""
    if "OMPI_COMM_WORLD_LOCAL_RANK" in environ:
        size = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "")
        number = environ["OMPI_COMM_WORLD_LOCAL_RANK"]
    else:  # the step's nodes in order, such as 8(x2),4
        sizes = re.findall(r"(?:^|,)(\d+)", environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
        size = max(sizes, key=int, default="")
        number = environ.get("SLURM_LOCALID", "")
    if not (number.isdecimal() and size.isdecimal()):
        return None, 0
    return int(number), int(size)
