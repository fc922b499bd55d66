"""Makes Intel's MKL, PyTorch's matrix products, take its AVX-512 code on an AMD processor.

MKL asks a function of its own whether it runs on Intel's processors. A library that is loaded before
it and has a function of that name answers in its place. No user has that; it is for comparison.
"""

import shutil
import subprocess
from pathlib import Path

_SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def why_not() -> str | None:
    """Why it would make no difference here, or cannot be made; None where it can."""
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "/proc/cpuinfo, which tells the processor, is not there"
    if "AuthenticAMD" not in processor:
        return "the processor is not AMD's, so MKL takes its fastest code as installed"
    if "avx512f" not in processor:
        return "the processor has no AVX-512"
    if shutil.which("cc") is None:
        return "there is no C compiler (cc)"
    return None


def build(folder: Path) -> Path:
    """The library, compiled in `folder`, for LD_PRELOAD."""
    source, library = folder / "mkl_avx512.c", folder / "mkl_avx512.so"
    source.write_text(_SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library
