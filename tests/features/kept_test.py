"""Which features are kept, by what is frozen."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from configs import cifar10_features
from hybridhash_jax.configured import build_network, create_method
from hybridhash_jax.features.kept import Plan, plan_features
from hybridhash_jax.optimizer import frozen_mask
from hybridhash_jax.parameters import constants
from input_pipeline.dataset import Dataset
from input_pipeline.splits import Splits

ALL = "^(stem|blocks|conv_head)/"


def plan_for(frozen: tuple[str, ...], **overrides: Any) -> Plan | None:
    config = cifar10_features.get_config()
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    config.update_from_flattened_dict({"model.image_size": 64} | given)
    method = create_method(config)
    network = nnx.eval_shape(functools.partial(build_network, config, method, 16, 10))
    params = nnx.split(network)[1]
    rows = np.arange(30)
    data: Any = {"images": np.zeros((30, 32, 32, 3), np.uint8), "splits": Splits(rows, rows, rows)}
    fields = ("name", "protocol", "class_names", "labels", "top_k", "provenance", "official")
    dataset = Dataset(**dict.fromkeys((*fields, "checksum")), **data)
    mask = frozen_mask(params, (*frozen, *constants(params)))
    return plan_features(config, method, network, mask, dataset)


@pytest.mark.parametrize(
    ("frozen", "stage", "shape"),
    [
        ((ALL,), "features", (1280,)),
        (("^stem/", "^blocks/([0-9]|10)/"), "block10", (4, 4, 112)),
        (("^stem/", "^blocks/1/"), "stem", (32, 32, 32)),  # block 0 is trained
    ],
)
def test_the_last_stage_that_is_frozen_with_all_before_it_is_kept(frozen, stage, shape):
    plan = plan_for(frozen)
    assert plan is not None
    assert (plan.stage, plan.shape, plan.views) == (stage, shape, 1)


@pytest.mark.parametrize(
    ("frozen", "overrides"),
    [
        ((), {}),
        (("^blocks/",), {}),  # the stem is trained
        ((ALL,), {"features__keep": "never"}),
        ((ALL,), {"task": "classify", "data__horizontal_flip": False}),
    ],
)
def test_nothing_is_kept_where_features_change(frozen, overrides):
    assert plan_for(frozen, **overrides) is None


def test_a_fitted_method_keeps_features_whatever_is_frozen():
    plan = plan_for((), method__name="itq", data__horizontal_flip=True)
    assert plan is not None
    assert (plan.stage, plan.views) == ("features", 1)


def test_what_kept_features_stand_for():
    plan = plan_for(("^stem/", "^blocks/0/"))
    assert plan is not None
    tree = {"stem": {"kernel": 0}, "blocks": {"0": {"kernel": 0}, "1": {"kernel": 0}}}
    assert jax.tree.leaves(plan.is_done(tree)) == [True, False, True]
