"""What the frozen part of a backbone gives: computed once, kept on disk, and trained on."""

import contextlib
import functools
import hashlib
import json
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from hybridhash_jax import __version__, models
from hybridhash_jax.config_fields import Config
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.distributed.state_sharding import Layout, compile_on_batches
from hybridhash_jax.encode import EvaluationStopped
from hybridhash_jax.features.image_sums import image_checksums
from hybridhash_jax.features.keys import DEFAULT_DIRECTORY
from hybridhash_jax.features.plan import Plan, choose_plan, features_of
from hybridhash_jax.features.space import make_room
from hybridhash_jax.features.store import FeatureStore, open_store
from hybridhash_jax.image_sources import Sources
from hybridhash_jax.methods import Method
from hybridhash_jax.parameters import flatten
from hybridhash_jax.runtime.console import logger, progress
from hybridhash_jax.workdir.fingerprints import fingerprint
from input_pipeline.dataset import Dataset
from input_pipeline.errors import DataError
from input_pipeline.images.encoded import EncodedImages
from input_pipeline.images.unreadable import Unreadable
from input_pipeline.images.vectors import Vectors
from input_pipeline.messages import counted
from input_pipeline.sources import FeatureSource

# Fields of the model that change no feature. The type of the computation is told as it is here.
_NOT_OF_FEATURES = frozenset(
    "head_kind head_width head_dropout initializer remat drop_path_rate batch_norm dtype".split()
)

# What was opened of a data set, by the folder of its features: the runs of a sweep or of a
# comparison share it, since to look at every image and row again takes seconds.
_OPENED: weakref.WeakKeyDictionary[Dataset, dict[Path, Sources]] = weakref.WeakKeyDictionary()


def plan_features(
    config: Config, method: Method, network: models.Network, frozen: Any, dataset: Dataset
) -> Plan | None:
    """`choose_plan` for a data set; None for one of vectors."""
    if isinstance(dataset.images, Vectors):
        return None
    of_files, count = isinstance(dataset.images, EncodedImages), len(_rows_of(dataset))
    return choose_plan(config, method, network, frozen, count=count, of_files=of_files)


def _rows_of(dataset: Dataset) -> np.ndarray:
    """Rows of the images that a run uses."""
    return np.unique(np.concatenate(list(dataset.splits.by_name().values())))


class KeptFeatures:
    """The features of a run's images. `sources` are there once `open` was called."""

    def __init__(
        self,
        plan: Plan,
        config: Config,
        dataset: Dataset,
        graphdef: Any,
        mesh: Mesh,
        layout: Layout,
    ):
        self.plan, self.config, self.dataset, self.mesh = plan, config, dataset, mesh
        self.folder = Path(config.features.dir or DEFAULT_DIRECTORY).expanduser()
        self.sources: Sources | None = None
        self.vectors_id: str | None = None  # of the features' key, if they are vectors
        self._graphdef = graphdef
        compute = functools.partial(features_of, graphdef, plan)
        self._compute = compile_on_batches(compute, mesh, layout)

    def describe(self) -> str:
        """What is kept, and where."""
        plan = self.plan
        views = "" if plan.views == 1 else f" of {plan.views} views"
        numbers = f"{math.prod(plan.shape):,}"
        return f"{numbers} numbers an image{views}, behind {plan.stage}, kept in {self.folder}"

    def _facts(self, params: Any) -> dict[str, Any]:
        """All that the features depend on, but the images."""
        config, images = self.config, self.dataset.images
        network: models.Network = nnx.merge(self._graphdef, params)
        own = {name: x for name, x in flatten(params).items() if name.startswith(self.plan.paths)}
        sums = json.dumps(fingerprint(own), sort_keys=True)
        facts = {
            "version": __version__,
            "model": {name: x for name, x in config.model.items() if name not in _NOT_OF_FEATURES},
            "parameters": hashlib.sha256(sums.encode()).hexdigest()[:16],
            "stage": self.plan.stage,
            "image_size": network.image_size,
            "dtype": jnp.dtype(network.backbone.options.dtype).name,
        }
        if isinstance(images, EncodedImages):
            options = ("resize", "apply_orientation", "allow_truncated")
            facts |= {name: config.data[name] for name in options}
            facts |= {"packed_resized": images.resized, "packed_turned": images.turned}
        return facts

    def open(
        self,
        params: Any,
        of_images: Sources,
        unreadable: Unreadable,
        batches: Callable[[np.ndarray], Any],
        should_stop: Callable[[], bool],
    ) -> None:
        """Computes what is not there yet; a second call does nothing.

        Args:
          params: of the network; what is frozen never changes.
          of_images: the sources of the images, for their names.
          unreadable: what is known of images that cannot be read.
          batches: makes evaluation batches of some rows of the data set.
          should_stop: asked before each batch; True raises EvaluationStopped.
        """
        if self.sources is not None:
            return
        plan = self.plan
        store = open_store(self.folder, self._facts(params), plan.shape, views=plan.views)
        opened = _OPENED.setdefault(self.dataset, {})
        if store.path not in opened:
            opened[store.path] = self._sources(
                store, params, of_images, unreadable, batches, should_stop
            )
        self.sources = opened[store.path]
        if plan.stage == "features" and len(plan.shape) == 1:
            self.vectors_id = store.path.name

    def _sources(
        self,
        store: FeatureStore,
        params: Any,
        of_images: Sources,
        unreadable: Unreadable,
        batches: Callable[[np.ndarray], Any],
        should_stop: Callable[[], bool],
    ) -> Sources:
        """See `open`: looks for the features of every image, and computes those that are missing."""
        config, rows = self.config, _rows_of(self.dataset)
        images = self.dataset.images
        assert not isinstance(images, Vectors)
        with progress("looking for kept features", len(rows)) as told:
            sums, unread = image_checksums(
                images,
                rows,
                num_workers=config.data.num_workers,
                on_images=told.update,
                folder=self.folder,
            )
        reasons = {int(rows[position]): reason for position, reason in unread.items()}
        rows, sums = np.delete(rows, list(unread)), np.delete(sums, list(unread), axis=0)
        if problem := make_room(store, sums, int(config.features.budget_gb * 1e9)):
            raise DataError(f"{problem}; or compute them every time: --config.features.keep=never")
        if len(store.missing(sums)):  # what is whole is read from anywhere, also without a lock
            with store.writing():
                missing = store.missing(sums)  # another process may have added some
                if len(missing):
                    self._fill(
                        store, params, of_images, rows[missing], sums[missing], batches, should_stop
                    )
        places = np.full(len(self.dataset.labels), -1, np.int64)
        # Images that could not be decoded have none.
        absent = {sums[position].tobytes() for position in store.missing(sums).tolist()}
        there = np.asarray([one.tobytes() not in absent for one in sums], bool)
        places[rows[there]] = store.rows(sums[there])
        reasons |= unreadable.reasons
        one = functools.partial(FeatureSource, store.array, places, reasons)
        return Sources(one(), one(view=0), True, of_images.names)

    def _fill(
        self,
        store: FeatureStore,
        params: Any,
        of_images: Sources,
        rows: np.ndarray,
        sums: np.ndarray,
        batches: Callable[[np.ndarray], Any],
        should_stop: Callable[[], bool],
    ) -> None:
        logger.info(
            "computing the features of %s behind %s once; kept in %s",
            counted(len(rows), "image"),
            self.plan.stage,
            store.path,
        )
        done = 0
        with (
            progress("computing features", len(rows)) as told,
            contextlib.closing(batches(rows)) as made,
        ):
            for batch in made:
                if should_stop():
                    raise EvaluationStopped
                images = sharding.put_batch({"image": batch["image"]}, self.mesh)["image"]
                count = min(len(batch["mask"]), len(rows) - done)
                found = np.asarray(self._compute(params, images))[:count]
                now, mask = slice(done, done + count), batch["mask"][:count]
                called = of_images.names_of(rows[now][mask]).tolist()
                store.append(sums[now][mask], found[mask], called)
                done += count
                told.update(count)
