"""Ctrl-C and SIGTERM, answered at once by a thread of their own.

Python raises KeyboardInterrupt in the main thread instead: late while XLA compiles, and lost where
it lands in a callback. Imports little, so that a program can listen from its first line on.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

Answer = Callable[[int], None]


class Terminated(KeyboardInterrupt):
    """SIGTERM where Python answers: it cleans up as after Ctrl-C."""


_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_answers: list[Answer] = []  # the last one counts
_taken = [False]  # are Python's handlers replaced at present? Only the main thread changes it.


def say(text: str) -> None:
    """Writes a line to standard error, past the buffers that the main thread may hold."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())


def end(number: int, clean_up: Callable[[], None] | None = None) -> None:
    """Ends the process at once, with the exit code that shells and schedulers expect.

    What does not let itself be flushed or cleaned up within a second is left.
    """

    def finish() -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        if clean_up:
            clean_up()

    say(f"stopped by {signal.Signals(number).name}; what was saved before is intact")
    last = threading.Thread(target=finish, daemon=True)
    last.start()
    last.join(1.0)
    os._exit(128 + number)


def listen(answer: Answer = end) -> None:
    """From here on `answer` is called with the number of each SIGINT and SIGTERM, in a thread."""
    _answers.append(answer)
    if not _taken[0]:
        _start()


@contextlib.contextmanager
def answered_by(answer: Answer) -> Iterator[None]:
    """`answer` counts inside the block; what was there before counts again after it.

    Outside of the main thread nothing changes: only there can Python set handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = None if _taken[0] else _start()
    _answers.append(answer)
    try:
        yield
    finally:
        _answers.remove(answer)
        if stop:
            stop()


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Inside the block Ctrl-C raises KeyboardInterrupt and SIGTERM `Terminated`.

    For code that cleans up when it is stopped.
    """
    if not _taken[0]:
        yield
        return
    _taken[0] = False
    wakeup = signal.set_wakeup_fd(-1)
    own = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}
    before = {number: signal.signal(number, handler) for number, handler in own.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        _taken[0] = True


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def _start() -> Callable[[], None]:
    """Takes the signals over; returns what gives them back."""
    _taken[0] = True
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    # What Python's C handler writes there is read even while the main thread is in C code.
    wakeup = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in _NUMBERS}
    threading.Thread(target=_hear, args=(ear,), name="signals", daemon=True).start()

    def stop() -> None:
        _taken[0] = False
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(mouth)

    return stop


def _hear(ear: int) -> None:
    while data := os.read(ear, 1):
        if data[0] in _NUMBERS and _answers:
            _answers[-1](data[0])
    os.close(ear)
