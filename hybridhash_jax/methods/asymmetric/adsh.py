"""ADSH: asymmetric deep supervised hashing (Jiang & Li, AAAI 2018).

A network gives codes of queries; the codes V of the database are learned themselves, bit by bit.
An epoch draws m images of the database. With u = tanh(z) of the network's output z for the drawn
images, and S_ij = 1 for a shared label, else -r (r: similar pairs over dissimilar ones, of the drawn
images with the database), the loss of a batch of B drawn images and N database images is

    [ sum_ij (u_i . v_j - K S_ij)^2 + gamma * sum_i |v_i - u_i|^2 ] / (N B),

with V constant. After three passes over the drawn images each bit of V becomes, in turn,
sign(K S^T U + gamma U - V_other (U_other^T U_bit)), where U are the outputs of the last pass, each
from before its step, and the middle U is 0 for images that were not drawn.

S is never held: what the loss needs of it is one sum for each drawn image, taken once an epoch, in
blocks of the database; where no image has several labels, by sums over the classes.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false
# (JAX's own types are not complete, and Optax has none.)

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from hybridhash_jax.methods.asymmetric.similar_sums import similar_sums
from hybridhash_jax.methods.memory_bank import rows_for
from hybridhash_jax.methods.method import Epoch, Examples, Method, Rows, everywhere
from input_pipeline.options import Option

OPTIONS = (
    Option("gamma", "how strongly outputs and codes of an image agree", at_least=0),
    Option("images", "database images that an epoch draws", at_least=1),
    Option("passes", "times that an epoch sees them", at_least=1),
    Option("labels", "whose labels it learns from", ("database", "train")),
)


class Drawn(NamedTuple):
    """What an epoch knows of the m images that it drew; float32 but for `images`."""

    images: jax.Array  # int32 [m], rows of the database
    outputs: jax.Array  # [m, K], U: the last the network gave
    codes: jax.Array  # [m, K], their rows of V
    pulls: jax.Array  # [m, K], sum_j S_ij v_j
    squares: jax.Array  # [m], sum_j S_ij^2
    gram: jax.Array  # [K, K], V^T V
    ratio: jax.Array  # scalar, r


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Database:
    """The state: a row a database image, then rows of padding, which stay zeros."""

    codes: jax.Array  # [rows, K] float32, V of -1 and +1; zeros before the first epoch's end
    labels: jax.Array  # [rows, classes] uint8
    real: jax.Array  # [rows] bool; False is padding
    drawn: Drawn
    own: Any  # what a method that adds to ADSH keeps, float32 arrays by name
    num_images: int = dataclasses.field(metadata={"static": True})


class Additions(NamedTuple):
    """What another method adds to the update of V: to K S^T U, and to U^T U."""

    of_label: jax.Array  # [classes, K], added for every label of an image
    of_share: jax.Array  # [classes, K], of which an image's labels add the mean
    of_all: jax.Array  # [K], added for every image
    gram: jax.Array  # [K, K]


@dataclasses.dataclass(frozen=True)
class ADSH(Method):
    """The published method.

    `labels` "database" learns codes of the whole database from its labels, as published; "train"
    those of the training images alone, and the network encodes the other database images.
    """

    gamma: float = 200.0
    images: int = 2000
    passes: int = 3
    labels: str = "database"

    title, paper = "ADSH", "Jiang & Li, AAAI 2018"
    head = "tanh"
    group = "adsh"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {
            "optimizer.name": "sgd",
            "optimizer.momentum": 0.9,
            "optimizer.learning_rate": 1e-3,
            "optimizer.weight_decay": 5e-4,
            "optimizer.schedule": "step",
            "optimizer.step_epochs": (10, 20, 30, 40),
            "optimizer.step_factor": 0.1,
            "batch_size": 64,
            "num_epochs": 50,
        },
        "features": {"batch_size": 64, "num_epochs": 20, "optimizer.learning_rate": 1e-3},
    }

    @property
    def supervision(self) -> str:
        """As `labels` says."""
        return self.labels

    def epoch(self, num_images: int) -> Epoch:
        """Some drawn images, several times."""
        return Epoch(min(self.images, num_images), self.passes)

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> Database:
        """No codes yet."""
        del key
        count, rows = len(labels), rows_for(len(labels))
        drawn = self.epoch(count).images
        zeros = jnp.zeros((drawn, bits), jnp.float32)
        return Database(
            codes=jnp.zeros((rows, bits), jnp.float32),
            labels=jnp.pad(jnp.asarray(labels, jnp.uint8), ((0, rows - count), (0, 0))),
            real=jnp.arange(rows) < count,
            drawn=Drawn(
                images=jnp.zeros(drawn, jnp.int32),
                outputs=zeros,
                codes=zeros,
                pulls=zeros,
                squares=jnp.zeros(drawn, jnp.float32),
                gram=jnp.zeros((bits, bits), jnp.float32),
                ratio=jnp.zeros((), jnp.float32),
            ),
            own=self.init_own(labels.shape[1], bits),
            num_images=count,
        )

    def init_own(self, num_classes: int, bits: int) -> dict[str, jax.Array]:
        """What a method that adds to this one keeps beside it."""
        del num_classes, bits
        return {}

    def row_leaves(self, state: Database) -> Any:
        """Codes, labels and which are real are rows of the database."""
        return dataclasses.replace(everywhere(False, state), codes=True, labels=True, real=True)

    def begin_epoch(self, state: Database, images: jax.Array, rows: Rows) -> Database:
        """Takes what the epoch needs of the database, see `Drawn`."""
        drawn = draw(state, images, rows)
        return dataclasses.replace(state, drawn=drawn)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: Database, step: jax.Array
    ) -> tuple[jax.Array, Database]:
        """See the module's docstring; keeps the outputs."""
        del step
        batch = outputs, examples.labels, examples.mask, examples.index
        outputs, labels, mask, index = examples.rows.gather(batch)
        found = index[:, None] == state.drawn.images[None]
        mask = mask & found.any(axis=1)  # an unreadable image's replacement was not drawn
        place = jnp.argmax(found, axis=1)
        costs = asymmetric_costs(outputs, place, state.drawn, gamma=self.gamma)
        costs = costs + self.own_costs(outputs, labels, examples, state)
        kept = lax.stop_gradient(outputs).astype(state.drawn.outputs.dtype)
        where = jnp.where(mask, place, len(state.drawn.images))
        drawn = state.drawn._replace(outputs=state.drawn.outputs.at[where].set(kept, mode="drop"))
        count = jnp.maximum(jnp.sum(mask, dtype=costs.dtype), 1) * state.num_images
        loss = jnp.sum(jnp.where(mask, costs, 0)) / count
        return loss, dataclasses.replace(state, drawn=drawn)

    def own_costs(
        self, outputs: jax.Array, labels: jax.Array, examples: Examples, state: Database
    ) -> jax.Array | float:
        """What is added to each image's cost [B], of which the loss takes the sum over N B."""
        del outputs, labels, examples, state
        return 0.0

    def end_epoch(self, state: Database, step: jax.Array, rows: Rows) -> Database:
        """Learns the codes V from the epoch's outputs."""
        del step
        additions, own = self.additions(state, rows)
        codes = learn_codes(state, rows, gamma=self.gamma, additions=additions)
        return dataclasses.replace(state, codes=codes, own=own)

    def additions(self, state: Database, rows: Rows) -> tuple[Additions | None, Any]:
        """What is added to the update of V, None for nothing, and the new `Database.own`."""
        del rows
        return None, state.own

    def database_codes(self, state: Database) -> jax.Array:
        """V, zeros for what is not learned yet."""
        return state.codes[: state.num_images]


def asymmetric_costs(
    outputs: Float[Array, "B K"], place: Int[Array, " B"], drawn: Drawn, *, gamma: float
) -> Float[Array, " B"]:
    """sum_j (u_i . v_j - K S_ij)^2 + gamma |v_i - u_i|^2 of the drawn images at `place`."""
    bits = outputs.shape[1]
    product = jnp.matmul(outputs, drawn.gram.astype(outputs.dtype), precision="highest")
    linear = jnp.sum(outputs * (product - 2 * bits * drawn.pulls[place]), axis=1)
    agreement = jnp.sum(jnp.square(drawn.codes[place] - outputs), axis=1)
    return linear + bits**2 * drawn.squares[place] + gamma * agreement


def draw(state: Database, images: Int[Array, " m"], rows: Rows) -> Drawn:
    """What an epoch that sees `images` needs of the database: sums over all of it."""
    labels = state.labels[images]
    count = state.num_images

    def sums(whole: jax.Array, own: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        codes, classes, real = own
        ones = real.astype(codes.dtype)[:, None]
        similar = similar_sums(whole, classes, jnp.concatenate([ones, codes], axis=1))
        return similar, codes.sum(axis=0), jnp.matmul(codes.T, codes, precision="highest")

    own = state.codes, state.labels, state.real
    similar, total, gram = rows.sum_over(sums)(labels, own)
    pairs, of_codes = similar[:, 0], similar[:, 1:]
    ratio = pairs.sum() / jnp.maximum(len(images) * count - pairs.sum(), 1)
    return Drawn(
        images=images,
        outputs=jnp.zeros_like(state.drawn.outputs),
        codes=state.codes[images],
        pulls=(1 + ratio) * of_codes - ratio * total[None],
        squares=pairs + jnp.square(ratio) * (count - pairs),
        gram=gram,
        ratio=ratio,
    )


def learn_codes(
    state: Database, rows: Rows, *, gamma: float, additions: Additions | None = None
) -> Float[Array, "rows K"]:
    """V after an epoch, bit by bit; every row on its own, so that rows may lie anywhere."""
    drawn, bits = state.drawn, state.codes.shape[1]
    u = drawn.outputs
    placed = jnp.zeros_like(state.codes).at[drawn.images].set(u)
    gram = jnp.matmul(u.T, u, precision="highest")
    if additions is not None:
        gram = gram + additions.gram

    def learn(whole: Any, own: tuple[jax.Array, ...]) -> jax.Array:
        (labels, u, ratio, gram, more), (codes, classes, real, placed) = whole, own
        similar = similar_sums(classes, labels, u)
        target = bits * ((1 + ratio) * similar - ratio * u.sum(axis=0)[None]) + gamma * placed
        if more is not None:
            target = target + _added(classes.astype(target.dtype), more)
        return jnp.where(real[:, None], bits_in_turn(codes, target, gram), 0)

    whole = state.labels[drawn.images], u, drawn.ratio, gram, additions
    own = state.codes, state.labels, state.real, placed
    return rows.on_each(learn)(whole, own)


def _added(classes: jax.Array, more: Additions) -> jax.Array:
    shares = classes / jnp.maximum(classes.sum(axis=1, keepdims=True), 1)
    of_label = jnp.matmul(classes, more.of_label, precision="highest")
    return of_label + jnp.matmul(shares, more.of_share, precision="highest") + more.of_all[None]


def bits_in_turn(
    codes: Float[Array, "rows K"], target: Float[Array, "rows K"], gram: Float[Array, "K K"]
) -> Float[Array, "rows K"]:
    """Each bit in turn: the sign of its target minus the other bits times their row of `gram`."""

    def update(bit: int, codes: jax.Array) -> jax.Array:
        others = gram[:, bit].at[bit].set(0)
        value = target[:, bit] - jnp.matmul(codes, others, precision="highest")
        return codes.at[:, bit].set(jnp.where(value < 0, -1, 1).astype(codes.dtype))

    updated: jax.Array = lax.fori_loop(0, codes.shape[1], update, codes)
    return updated
