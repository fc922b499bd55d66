"""What a report says about codes, against counts made by hand or one item at a time."""

import dataclasses
import json

import numpy as np
import pytest

from hybridhash_jax import codes, metrics
from hybridhash_jax.codes.files import CodeSet
from hybridhash_jax.report.findings import describe_retrieval, shown_images


def code_set(count, seed, labels, **more):
    signs = np.where(np.random.RandomState(seed).rand(count, 12) < 0.5, -1, 1)
    return CodeSet(codes.pack(signs), 12, labels, **more)


def single(count, seed, **more):
    labels = np.eye(5, dtype=np.uint8)[np.random.RandomState(seed + 9).randint(0, 4, count)]
    return code_set(count, seed, labels, **more)


def several(count, seed, **more):
    labels = (np.random.RandomState(seed).rand(count, 5) < 0.4).astype(np.uint8)
    return code_set(count, seed, labels, **more)


NAMED = {"class_names": ("sea", "sky", "sun", "sand", "snow")}


@pytest.fixture(params=[single, several])
def sides(request):
    return request.param(30, 0, **NAMED), request.param(200, 1, rows=np.arange(100, 300), **NAMED)


def test_findings_are_plain_json(sides):
    findings = describe_retrieval(*sides, top_k=50)
    assert json.loads(json.dumps(findings)) == findings


def test_map_is_that_of_metrics_under_every_tie_rule(sides):
    query, database = sides
    findings = describe_retrieval(query, database, top_k=50)
    for ties, value in findings["map"].items():
        assert value == metrics.mean_average_precision(
            query.codes, query.labels, database.codes, database.labels, 50, ties
        )
    assert set(findings["map"]) == set(metrics.TIE_RULES)


def test_chance_is_the_mean_over_shuffled_databases(sides):
    query, database = sides
    found = describe_retrieval(query, database, top_k=50)["chance"]
    generator, values = np.random.default_rng(0), []
    relevant = (query.labels.astype(int) @ database.labels.T > 0).astype(float)
    for _ in range(300):
        first = relevant[:, generator.permutation(200)[:50]]
        precision = np.cumsum(first, axis=1) / np.arange(1, 51)
        values.append(np.mean((precision * first).sum(1) / np.maximum(first.sum(1), 1)))
    assert found == pytest.approx(np.mean(values), abs=5 * np.std(values) / np.sqrt(300))


def test_per_class_means_are_over_the_queries_with_that_label_worst_first(sides):
    query, database = sides
    precisions = metrics.average_precisions(
        query.codes, query.labels, database.codes, database.labels, None
    )
    per_class = describe_retrieval(query, database, None)["per_class"]
    assert sorted(entry["name"] for entry in per_class) == sorted(NAMED["class_names"])
    for entry in per_class:
        number = NAMED["class_names"].index(entry["name"])
        own = query.labels[:, number] == 1
        assert entry["queries"] == own.sum()
        assert entry["database"] == database.labels[:, number].sum()
        expected = precisions[own].mean() if own.any() else None
        assert entry["map_expected"] == (pytest.approx(expected) if own.any() else None)
    values = [entry["map_expected"] for entry in per_class]
    known = [value for value in values if value is not None]
    assert known == sorted(known)
    assert values[: len(known)] == known


def test_one_label_an_image_has_no_graded_metrics_and_several_have():
    one = describe_retrieval(single(9, 0), single(50, 1), None)
    many = describe_retrieval(several(9, 0), several(50, 1), None)
    assert (one["labels_per_image"], one["graded"]) == ("one", None)
    assert many["labels_per_image"] == "several"
    assert 0 < many["graded"]["ndcg"] <= 1


def test_neighbours_are_the_nearest_in_the_order_of_distance_and_row(sides):
    query, database = sides
    findings = describe_retrieval(query, database, None)
    assert len(findings["samples"]) == 10
    distances = codes.hamming_distance(query.codes, database.codes).astype(int)
    for sample in findings["samples"]:
        index = int(sample["query"]["name"].removeprefix("number "))
        order = sorted(range(200), key=lambda item: (distances[index, item], item))[:10]
        assert [n["image"] for n in sample["neighbours"]] == [100 + item for item in order]
        assert [n["distance"] for n in sample["neighbours"]] == distances[index, order].tolist()
        shared = (query.labels[index] & database.labels[order]).any(axis=1)
        assert [n["relevant"] for n in sample["neighbours"]] == shared.tolist()


def test_samples_cover_the_classes_and_do_not_look_at_results():
    labels = np.repeat(np.eye(10, dtype=np.uint8), 3, axis=0)[
        np.random.RandomState(0).permutation(30)
    ]
    database = code_set(40, 1, np.tile(np.eye(10, dtype=np.uint8), (4, 1)))
    chosen = [
        describe_retrieval(code_set(30, seed, labels), database, None)["samples"] for seed in (2, 3)
    ]
    names = [[sample["query"]["name"] for sample in samples] for samples in chosen]
    assert names[0] == names[1]
    assert sorted(sample["query"]["labels"][0] for sample in chosen[0]) == list("0123456789")


def test_the_worst_queries_have_something_to_find(sides):
    query, database = sides
    lonely = query.labels.copy()
    lonely[3] = 0
    findings = describe_retrieval(dataclasses.replace(query, labels=lonely), database, None)
    worst = findings["worst_queries"]
    values = [entry["average_precision"] for entry in worst]
    assert values == sorted(values)
    assert len(worst) == 20
    assert all(entry["relevant"] > 0 for entry in worst)
    assert "number 3" not in {entry["name"] for entry in worst}
    assert findings["queries_without_relevant"] == 1 + (query.labels.sum(1) == 0).sum()


def test_class_ids_say_the_same_as_one_hot_labels():
    query, database = single(30, 0), single(200, 1)

    def with_ids(codes_of):
        return dataclasses.replace(codes_of, labels=codes_of.labels.argmax(axis=1))

    one_hot = describe_retrieval(query, database, 50)
    ids = describe_retrieval(with_ids(query), with_ids(database), 50)
    one_hot["per_class"] = [entry for entry in one_hot["per_class"] if entry["database"]]
    assert one_hot.pop("classes") == 5  # the columns; of the ids only four occur
    assert ids.pop("classes") == 4
    assert ids == one_hot


def test_fewer_items_than_places_are_no_problem():
    findings = describe_retrieval(single(2, 0), single(3, 1), top_k=1000)
    assert [len(sample["neighbours"]) for sample in findings["samples"]] == [3, 3]
    assert findings["curves"]["by_rank"]["at"] == [1, 2, 3]


def test_collapsed_codes_show_in_the_health():
    query, database = single(30, 0), single(200, 1)
    stuck = dataclasses.replace(database, packed=np.zeros_like(database.packed))
    health = describe_retrieval(query, stuck, None)["code_health"]
    assert (health["constant_bits"], health["distinct_codes"]) == (12, 1)
    assert health["bit_balance"] == [-1.0] * 12
    assert health["largest_share"] == 1.0


def test_columns_of_labels_without_a_database_image_are_no_collapse():
    query, database = single(30, 0), single(200, 1)
    wide = [
        dataclasses.replace(side, labels=np.pad(side.labels, ((0, 0), (0, 995))))
        for side in (query, database)
    ]
    findings = describe_retrieval(wide[0], wide[1], None)
    assert findings["classes"] == 1000
    assert findings["collapse"] == []


def test_shown_images_are_each_row_once(sides):
    query, database = sides
    assert all(100 <= row < 300 for row in shown_images(describe_retrieval(query, database, None)))
    with_rows = dataclasses.replace(query, rows=np.arange(30))
    shown = shown_images(describe_retrieval(with_rows, database, None))
    assert shown == sorted(set(shown))
    assert any(row < 30 for row in shown)


def test_queries_without_a_label_are_counted_apart_from_those_without_a_match(sides):
    query, database = sides
    labels = np.zeros_like(query.labels)
    labels[:3, 4] = 1  # a class that the single-label database lacks
    labels[3:10, 0] = 1
    found = describe_retrieval(dataclasses.replace(query, labels=labels), database, None)
    assert found["queries_without_label"] == 20
    assert found["queries_without_relevant"] >= 20
    assert not found["decided_by_labels"]


@pytest.mark.parametrize("ids", [False, True])
def test_a_single_class_is_found_out(ids):
    def one_class(count, seed, number):
        labels = (
            np.full(count, number) if ids else np.eye(5, dtype=np.uint8)[np.full(count, number)]
        )
        return code_set(count, seed, labels, **NAMED)

    found = describe_retrieval(one_class(9, 0, 2), one_class(30, 1, 2), None)
    assert (found["decided_by_labels"], found["common_labels"]) == (True, ["sun"])
    assert found["map"]["expected"] == 1.0
    other = one_class(30, 1, 2)
    other.labels[:9] = other.labels[0] * 0 + (4 if ids else np.eye(5, dtype=np.uint8)[4])
    found = describe_retrieval(one_class(9, 0, 2), other, None)
    assert (found["decided_by_labels"], found["common_labels"]) == (False, ["sun"])
    assert describe_retrieval(other, one_class(9, 0, 2), None)["decided_by_labels"]
    assert describe_retrieval(other, one_class(9, 0, 2), None)["common_labels"] is None


def test_worst_queries_of_equal_precision_are_counted():
    labels = np.zeros(50, int)
    labels[:4] = 1
    query = CodeSet(codes.pack(np.ones((50, 12))), 12, labels)
    database = CodeSet(codes.pack(np.ones((8, 12))), 12, np.array([0, 1, 1, 1, 1, 1, 1, 1]))
    found = describe_retrieval(query, database, None)
    assert len(found["worst_queries"]) == 20
    assert found["worst_queries_tied"] == 46 - 20
    assert describe_retrieval(database, query, None)["worst_queries_tied"] == 0
