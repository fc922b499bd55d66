"""A run's layout: what is split how, what devices send each other, and that it changes no result."""

import collections
import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from hybridhash_jax import models
from hybridhash_jax.description import describe
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import bytes_on_device, make_layout, parameter_spec
from hybridhash_jax.encode import compile_encode
from hybridhash_jax.experiment import create_experiment
from hybridhash_jax.image_sources import create_dataset
from hybridhash_jax.methods import bank_pairs, memory_bank
from hybridhash_jax.methods.hybridhash import HybridHash, bank_loss
from hybridhash_jax.methods.memory_bank import create_bank, rows_for
from hybridhash_jax.optimizer import make_optimizer
from hybridhash_jax.preprocess import pixels as preprocess
from hybridhash_jax.state import TrainState, create_state, first_state
from hybridhash_jax.train_step import compile_train_step, make_train_step
from hybridhash_jax.workdir.checkpoints import CheckpointStore, flatten
from hybridhash_jax.workdir.fingerprints import fingerprint
from tests.runs.small_run import make_config

IMAGES, BITS, CLASSES, BATCH = 40, 12, 5, 16
STEPS = 7
METHOD = HybridHash(batch_weight=1.0)  # against the bank, and inside the batch


def build(remat: str = "none"):
    return models.create_network(
        image_size=16, patch_size=2, embed_dims=(64, 128), num_heads=(2, 4), depths=(1, 3),
        outputs=BITS, drop_path_rate=0.3, remat=remat, rngs=nnx.Rngs(3),
    )  # fmt: skip


def prepare(images, keys):
    flip = jax.random.bernoulli(keys[0], shape=(len(images), 1, 1, 1))
    return preprocess.normalize(jnp.where(flip, images[:, :, ::-1], images))


def empty_bank():
    return create_bank(IMAGES, BITS, CLASSES)


class Run:
    """A small network's step, compiled for a mesh of data x fsdp devices."""

    def __init__(self, data: int, fsdp: int, remat: str = "none", parts: int = 1):
        self.graphdef, params = nnx.split(nnx.eval_shape(lambda: build(remat)))
        self.optimizer = make_optimizer(params, name="sgd", learning_rate=0.05, clip_norm=1.0)
        self.mesh = sharding.make_mesh(data * fsdp, data, fsdp)
        abstract = jax.eval_shape(lambda p: first_state(p, self.optimizer, empty_bank()), params)
        self.layout = make_layout(abstract, METHOD.row_leaves(abstract.method), self.mesh)
        step = make_train_step(
            self.graphdef,
            self.optimizer,
            METHOD,
            prepare,
            layout=self.layout,
            accumulation_steps=parts,
        )
        self.key = sharding.replicate(jax.random.key(1), self.mesh)
        jitted: Any = compile_train_step(step, self.mesh, self.layout)
        self.compiled = jitted.lower(self.layout.state, self.batch(0), self.key).compile()
        self.program = self.compiled.as_text()
        self.working_bytes = self.compiled.memory_analysis().temp_size_in_bytes

    def first_state(self) -> TrainState:
        copies = jax.tree.map(np.asarray, drawn_state())  # a step gives its buffers away
        return jax.device_put(copies, self.layout.shardings)

    def batch(self, step: int):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (IMAGES, 16, 16, 3)).astype(np.uint8)
        labels = np.eye(CLASSES, dtype=np.uint8)[rng.integers(0, CLASSES, IMAGES)]
        index = (np.arange(BATCH) + step * BATCH) % 48  # every third batch ends in padding
        rows = index % IMAGES
        return sharding.put_batch(
            {
                "image": images[rows],
                "label": labels[rows],
                "index": np.minimum(index, IMAGES).astype(np.int32),
                "mask": index < IMAGES,
            },
            self.mesh,
        )

    def train(self, state: TrainState, steps: range) -> tuple[TrainState, list[float]]:
        losses = []
        for step in steps:
            state, metrics = self.compiled(state, self.batch(step), self.key)
            losses.append(float(metrics["loss"]))
        return state, losses


@functools.cache
def run_of(*options: Any) -> Run:
    """See `Run`."""
    return Run(*options)


@functools.cache
def drawn_state() -> TrainState:
    run = run_of(4, 2)
    return create_state(
        lambda: first_state(nnx.split(build())[1], run.optimizer, empty_bank()),
        run.layout.shardings,
    )


@functools.cache
def undisturbed() -> list[float]:
    run = run_of(1, 1)
    return run.train(run.first_state(), range(STEPS))[1]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "options",
    [
        (8, 1),
        (4, 2),
        (1, 8, "layers"),
        (1, 8, "none", 4),
    ],
)
def test_the_losses_do_not_depend_on_the_layout(options):
    run = run_of(*options)
    _, losses = run.train(run.first_state(), range(STEPS))
    assert len(set(losses)) == STEPS  # it trains: no two steps are alike
    np.testing.assert_allclose(losses, undisturbed(), rtol=1e-5)


@pytest.mark.thorough
def test_a_checkpoint_goes_on_with_other_devices_in_another_layout(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints")
    losses, state, done = [], None, 0
    for run, until in ((run_of(1, 1), 2), (run_of(1, 8), 4), (run_of(4, 2), STEPS)):
        if done:
            state, _ = store.restore(done, run.first_state())
        state, more = run.train(state or run.first_state(), range(done, until))
        store.save(until, state, {})
        store.wait()
        losses, done = losses + more, until
    store.close()
    np.testing.assert_allclose(losses, undisturbed(), rtol=1e-5)


@pytest.mark.thorough
def test_the_fingerprint_of_a_state_does_not_depend_on_its_layout():
    found = [fingerprint(flatten(run_of(*sizes).first_state())) for sizes in ((1, 1), (4, 2))]
    assert found[0] == found[1]


SPLIT = "levels/0/layers/0/mlp/fc1/kernel/value"  # [64, 256]


def test_parameters_and_what_the_optimizer_keeps_lie_in_parts():
    state = drawn_state()  # 4 x 2
    moment = next(path for path in flatten(state) if "trace" in path and path.endswith(SPLIT))
    for path in (f"params/{SPLIT}", moment):
        array = flatten(state)[path]
        assert {shard.data.shape for shard in array.addressable_shards} == {(64, 128)}
    assert state.method is not None
    assert {x.data.shape for x in state.method.embeddings.addressable_shards} == {(5, BITS)}


@pytest.mark.parametrize(
    "sizes", [(8, 1), pytest.param((4, 2), marks=pytest.mark.thorough), (1, 8)]
)
def test_memory_on_a_device_shrinks_with_fsdp(sizes):
    layout, fsdp = run_of(*sizes).layout, sizes[1]
    for tree in (layout.state.params, layout.state.opt_state):
        leaves = jax.tree.leaves(tree)
        split = sum(x.size for x in leaves if x.sharding.spec) * 4
        whole = sum(x.size for x in leaves) * 4 - split
        assert bytes_on_device(tree) == whole + split / fsdp
        assert fsdp == 1 or split > 5 * whole


def collectives(program: str) -> list[tuple[str, tuple[int, ...]]]:
    """(operation, shape) of everything that devices send each other."""
    found = []
    kinds = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    for line in program.splitlines():
        match = re.search(rf" = (.*?) ({kinds})(?:-start)?\(", line)
        if match is None:
            continue
        for shape in re.findall(r"\w+\[([\d,]*)\]", match[1]):
            found.append((match[2], tuple(int(n) for n in shape.split(",") if n)))
    return found


def gathered(run: Run) -> list[tuple[int, ...]]:
    return [shape for kind, shape in collectives(run.program) if kind == "all-gather"]


OF_BATCH = [(BATCH, CLASSES + 1 + 4), (BATCH, BITS)]  # bytes of labels, mask, index; embeddings


def test_data_parallel_sums_each_gradient_once_and_gathers_no_parameter():
    run = run_of(8, 1)
    assert sorted(gathered(run)) == sorted(OF_BATCH)
    sums = [shape for kind, shape in collectives(run.program) if kind == "all-reduce"]
    leaves = jax.tree.leaves(run.layout.state.params)
    parameters = sum(x.size for x in leaves)
    of_embeddings, of_scalars = 2 * BATCH * BITS, 12  # of pairs with the bank, and in the batch
    total = sum(int(np.prod(shape)) for shape in sums)
    assert parameters + of_embeddings <= total <= parameters + of_embeddings + of_scalars
    assert {kind for kind, _ in collectives(run.program)} == {"all-gather", "all-reduce"}
    # All parameters in one; the loss and what it tells the embeddings; the gradients' norm.
    assert 1 <= len(re.findall(r" all-reduce(?:-start)?\(", run.program)) <= 3


def of_size(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(n for n in shape if n > 1))  # XLA may transpose


def split_parameters(run: Run) -> dict[str, tuple[int, ...]]:
    leaves = flatten(run.layout.state.params)
    return {
        path: of_size(x.shape) for path, x in leaves.items() if not x.sharding.is_fully_replicated
    }


@pytest.mark.parametrize(
    "options",
    [
        (1, 8),
        pytest.param((4, 2), marks=pytest.mark.thorough),
        pytest.param((1, 8, "layers"), marks=pytest.mark.thorough),
    ],
)
def test_each_parameter_is_gathered_once_a_pass_and_no_activation(options):
    run = run_of(*options)
    expected = collections.Counter()
    for path, shape in split_parameters(run).items():
        if "layers" in options and re.search(r"levels/1/layers/[12]/", path):
            continue  # those three layers are the body of one loop
        # Position embeddings are added: their gradient needs no parameter.
        expected[shape] += 1 if "position_embedding" in path else 2
    found = gathered(run)
    for shape in OF_BATCH:
        found.remove(shape)
    assert collections.Counter(of_size(shape) for shape in found) == expected
    # Gradients are summed: all-reduce and slice on CPU, one reduce-scatter on accelerators.
    assert {kind for kind, _ in collectives(run.program)} <= {
        "all-gather", "all-reduce", "reduce-scatter",
    }  # fmt: skip


# Where all parameters are on every device they take most of it here; remat_test has that layout.
@pytest.mark.thorough
def test_rematerialisation_saves_memory_where_parameters_are_split():
    assert run_of(1, 8, "layers").working_bytes < 0.7 * run_of(1, 8).working_bytes


@pytest.mark.parametrize(
    "sizes", [(8, 1), pytest.param((1, 8), marks=pytest.mark.thorough), (4, 2)]
)
def test_the_bank_costs_one_gather_of_the_embeddings_and_never_moves(sizes):
    run = run_of(*sizes)
    assert gathered(run).count((BATCH, BITS)) == 1
    rows = {IMAGES, IMAGES // 8}
    assert all(not rows & set(shape[:1]) for _, shape in collectives(run.program))
    assert not [shape for _, shape in collectives(run.program) if IMAGES in shape]


def toy_layout(
    shapes: dict[str, tuple[int, ...]],
    data: int,
    fsdp: int,
    images: int | None = None,
    *,
    bits: int = 4,
    classes: int = 3,
):
    """The layout of parameters of these shapes, and of a bank where `images` are given."""
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}

    def abstract(params: Any) -> TrainState:
        bank = None if images is None else create_bank(images, bits, classes)
        return first_state(params, make_optimizer(params, name="sgd", learning_rate=0.1), bank)

    mesh = sharding.make_mesh(data * fsdp, data, fsdp)
    state = jax.eval_shape(abstract, params)
    return make_layout(state, METHOD.row_leaves(state.method), mesh)


@pytest.mark.parametrize(
    ("shape", "fsdp", "spec"),
    [
        ((64, 256), 8, P(None, "fsdp")),
        ((256, 64), 8, P("fsdp")),
        ((64, 64), 8, P("fsdp")),
        ((3, 3, 62, 64), 31, P(None, None, "fsdp")),
        ((62, 100), 8, P()),  # divided by neither
        ((91, 45), 5, P()),  # small: 4,095
        ((4096,), 8, P()),  # a vector
        ((64, 256), 1, P()),
    ],
)
def test_an_array_is_split_by_its_longest_axis_that_divides(shape, fsdp, spec):
    assert parameter_spec(shape, fsdp) == spec


def test_an_fsdp_axis_that_nothing_is_divided_by_is_refused_with_those_that_fit():
    with pytest.raises(
        ValueError, match=r"mesh.fsdp=8 divides no axis.*accepted on 8 .*: 1, 2, 4$"
    ):
        toy_layout({"kernel": (60, 84), "bias": (8,)}, 1, 8)
    with pytest.raises(ValueError, match="accepted on 8 devices, with mesh.data unset: 1$"):
        toy_layout({"kernel": (16, 16)}, 1, 8)


def test_a_bank_that_the_devices_do_not_divide_is_on_each_of_them():
    for images, rows in ((41, 41), (48, 6), (1 << 16, 8448)):
        layout = toy_layout({"kernel": (64, 64)}, 4, 2, images)
        bank = layout.state.method
        assert bank is not None
        assert bank.embeddings.sharding.shard_shape(bank.embeddings.shape) == (rows, 4)
    assert "8,448 of 67,584 bank rows" in layout.describe()


def test_the_backward_pass_is_left_no_whole_parameter():
    run = run_of(1, 8)
    whole = set(split_parameters(run).values())

    def embed(params: Any, images: jax.Array) -> jax.Array:
        return jnp.sum(nnx.merge(run.graphdef, params)(preprocess.normalize(images)))

    embed = run.layout.on_whole_params(embed)
    state, images = run.first_state(), run.batch(0)["image"]
    kept = jax.tree.leaves(jax.jit(lambda p, x: jax.vjp(embed, p, x)[1])(state.params, images))
    found = [x for x in kept if of_size(x.shape) in whole]
    assert len(found) >= len(whole)
    for x in found:
        assert of_size(x.sharding.shard_shape(x.shape)) != of_size(x.shape)


@pytest.mark.thorough
def test_codes_do_not_depend_on_the_layout():
    packed = []
    for sizes in ((1, 1), (8, 1), (4, 2)):
        run = run_of(*sizes)

        def embed(params: Any, images: jax.Array, run: Run = run) -> jax.Array:
            return nnx.merge(run.graphdef, params)(preprocess.normalize(images))

        encode = compile_encode(embed, run.mesh, run.layout)
        found = encode(run.first_state().params, run.batch(0)["image"])
        packed.append(np.asarray(found.packed))
    assert len(np.unique(packed[0], axis=0)) > 2
    for other in packed[1:]:
        np.testing.assert_array_equal(other, packed[0])


def test_an_experiment_says_its_mesh_and_what_is_on_each_device():
    config = make_config(
        num_devices=8, mesh__data=4, mesh__fsdp=2, model__embed_dims=(32,), model__num_heads=(2,),
        model__depths=(1,),
    )  # fmt: skip
    experiment = create_experiment(config, create_dataset(config))
    layout = experiment.layout
    whole = sum(leaf.size for leaf in jax.tree.leaves(layout.state.params)) * 4 / 1e6
    own = bytes_on_device(layout.state.params) / 1e6
    assert own < whole
    text = (
        f"mesh data=4 x fsdp=2; parameters {own:.3g} of {whole:.3g} MB and 125 of 1,000 bank rows"
    )
    assert text in describe(experiment)
    experiment.close()


def test_only_a_large_bank_has_rows_of_padding():
    assert [rows_for(n) for n in (1, 5000, 65_535)] == [1, 5000, 65_535]
    for images in (65_536, 1_281_167, 10_000_000):
        assert 0 <= rows_for(images) - images < 3072
        assert all(rows_for(images) % devices == 0 for devices in (8, 48, 256, 1024))


def loss_on_eight_devices(images: int, batch: int, classes: int) -> Any:
    """Loss and gradient against a bank that is split over 4 x 2 devices, compiled."""
    layout = toy_layout({"kernel": (64, 64)}, 4, 2, images, bits=64, classes=classes)

    def loss(embeddings: Any, labels: Any, mask: Any, bank: Any) -> jax.Array:
        return bank_loss(*layout.gather((embeddings, labels, mask)), bank, rows=layout)

    split = sharding.batch_sharded(layout.mesh)
    shapes = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=split)
        for shape, dtype in (
            ((batch, 64), jnp.float32),
            ((batch, classes), jnp.uint8),
            ((batch,), bool),
        )
    ]
    return jax.jit(jax.value_and_grad(loss)).lower(*shapes, layout.state.method).compile()


@pytest.mark.parametrize(("batch", "classes"), [(64, 1000), (512, 10)])
def test_a_bank_of_ten_million_images_fits(batch, classes):
    compiled = loss_on_eight_devices(10_000_000, batch, classes)
    memory = compiled.memory_analysis()
    own_rows = rows_for(10_000_000) / 8 * (64 * 4 + classes + 1)
    assert memory.argument_size_in_bytes < own_rows + 2**20
    assert memory.temp_size_in_bytes < 2**27  # 128 MiB; all pairs at once take gigabytes
    # Sums are sent once, not once a block.
    assert len(re.findall(r" all-reduce(?:-start)?\(", compiled.as_text())) <= 3


def test_a_bank_in_blocks_on_several_devices_gives_the_same_loss(monkeypatch):
    images, batch, classes = 1 << 16, 16, 10
    rng = np.random.default_rng(0)
    rows = rows_for(images)

    def labels(count: int) -> np.ndarray:
        return np.eye(classes, dtype=np.uint8)[rng.integers(0, classes, count)]

    u = rng.uniform(-1, 1, (batch, 64)).astype(np.float32)
    bank = dataclasses.replace(
        create_bank(images, 64, classes),
        embeddings=rng.uniform(-1, 1, (rows, 64)).astype(np.float32),
        labels=labels(rows),
        seen=rng.random(rows) < 0.9,
    )
    own = (u, labels(batch), np.arange(batch) < batch - 3)
    compiled = loss_on_eight_devices(images, batch, classes)
    monkeypatch.setattr(bank_pairs, "_BLOCK", 90 * 1000)  # 9 blocks a device, the last overlapping
    in_blocks = loss_on_eight_devices(images, batch, classes)
    assert " while(" in in_blocks.as_text()
    assert " while(" not in compiled.as_text()
    found = []
    for program in (compiled, in_blocks):
        placed = jax.tree.map(jax.device_put, (*own, bank), program.input_shardings[0])
        found.append(program(*placed))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("unseen", ["ignored", "negative"])
def test_the_padding_of_a_bank_counts_for_nothing(unseen, monkeypatch):
    monkeypatch.setattr(memory_bank, "PADDED_FROM", 8)
    monkeypatch.setattr(memory_bank, "ROW_MULTIPLE", 6)
    images, bits = 9, 4
    u = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, bits)), jnp.float32)
    labels, mask = jnp.eye(3, dtype=jnp.uint8)[jnp.asarray([0, 1, 0, 2])], jnp.arange(4) < 3
    index = jnp.asarray([7, 8, 3, 9])  # the last is padding of the batch
    bank = memory_bank.update_bank(create_bank(images, bits, 3), index, u, labels)
    assert len(bank.seen) == 12
    np.testing.assert_array_equal(np.flatnonzero(bank.seen), [3, 7, 8])
    found = bank_loss(u, labels, mask, bank, unseen=unseen)
    alone = jax.tree.map(lambda x: x[:images], bank)
    expected = bank_loss(u, labels, mask, alone, unseen=unseen)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_has_no_gradient_is_gathered_as_bytes_unchanged():
    layout = toy_layout({"kernel": (64, 64)}, 4, 2, images=16)
    batch = {
        "mask": jnp.arange(16) % 3 == 0,
        "labels": jnp.arange(48, dtype=jnp.uint8).reshape(16, 3) * 5,
        "index": jnp.asarray([-1, 2**31 - 1, *range(255, 269)], jnp.int32),
        "outputs": jnp.linspace(-1, 1, 16)[:, None],
    }
    split = jax.device_put(batch, sharding.batch_sharded(layout.mesh))
    gathered = jax.jit(layout.gather)(split)
    for name, array in batch.items():
        assert gathered[name].dtype == array.dtype
        assert gathered[name].sharding.is_fully_replicated
        np.testing.assert_array_equal(gathered[name], array)
    assert not [x for x in jax.tree.leaves(layout.gather({"mask": split["mask"]})) if x.ndim != 1]
