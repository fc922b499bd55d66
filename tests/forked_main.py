"""Runs main.py many times in children of a process that has imported everything once.

    python -m tests.forked_main

Reads one JSON list a line from standard input: the arguments, main.py's path first, and the files
for the child's standard output and error. Answers each with a line, the exit code.
"""

import importlib
import json
import os
import runpy
import sys
import traceback


def run_child(arguments: list[str], output: str, error: str) -> None:
    for number, path in ((1, output), (2, error)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = arguments
    code = 1
    try:
        runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        if sys.exception() is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the child ends here, whatever happened


def main() -> None:
    for module in ("batch_tuning", "command_line", "evaluation_run", "run"):
        importlib.import_module(f"hybridhash_jax.{module}")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run_child(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
