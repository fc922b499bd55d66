"""What the PyTorch processes of benchmarks answer: JSON lines on standard input, one answer a line.

`torch_baseline.TorchWorker` asks. Needs torch alone, so it may run under another interpreter.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]


def answer(check: Callable[..., float], prepare: Callable[..., Callable[[], Any]]) -> None:
    """Answers until the input ends.

    Args:
      check: of the folder of the golden data, and of what the request has beside it; the largest
        difference.
      prepare: of a request's arguments; what it returns does the work that the request names.
    """
    works: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        match request.pop("do"):
            case "check":
                found: Any = check(Path(request.pop("golden")), **request)
            case "prepare":
                works[request["name"]] = prepare(**request["arguments"])
                found = torch.__version__
            case _:
                found = works[request["name"]]()
        print(json.dumps(found), flush=True)
