"""Reading what the TPU compiler writes, on a few lines of it."""

import pytest

from benchmarks.compiled_text import collectives, parts_of, summary

# A gather beside other work is written three times; a sum of parts is a computation of its own; the
# body of a loop is there once.
TEXT = """\
HloModule jit_train_step

%start (p.1: f32[64,64]) -> (f32[64,64], f32[256,64]) {
  %all-gather.10 = f32[256,64]{1,0:T(8,128)} all-gather(%p.1), channel_id=2, dimensions={0}
}

%async_collective_fusion.3 (p.5: f32[64,64]) -> (f32[64,64], f32[256,64]) {
  %all-gather.11 = f32[256,64]{1,0:T(8,128)} all-gather(%p.5), channel_id=2, dimensions={0}
}

%done (p.2: f32[64,64]) -> f32[256,64] {
  %all-gather.12 = f32[256,64]{1,0:T(8,128)S(1)} all-gather(%p.2), channel_id=2, dimensions={0}
  %custom-call.2 = f32[256,64] custom-call(%all-gather.12), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.1 (input: f32[256,64]) -> f32[64,64] {
  %all-reduce.85 = f32[256,64]{1,0:T(8,128)} all-reduce(%input), channel_id=1, to_apply=%add
}

%body (p.3: (s32[], bf16[8])) -> (s32[], bf16[8]) {
  %all-reduce.86 = (bf16[512,8]{1,0:T(8,128)(2,1)S(1)}, bf16[8]{0:T(256)}) all-reduce(%a, %b), channel_id=3, to_apply=%add
  %fusion.7 = bf16[64,196]{1,0} fusion(%p.3), calls=%fused, metadata={op_name="jit(step)/dot"}, backend_config={"estimated_cycles":"100"}
}

ENTRY %main (x: f32[64,64]) -> f32[] {
  %gather = (f32[64,64], f32[256,64]) fusion(%x), kind=kCustom, calls=%start
  %part = f32[64,64] fusion(%gather), kind=kCustom, calls=%all-reduce-scatter.1
  %while.1 = (s32[], bf16[8]) while(%t), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"15"}}
  %all-reduce.9 = (f32[]{:T(128)}, f32[]{:T(128)}) all-reduce(%s, %t), channel_id=1, to_apply=%add
  %permute = (bf16[16,8]{1,0}, bf16[16,8]{1,0}, u32[], u32[]) collective-permute-start(%x), channel_id=4
  %fusion.8 = f32[64,64]{1,0} fusion(%x), calls=%fused.2, metadata={op_name="jit(step)/tanh"}, backend_config={"estimated_cycles":"900"}
}
"""

TRIPS = ', backend_config={"known_trip_count":{"n":"15"}}'
CONDITION = """\
%c (p.4: (s32[], bf16[8])) -> pred[] {
  %constant.12 = s32[]{:T(128)} constant(15)
  %index = s32[]{:T(128)} get-tuple-element(%p.4), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%index, %constant.12), direction=LT
}

ENTRY"""


def test_every_message_counts_once_and_those_of_a_loop_as_often_as_it_runs():
    found = {(x.kind, x.size, x.arrays, x.types, x.times) for x in collectives(TEXT)}
    assert found == {
        ("all-gather", 256 * 64 * 4, 1, ("f32",), 1),
        ("reduce-scatter", 256 * 64 * 4, 1, ("f32",), 1),
        ("all-reduce", (512 * 8 + 8) * 2, 2, ("bf16",), 15),
        ("all-reduce", 8, 2, ("f32",), 1),
        ("collective-permute", 16 * 8 * 2, 1, ("bf16",), 1),
    }


def test_the_summary_adds_up_what_a_step_sends():
    rows = {(row["kind"], *row["types"]): row for row in summary(collectives(TEXT))}
    sums = rows["all-reduce", "bf16"]
    assert (sums["messages"], sums["arrays"]) == (15, 30)
    assert sums["bytes"] == 15 * (512 * 8 + 8) * 2


def test_the_slowest_parts_are_those_that_a_loop_repeats():
    first, second = parts_of(TEXT)
    assert (first.name, first.cycles, first.times, first.origin) == (
        "fusion.7", 100, 15, "jit(step)/dot",
    )  # fmt: skip
    assert (second.name, second.shape) == ("fusion.8", "f32[64,64]")


def test_a_loop_that_tells_its_count_in_its_condition_counts_as_often():
    told = TEXT.replace(TRIPS, "").replace("ENTRY", CONDITION)
    assert collectives(told) == collectives(TEXT)
    assert parts_of(told) == parts_of(TEXT)


@pytest.mark.parametrize("unknown", ["direction=NE", "constant(15), constant(16)"])
def test_a_loop_whose_count_is_not_told_counts_once(unknown: str):
    known = "direction=LT" if unknown.startswith("direction") else "constant(15)"
    told = TEXT.replace(TRIPS, "").replace("ENTRY", CONDITION.replace(known, unknown))
    assert {x.times for x in collectives(told)} == {1}
