"""DPN: deep polarized network (Fan et al., IJCAI 2020).

Every class has a target t in {-1, +1}^K, and each output z_k is pushed past a margin m on the
target's side: max(0, m - z_k t_k), summed over the bits and over an image's labels, a mean over
images; plus a weight times the mean of z^2. DeepHash-pytorch takes the mean over bits instead, and
of several labels one target, by bit what most of their targets have, as CSQ does.

Targets may follow the codes: after every few epochs a class's target becomes the sign of the sum of
its images' signs, 0 where they are even, of all its images or of those nearest to the old target;
in DeepHash-pytorch outputs within the margin have no say. Here an image's sign is the last one that
training saw, where the authors encode all images anew, and a target keeps the bits that no image
votes on.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import dataclasses
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from hybridhash_jax.methods.central.centres import balanced_row, greedy_centres, published_centres
from hybridhash_jax.methods.central.csq import centres_of_labels
from hybridhash_jax.methods.central.labelled import labelled, mean_over, product
from hybridhash_jax.methods.memory_bank import MemoryBank, create_bank, update_bank
from hybridhash_jax.methods.method import Examples, Method, Rows, everywhere, wide
from input_pipeline.options import Option

OPTIONS = (
    Option("margin", "what an output shall reach on its target's side", above=0),
    Option("variant", "whose reduction and targets of several labels", ("paper", "deephash")),
    Option("targets", "how targets are drawn", ("random", "greedy", "hadamard")),
    Option("regularization", "weight of the outputs' squares", at_least=0),
    Option("update_epochs", "epochs from one change of the targets to the next", at_least=0),
    Option(
        "update_share", "share of a class's images that its new target is of", above=0, at_most=1
    ),
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Targets:
    """What the images are drawn to."""

    codes: jax.Array  # [classes, K] float32: -1, +1, or 0 after an even vote
    ties: jax.Array  # [K], for the bits on which an image's labels are even, "deephash"
    epochs: jax.Array  # int32, those that have ended
    bank: MemoryBank | None  # outputs seen last, where targets follow them


@dataclasses.dataclass(frozen=True)
class DPN(Method):
    """`targets`: signs at "random"; "greedy", far apart; "hadamard", CSQ's published rows.

    With `update_epochs` 0 they stay; else they change after as many epochs, by `update_share` of
    each class's images, see the module.
    """

    margin: float = 1.0
    variant: str = "paper"
    targets: str = "random"
    regularization: float = 0.0
    update_epochs: int = 0
    update_share: float = 1.0

    title, paper = "DPN", "Fan et al., IJCAI 2020"
    head = "linear"
    group = "dpn"
    options = OPTIONS
    recipes: ClassVar = {
        "published": {
            "optimizer.name": "sgd",
            "optimizer.momentum": 0.9,
            "optimizer.nesterov": False,
            "optimizer.learning_rate": 1e-4,
            "optimizer.weight_decay": 5e-4,
            "optimizer.schedule": "step",
            "optimizer.step_epochs": (100,),
            "optimizer.step_factor": 0.1,
            "batch_size": 256,
            "num_epochs": 200,
        },
        "features": {"optimizer.learning_rate": 3e-4},
    }
    grid: ClassVar = {"targets": ("random", "greedy")}

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> Targets:
        """Targets of as many classes as the labels have; random ones are drawn from `key`."""
        shape = labels.shape[1], bits
        if self.targets == "random":
            codes = jax.random.rademacher(key, shape, jnp.float32)
        else:
            make = greedy_centres if self.targets == "greedy" else published_centres
            codes = jnp.asarray(make(*shape), jnp.float32)
        return Targets(
            codes,
            jnp.asarray(balanced_row(bits, 0, 0), jnp.float32),
            jnp.zeros((), jnp.int32),
            create_bank(len(labels), bits, labels.shape[1]) if self.update_epochs else None,
        )

    def row_leaves(self, state: Targets) -> Any:
        """The bank's arrays."""
        bank = everywhere(True, state.bank)
        return dataclasses.replace(everywhere(False, state), bank=bank)

    def loss(
        self, outputs: jax.Array, examples: Examples, state: Targets, step: jax.Array
    ) -> tuple[jax.Array, Targets]:
        """See `hinge_loss` and `mean_hinge_loss`; images without a label do not count."""
        del step
        mask, labels = labelled(examples), examples.labels
        if self.variant == "deephash":
            targets = centres_of_labels(labels, state.codes, state.ties)
            loss = mean_hinge_loss(outputs, targets, mask, margin=self.margin)
        else:
            loss = hinge_loss(outputs, labels, mask, state.codes, margin=self.margin)
        if self.regularization:
            loss += self.regularization * mean_over(jnp.square(wide(outputs)), mask)
        if state.bank is not None:
            batch = examples.index, outputs, labels
            bank = update_bank(state.bank, *examples.rows.gather(batch))
            state = dataclasses.replace(state, bank=bank)
        return loss, state

    def end_epoch(self, state: Targets, step: jax.Array, rows: Rows) -> Targets:
        """Counts the epoch, and changes the targets when it is time; a class unseen keeps its own."""
        del step, rows
        state = dataclasses.replace(state, epochs=state.epochs + 1)
        if state.bank is None:
            return state
        bank, share = state.bank, self.update_share
        labels = jnp.where(bank.seen[:, None], bank.labels, 0)
        least = self.margin if self.variant == "deephash" else 0.0
        codes, decided = updated_targets(
            bank.embeddings, labels, state.codes, share=share, least=least
        )
        # DeepHash-pytorch makes 0 of what is not decided: early in a run that would be every target.
        changed = decided & (state.epochs % self.update_epochs == 0)
        return dataclasses.replace(state, codes=jnp.where(changed, codes, state.codes))


def hinge_loss(
    outputs: Float[Array, "B K"],
    labels: Shaped[Array, "B classes"],
    mask: Bool[Array, " B"],
    targets: Float[Array, "classes K"],
    *,
    margin: float,
) -> Float[Array, ""]:
    """The hinge summed over bits and labels, a mean over the images that `mask` keeps."""
    z = wide(outputs)
    present = (labels > 0).astype(z.dtype)
    # How many of an image's labels ask for +1, for -1 and for neither, by bit: targets have no
    # other values, so no [B, classes, K] is held.
    sides = targets.astype(z.dtype)
    up, down = present @ jnp.maximum(sides, 0), present @ jnp.maximum(-sides, 0)
    undecided = present.sum(axis=1, keepdims=True) - up - down
    losses = up * jax.nn.relu(margin - z) + down * jax.nn.relu(margin + z) + undecided * margin
    return mean_over(losses.sum(axis=1), mask)


def mean_hinge_loss(
    outputs: Float[Array, "B K"],
    targets: Float[Array, "B K"],
    mask: Bool[Array, " B"],
    *,
    margin: float,
) -> Float[Array, ""]:
    """The hinge against each image's one target, a mean over bits and the images of `mask`."""
    z = wide(outputs)
    return mean_over(jax.nn.relu(margin - z * targets.astype(z.dtype)), mask)


def updated_targets(
    outputs: Float[Array, "n K"],
    labels: Shaped[Array, "n classes"],
    targets: Float[Array, "classes K"],
    *,
    share: float = 1.0,
    least: float = 0.0,
) -> tuple[Float[Array, "classes K"], Bool[Array, "classes K"]]:
    """Each class's target as the sign of the sum of its images' signs; 0 where they are even.

    With `share` below 1, of that share of its images, at least one, whose signs are nearest to its
    old target. Outputs nearer to 0 than `least` have no say. The second array says where any had one.
    """
    votes = jnp.where(jnp.abs(outputs) < least, 0, jnp.where(outputs >= 0, 1, -1))
    votes = votes.astype(outputs.dtype)
    present = labels > 0
    if share == 1:
        members = present.astype(votes.dtype).T
        return jnp.sign(product(members, votes.T)), product(members, jnp.abs(votes).T) > 0

    def of_class(target_and_members: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        target, members = target_and_members
        agreement = jnp.where(members, jnp.sum(votes * target[None], axis=1), -jnp.inf)
        order = jnp.argsort(-agreement)  # stable
        count = jnp.floor(share * jnp.sum(members, dtype=votes.dtype)).astype(jnp.int32)
        chosen = members[order] & (jnp.arange(len(order), dtype=jnp.int32) < jnp.maximum(count, 1))
        chosen_votes = jnp.where(chosen[:, None], votes[order], 0)
        return jnp.sign(jnp.sum(chosen_votes, axis=0)), jnp.any(chosen_votes != 0, axis=0)

    return cast(tuple[jax.Array, jax.Array], jax.lax.map(of_class, (targets, present.T)))
