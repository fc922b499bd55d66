"""Long work tells how far it is where there is no terminal, and short work says nothing."""

import re
import threading

import pytest

from input_pipeline.progress import Progress, duration


class Lines:
    """Takes lines and knows when there are enough."""

    def __init__(self, enough: int):
        self.lines: list[str] = []
        self.enough = enough
        self.there = threading.Event()

    def take(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) >= self.enough:
            self.there.set()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (5.4, "0:05"), (125, "2:05"), (7390, "2:03:10")]
)
def test_durations_are_told_as_clocks_tell_them(seconds, text):
    assert duration(seconds) == text


def test_work_of_known_size_tells_counts_speed_and_what_is_left():
    told = Lines(2)
    with Progress("encoding", 2000, tell=told.take, first=0.01, every=0.01) as progress:
        progress.update(500)
        progress.update(500)
        assert told.there.wait(10)
    pattern = r"encoding: 1,000 of 2,000 images \(50%\), [\d,]+ images/s, \d+:\d\d left"
    assert re.fullmatch(pattern, told.lines[-1]), told.lines


def test_work_of_unknown_size_and_work_that_has_not_begun_tell_how_long_they_take():
    for total, name in ((None, "reading"), (7, "reading 7 images")):
        told = Lines(1)
        with Progress("reading", total, tell=told.take, first=0.01, every=0.01):
            assert told.there.wait(10)
        assert told.lines[0] == f"{name} ... (0:00 so far)"


def test_short_work_other_processes_and_finished_work_say_nothing():
    told = Lines(1)
    with Progress("short", 3, tell=told.take, first=60):
        pass
    with Progress("other process", 3, tell=told.take, first=0.001, every=0.001, quiet=True):
        assert not told.there.wait(0.05)
    with Progress("finished", 3, tell=told.take, first=0.05):
        pass
    assert not told.there.wait(0.1)
