"""Which of a host's GPUs are this process's, where several processes may share the host."""

import re
from collections.abc import Mapping


def choose_gpus(environ: Mapping[str, str]) -> list[int] | None:
    """Numbers of this process's GPUs among those it sees; None leaves the choice to JAX.

    JAX gives the processes of a launcher that it asks the GPU of their number on the host, also one
    that is alone there. Those that flags name, for which `processes` has it ask none, get all.
    """
    number, processes = _place(environ)
    if environ.get("JAX_LOCAL_DEVICE_IDS") or number is None:
        return None
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [number] if processes > 1 else None
    gpus = len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if not gpus:
        return None
    # Fewer than processes: the launcher shows each those that are its own.
    return [number] if 1 < processes <= gpus else [*range(gpus)]


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
