"""Which evaluation, and so which checkpoint, counts."""

from hybridhash_jax.workdir.selection import selected_step


def test_the_selected_step_is_the_first_of_the_best():
    history = [
        {"step": 1, "map_expected": 0.5, "validation_map_expected": 0.1},
        {"step": 2, "map_expected": 0.7, "validation_map_expected": 0.3},
        {"step": 3, "map_expected": 0.7, "validation_map_expected": 0.4},
    ]
    found = [selected_step(history, by) for by in ("query", "validation", "last")]
    assert found == [2, 3, 3]
    assert selected_step([], "query") is None


def test_the_untrained_network_is_a_baseline_and_no_candidate():
    untrained, trained = ({"step": step, "map_expected": 0.9 - step} for step in (0, 5))
    for by in ("query", "last"):
        assert selected_step([untrained, trained], by) == 5
    assert selected_step([untrained], "query") == 0  # there is nothing else


def test_a_classifier_s_selected_step_is_that_of_the_best_top_1():
    history = [{"step": 1, "top1": 0.5}, {"step": 2, "top1": 0.7}, {"step": 3, "top1": 0.6}]
    found = [selected_step(history, by, "classify") for by in ("validation", "last")]
    assert found == [2, 3]
