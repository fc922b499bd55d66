"""Starts main.py many times as children of a process that has imported everything once.

    python -m tests.runs.forked_main

Reads one JSON list a line from standard input and answers each with a line: ["start", [main.py, its
arguments], output, error, written, devices], the files that the child writes to, one for the names of
all others that it does, and how many devices it has, with its process id; ["poll", id] with the exit
code or null. `tests.runs.main_process` asks.
"""

import importlib
import json
import os
import runpy
import sys
import traceback


def record_writes(path: str) -> None:
    """Lists every file that Python opens for writing or renames another to, a line each."""
    record = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, given: tuple) -> None:
        if event == "os.rename":
            os.write(record, f"{given[1]}\n".encode())
        elif event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR):
            os.write(record, f"{given[0]}\n".encode())

    sys.addaudithook(note)


def run_child(arguments: list[str], output: str, error: str, written: str, devices: int) -> None:
    for number, path in ((1, output), (2, error)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
    record_writes(written)
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


def poll(child: int) -> int | None:
    ended, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def main() -> None:
    for module in ("command_line", "modes"):
        importlib.import_module(f"hybridhash_jax.{module}")
    for line in sys.stdin:
        request, *details = json.loads(line)
        if request == "poll":
            answer = poll(*details)
        elif (answer := os.fork()) == 0:
            run_child(*details)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
