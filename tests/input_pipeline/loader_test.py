"""Batches are a pure function of (seed, step), whatever the processes and restarts."""

import threading
import time
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from input_pipeline.errors import DataError
from input_pipeline.images.transforms import WORDS
from input_pipeline.images.unreadable import Unreadable
from input_pipeline.loader import (
    make_eval_batches,
    make_train_iterator,
)
from input_pipeline.order import TrainingOrder, steps_per_epoch
from input_pipeline.sources import ArraySource

N = 23
IMAGES = np.random.default_rng(0).integers(1, 256, (40, 4, 4, 3), dtype=np.uint8)
SOURCE = ArraySource(IMAGES)
LABELS = np.eye(5, dtype=np.uint8)[np.arange(40) % 5]
ROWS = np.random.default_rng(1).permutation(40)[:N]


def take(count: int, **arguments) -> list[dict[str, np.ndarray]]:
    settings: dict[str, Any] = {"order": TrainingOrder(N, 8, 0)} | arguments
    iterator = make_train_iterator(SOURCE, LABELS, ROWS, **settings)
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def assert_same(first: list[dict[str, np.ndarray]], second: list[dict[str, np.ndarray]]):
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        assert one.keys() == two.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], two[key], strict=True)


def joined(parts: list[list[dict[str, np.ndarray]]]) -> list[dict[str, np.ndarray]]:
    """Puts the slices of several processes together, step by step."""
    return [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]


@hypothesis.given(
    n=st.integers(1, 100),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 1_000),
)
def test_every_image_comes_exactly_once_an_epoch(n, batch_size, seed, epoch):
    order = TrainingOrder(n, batch_size, seed)
    steps = order.steps_per_epoch
    batches = [order.of_step(epoch * steps + i) for i in range(steps)]
    assert all(batch.shape == (batch_size,) for batch in batches)
    together = np.concatenate(batches)
    assert sorted(together[:n]) == list(range(n))
    assert (together[n:] == n).all(), "padding comes last in the epoch"
    assert len(together) - n < batch_size


def test_batches_are_pinned():
    assert TrainingOrder(10, 4, 0).of_step(0).tolist() == [6, 7, 9, 5]
    assert TrainingOrder(10, 4, 0).of_step(5).tolist() == [1, 9, 10, 10]


def test_a_batch_holds_the_images_and_labels_of_its_rows():
    for batch in take(7):
        assert batch["image"].dtype == batch["label"].dtype == np.uint8
        assert batch["index"].dtype == np.int32
        assert batch["mask"].dtype == bool
        real = batch["mask"]
        rows = ROWS[batch["index"][real]]
        np.testing.assert_array_equal(batch["image"][real], IMAGES[rows])
        np.testing.assert_array_equal(batch["label"][real], LABELS[rows])


def test_only_the_last_batch_of_an_epoch_is_padded_and_padding_is_zero():
    batches = take(6)
    assert [int(batch["mask"].sum()) for batch in batches] == [8, 8, 7, 8, 8, 7]
    padding = ~batches[2]["mask"]
    assert (batches[2]["index"][padding] == N).all()
    assert not batches[2]["image"][padding].any()
    assert not batches[2]["label"][padding].any()


@pytest.mark.parametrize("process_count", [2, 4, 8])
def test_any_number_of_processes_reads_the_same_global_batches(process_count):
    parts = [
        take(7, process_index=index, process_count=process_count) for index in range(process_count)
    ]
    assert_same(joined(parts), take(7))


@pytest.mark.parametrize("start_step", [1, 2, 3, 5])
def test_starting_at_a_step_continues_as_if_never_stopped(start_step):
    assert_same(take(4, start_step=start_step), take(4 + start_step)[start_step:])


def test_a_late_start_reads_no_earlier_batch():
    # Reading the steps before this one would take years.
    (batch,) = take(1, start_step=10**15)
    np.testing.assert_array_equal(batch["index"], TrainingOrder(N, 8, 0).of_step(10**15))


@pytest.mark.parametrize("prefetch_batches", [0, 1, 5])
def test_prefetching_does_not_change_the_batches(prefetch_batches):
    assert_same(take(7, prefetch_batches=prefetch_batches), take(7))


def test_seeds_and_epochs_have_orders_of_their_own():
    def epoch(first_step: int, seed: int) -> tuple[int, ...]:
        batches = [TrainingOrder(N, 8, seed).of_step(first_step + i) for i in range(3)]
        return tuple(int(i) for i in np.concatenate(batches))

    orders = {epoch(0, 0), epoch(3, 0), epoch(6, 0), epoch(0, 1), epoch(3, 1)}
    assert len(orders) == 5


def test_writing_into_a_batch_changes_no_later_one():
    iterator = make_train_iterator(SOURCE, LABELS, ROWS[:8], order=TrainingOrder(8, 8, 0))
    before = IMAGES.copy()
    for value in next(iterator).values():
        value[...] = 1
    np.testing.assert_array_equal(IMAGES, before)
    assert sorted(next(iterator)["index"]) == list(range(8))
    iterator.close()


def test_closing_or_dropping_an_iterator_ends_its_thread():
    def prefetching() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("grain-prefetch")]

    before = len(prefetching())
    take(2)
    iterator = make_train_iterator(SOURCE, LABELS, ROWS, order=TrainingOrder(N, 8, 0))
    next(iterator)
    del iterator
    deadline = time.monotonic() + 10
    while len(prefetching()) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(prefetching()) <= before


@hypothesis.given(
    n=st.integers(0, 40), per_process=st.integers(1, 7), process_count=st.integers(1, 4)
)
def test_evaluation_visits_every_row_once_in_order_on_any_processes(n, per_process, process_count):
    rows = np.arange(40)[::-1][:n]
    parts = [
        list(
            make_eval_batches(
                SOURCE,
                LABELS,
                rows,
                batch_size=per_process * process_count,
                process_index=index,
                process_count=process_count,
            )
        )
        for index in range(process_count)
    ]
    batches = joined(parts)
    assert len(batches) == steps_per_epoch(n, per_process * process_count)
    index = np.concatenate([np.zeros(0, np.int32), *(b["index"][b["mask"]] for b in batches)])
    assert index.tolist() == list(range(n))
    for batch in batches:
        np.testing.assert_array_equal(
            batch["image"][batch["mask"]], IMAGES[rows[batch["index"][batch["mask"]]]]
        )
        assert not batch["image"][~batch["mask"]].any()
        assert (batch["index"][~batch["mask"]] == n).all()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"order": TrainingOrder(N, 9, 0), "process_count": 2}, "choose a positive multiple of 2"),
        ({"order": TrainingOrder(N, 0, 0)}, "batch_size 0"),
        ({"order": TrainingOrder(9, 8, 0)}, "the order is of 9 images, and there are 23 rows"),
        ({"process_index": 1}, "process_index must be in 0..0"),
        ({"start_step": -1}, "start_step must be 0 or more"),
    ],
)
def test_wrong_arguments_are_explained(arguments, why):
    with pytest.raises(ValueError, match=why):
        take(1, **arguments)


@pytest.mark.parametrize(
    ("labels", "rows", "why"),
    [
        (LABELS, np.array([0, 40]), r"rows must be in 0\.\.39.*got 0\.\.40"),
        (LABELS, np.array([-1]), "got -1"),
        (LABELS, np.zeros(0, np.int64), "no rows to train on"),
        (LABELS[:39], ROWS, "40 images but 39 label rows"),
    ],
)
def test_rows_and_labels_that_do_not_fit_the_images_are_refused(labels, rows, why):
    with pytest.raises(ValueError, match=why):
        make_train_iterator(SOURCE, labels, rows, order=TrainingOrder(len(rows), 8, 0))


class Numbered:
    """A source whose images show their row and their first random word, some unreadable."""

    words_per_image = WORDS
    batches_at_once = 2

    def __init__(self, count: int, broken: tuple[int, ...] = ()):
        self.count = count
        self.broken = broken

    def __len__(self) -> int:
        return self.count

    def images(self, rows, words):
        drawn = np.zeros(len(rows), np.uint64) if words is None else words[:, 0]
        images = np.stack([rows % 251, drawn % np.uint64(251)], axis=-1).astype(np.uint8)
        return images.reshape(-1, 1, 2, 1), {
            i: "broken" for i, row in enumerate(rows) if row in self.broken
        }

    def close(self):
        pass


def numbered(count: int, broken: tuple[int, ...] = (), seed: int = 3, **arguments):
    settings: dict[str, Any] = {
        "order": TrainingOrder(count, 8, seed),
        "unreadable": Unreadable(skip=True),
    } | arguments
    labels = np.eye(count, dtype=np.uint8)
    iterator = make_train_iterator(Numbered(40, broken), labels, np.arange(count), **settings)
    batches = [next(iterator) for _ in range(10)]
    iterator.close()
    return batches


@pytest.mark.parametrize("process_count", [1, 2, 4])
@pytest.mark.parametrize("start_step", [0, 3])
def test_random_numbers_depend_on_the_seed_and_the_place_in_the_batch(process_count, start_step):
    parts = [
        numbered(40, start_step=start_step, process_index=i, process_count=process_count)
        for i in range(process_count)
    ]
    whole = numbered(40)
    assert_same(joined(parts)[: 10 - start_step], whole[start_step:])
    drawn = np.concatenate([batch["image"][:, 0, 1, 0] for batch in whole])
    assert len(np.unique(drawn)) > 50, "every image has numbers of its own"
    other = numbered(40, seed=4)
    assert (other[0]["image"] != whole[0]["image"]).any()


@pytest.mark.parametrize("process_count", [1, 4])
def test_unreadable_training_images_are_replaced_the_same_way_everywhere(process_count):
    broken = (5, 6, 7, 30)
    report = Unreadable(names=[f"{i}.jpg" for i in range(40)], skip=True)
    parts = [
        numbered(40, broken, process_index=i, process_count=process_count, unreadable=report)
        for i in range(process_count)
    ]
    batches = joined(parts)
    assert_same(batches, numbered(40, broken))
    assert report.reasons == dict.fromkeys(broken, "broken")
    for batch in batches:
        shown = batch["image"][:, 0, 0, 0]
        assert not np.isin(shown, broken).any()
        assert batch["mask"].all(), "a replacement is trained on"
        np.testing.assert_array_equal(batch["label"].argmax(1), shown)
        replaced = batch["index"] == 40
        np.testing.assert_array_equal(batch["index"][~replaced], shown[~replaced])
    assert sum(int((batch["index"] == 40).sum()) for batch in batches[:5]) == len(broken)


def test_only_unreadable_images_end_in_an_error():
    with pytest.raises(DataError, match="training images in a row"):
        numbered(40, tuple(range(40)))


def test_an_unreadable_image_is_an_error_that_names_it_unless_skipped():
    names = [f"{i}.jpg" for i in range(40)]
    with pytest.raises(DataError, match=r"17\.jpg: broken.*on_unreadable=skip.*replaced"):
        numbered(40, (17,), unreadable=Unreadable(names))
    batches = make_eval_batches(
        Numbered(40, (17,)),
        np.eye(40, dtype=np.uint8),
        np.arange(40),
        batch_size=8,
        unreadable=Unreadable(names),
    )
    with pytest.raises(DataError, match=r"17\.jpg: broken.*left out"):
        list(batches)


def test_evaluation_masks_what_cannot_be_read_and_keeps_its_place():
    report = Unreadable(skip=True)
    batches = make_eval_batches(
        Numbered(40, (17, 20)),
        np.eye(40, dtype=np.uint8),
        np.arange(40)[::-1],
        batch_size=16,
        unreadable=report,
    )
    index, mask = (
        np.concatenate(parts)
        for parts in zip(*((b["index"], b["mask"]) for b in batches), strict=True)
    )
    assert index[:40].tolist() == list(range(40))
    assert (~mask[:40]).nonzero()[0].tolist() == [39 - 20, 39 - 17]
    assert report.reasons == {17: "broken", 20: "broken"}


@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_may_draw_images_and_see_them_several_times(epoch):
    order = TrainingOrder(50, 4, 0, images=10, passes=3)
    assert order.steps_per_epoch == 9
    drawn = order.of_epoch(epoch)
    assert len(set(drawn.tolist())) == 10
    steps = [order.of_step(9 * epoch + i) for i in range(9)]
    for first in (0, 3, 6):
        together = np.concatenate(steps[first : first + 3])
        assert together.tolist() == [*drawn.tolist(), 50, 50]
    assert [order.images_in(9 * epoch + i) for i in range(9)] == [4, 4, 2] * 3
    assert set(drawn.tolist()) != set(order.of_epoch(epoch + 1).tolist())
    assert TrainingOrder(7, 4, 0, images=10).images_per_pass == 7
