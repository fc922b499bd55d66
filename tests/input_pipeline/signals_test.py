"""Ctrl-C and SIGTERM are answered at once, wherever the main thread is, and handlers come back."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from input_pipeline import signals

BUSY = {
    "in C": "time.sleep(60)",
    # Python raises KeyboardInterrupt in such a callback and swallows it there.
    "in callbacks of the garbage collector": (
        "import gc; gc.callbacks.append(lambda *_: sum(range(10000)))\nwhile True: gc.collect()"
    ),
    "in an except for everything": "while True:\n try: time.sleep(0.01)\n except BaseException: 0",
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", BUSY.values(), ids=BUSY)
def test_a_signal_ends_the_process_at_once_with_its_code(busy, number):
    code = f"import time; from input_pipeline import signals; signals.listen(); print('on')\n{busy}"
    process = subprocess.Popen(
        [sys.executable, "-uc", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert error == f"stopped by {number.name}; what was saved before is intact\n"


def heard_after(numbers: list[int], count: int) -> list[int]:
    end = time.monotonic() + 10
    while len(numbers) < count and time.monotonic() < end:
        time.sleep(0.001)
    return numbers


def test_the_innermost_answer_counts_and_what_was_there_before_comes_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    outer, inner = [], []
    with signals.answered_by(outer.append):
        with signals.answered_by(inner.append):
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard_after(inner, 1) == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)
        assert heard_after(outer, 1) == [signal.SIGINT]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, signals.Terminated)],
)
def test_a_tool_that_cleans_up_still_gets_its_exception(number, error):
    with signals.answered_by(lambda number: None):
        with pytest.raises(KeyboardInterrupt) as raised, signals.raised():
            os.kill(os.getpid(), number)
            time.sleep(1)
        assert raised.type is error
        heard = []
        with signals.answered_by(heard.append):
            os.kill(os.getpid(), signal.SIGINT)
            assert heard_after(heard, 1) == [signal.SIGINT]


def test_a_tool_that_cleans_up_may_answer_for_itself_for_a_while():
    outer, inner = [], []
    with signals.answered_by(outer.append):
        with signals.raised():
            with signals.answered_by(inner.append):
                os.kill(os.getpid(), signal.SIGTERM)
                assert heard_after(inner, 1) == [signal.SIGTERM]
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard_after(outer, 1) == [signal.SIGTERM]


def test_another_thread_changes_no_handler():
    before, inside = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with signals.answered_by(lambda number: None):
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]
