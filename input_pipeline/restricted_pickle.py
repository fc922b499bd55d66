"""Reads pickles without giving them any power.

A pickle is a program: it may name any function of any module and call it. Here it reaches only
what the reader of one kind of file allows, which are stand-ins of its own.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any

from input_pipeline.errors import DataError


def load_restricted(
    file: IO[bytes],
    allowed: Mapping[tuple[str, str], Any],
    *,
    advice: str,
    error: type[Exception] = DataError,
    persistent_load: Callable[[Any], Any] | None = None,
    encoding: str = "ASCII",
) -> Any:
    """The next pickle of `file`, of any protocol, also Python 2's; the file ends up behind it.

    Args:
      allowed: what (module, name) stands for. A pickle may set attributes of functions and classes
        it is given, so make them anew for each file.
      advice: ends the message about any other name: "..., which {advice}".
      error: raised, also by stand-ins and `persistent_load`, for a pickle that is damaged or asks
        for another name; nothing of it was run.
      persistent_load: from a persistent id to an object; None refuses them.
      encoding: of Python 2's strings; "bytes" leaves them as they are.
    """

    class Restricted(pickle.Unpickler):
        def find_class(self, module_name: str, global_name: str, /) -> Any:
            if (module_name, global_name) in allowed:
                return allowed[module_name, global_name]
            raise error(f"its pickle asks for {module_name}.{global_name}, which {advice}")

        def persistent_load(self, pid: Any, /) -> Any:
            if persistent_load is None:
                raise error(f"its pickle refers to {pid!r:.80} outside of itself, which {advice}")
            return persistent_load(pid)

    try:
        return Restricted(file, encoding=encoding).load()
    except error:
        raise
    except Exception as damage:  # the pickle module documents that damage may raise anything
        raise error(f"its pickle is damaged or malicious ({damage!r})") from damage
