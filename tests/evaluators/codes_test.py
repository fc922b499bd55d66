"""The numbers of an evaluation, and saying that codes have collapsed."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from hybridhash_jax import codes, metrics
from hybridhash_jax.codes.files import CodeSet
from hybridhash_jax.evaluators.codes import collapse_warning, evaluate_codes
from hybridhash_jax.evaluators.collapse import advice_for, warning_at_start
from hybridhash_jax.workdir.fingerprints import model_fingerprint


def codes_and_labels(count, seed):
    random = np.random.RandomState(seed)
    labels = np.eye(4, dtype=np.uint8)[random.randint(0, 4, count)]
    return np.where(random.rand(count, 8) < 0.5, -1, 1).astype(np.int8), labels


def code_set(signs, labels):
    return CodeSet(codes.pack(signs), signs.shape[1], labels)


def test_the_record_holds_both_tie_rules_at_the_cut_off():
    query, database = codes_and_labels(10, 0), codes_and_labels(200, 1)
    record = evaluate_codes(code_set(*query), code_set(*database), 50)
    for ties in ("expected", "stable"):
        value = metrics.mean_average_precision(*query, *database, top_k=50, ties=ties)
        assert record[f"map_{ties}"] == value
    assert record["constant_bits"] == 0
    assert 0 <= record["bit_balance"] < 0.2


def record_of(signs):
    labels = np.eye(4, dtype=np.uint8)[np.arange(len(signs)) % 4]
    record = evaluate_codes(code_set(signs[:5], labels[:5]), code_set(signs, labels), None)
    return record | {"epoch": 3.0}


def test_a_collapse_is_said_in_plain_words_with_what_to_try():
    collapsed = np.ones((100, 8), np.int8)
    collapsed[:3, 0] = -1
    message = collapse_warning(record_of(collapsed), bits=8, advice=["--config.a=1", "b"])
    assert message is not None
    for part in ("97% of the database", "7 of 8 bits never change", "only 2 distinct codes for 4 classes",
                 "epoch 3", "Try --config.a=1 or b."):  # fmt: skip
        assert part in message


def test_fewer_codes_than_classes_ask_for_more_bits():
    signs = np.where(np.arange(100) % 2, 1, -1).astype(np.int8)[:, None]
    message = collapse_warning(record_of(signs), bits=1, advice=["a lower rate"])
    assert message == (
        "codes of 1 bit are too short: there are 2 of them for 4 classes. Give more --config.bits."
    )


def test_codes_that_are_too_short_may_have_collapsed_as_well():
    message = collapse_warning(
        record_of(np.ones((100, 1), np.int8)), bits=1, advice=["--config.a=1"]
    )
    assert message is not None
    for part in ("too short", "100% of the database", "Try --config.a=1."):
        assert part in message


@pytest.mark.parametrize("method", ["lsh", "pca", "itq"])
def test_what_is_fitted_is_not_advised_to_train_otherwise(method):
    config = digits.get_config()
    config.method.name = method
    advice = advice_for(config)
    assert advice and not any("optimizer" in one or "model" in one for one in advice)


@pytest.mark.parametrize(
    ("fields", "advised"),
    [
        ({"loss.batch_weight": 0.0}, "--config.loss.batch_weight=1"),
        ({}, None),
        ({"loss.batch_weight": 0.0, "init.weights": "file.pth"}, None),
        ({"loss.batch_weight": 0.0, "loss.pairs": "batch"}, None),
        ({"loss.batch_weight": 0.0, "method.name": "csq"}, None),
        ({"method.name": "dsh", "dsh.batch_weight": 0.0}, None),
        (
            {"method.name": "dsh", "dsh.batch_weight": 0.0, "dsh.variant": "deephash"},
            "--config.dsh.batch_weight=1",
        ),
    ],
)
def test_the_bank_alone_is_warned_of_at_the_start_from_random_parameters(fields, advised):
    config = digits.get_config()
    config.update_from_flattened_dict({"loss.pairs": "bank"} | fields)
    warning = warning_at_start(config)
    assert (warning is not None and "batch_weight=0" in warning) == (advised is not None)
    assert (advised in advice_for(config)) == (advised is not None)


def test_stuck_bits_alone_are_noticed_and_healthy_codes_are_not():
    signs, _ = codes_and_labels(100, 2)
    assert collapse_warning(record_of(signs), bits=8, advice=["--config.a=1", "b"]) is None
    signs[:, :2] = 1
    message = collapse_warning(record_of(signs), bits=8, advice=["--config.a=1", "b"])
    assert message is not None
    assert "2 of 8 bits never change" in message


def test_one_code_a_class_is_no_collapse():
    signs = np.where(np.arange(8) < 2 * np.arange(1, 5)[:, None], 1, -1).astype(np.int8)
    signs[:, 0] = [1, -1, 1, -1]
    signs[:, 1] = [-1, 1, 1, -1]
    perfect = signs[np.arange(100) % 4]
    assert collapse_warning(record_of(perfect), bits=8, advice=["--config.a=1", "b"]) is None


def test_classes_without_a_database_image_ask_for_no_codes():
    signs = np.where(np.arange(8) < 2 * np.arange(1, 5)[:, None], 1, -1).astype(np.int8)
    signs[:, 0], signs[:, 1] = [1, -1, 1, -1], [-1, 1, 1, -1]
    signs, ids = signs[np.arange(100) % 4], 300 * (np.arange(100) % 4)  # ids up to 900
    columns = np.eye(1000, dtype=np.uint8)
    record = evaluate_codes(
        code_set(signs[:5], columns[ids[:5] + 1]), code_set(signs, columns[ids]), None
    )
    assert record["database_classes"] == code_set(signs, ids).num_classes == 4
    assert collapse_warning(record | {"epoch": 3.0}, bits=8, advice=["--config.a=1"]) is None


def test_the_fingerprint_changes_with_one_bit_of_one_parameter():
    params = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(4)}
    found = model_fingerprint(params)
    assert len(found) == 8 and int(found, 16) >= 0
    assert model_fingerprint({"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(4)}) == found
    changed = params["b"].at[2].set(jnp.nextafter(jnp.float32(1), jnp.float32(2)))
    assert model_fingerprint(params | {"b": changed}) != found
