"""The processor's name: networks round otherwise on another kind, so records say which it was."""

import platform
from pathlib import Path


def processor_name() -> str:
    """As the system calls it, with family and model: virtual machines hide the kind in the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    pairs = (line.partition(":") for line in reversed(lines))
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    if "model name" not in facts:
        return platform.processor()
    kind = ", ".join(f"{n} {facts[n]}" for n in ("cpu family", "model") if n in facts)
    return f"{facts['model name']} ({kind})" if kind else facts["model name"]
