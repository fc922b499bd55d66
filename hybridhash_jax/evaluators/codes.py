"""How well codes retrieve: queries and database are encoded, and every metric is taken."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hybridhash_jax import metrics
from hybridhash_jax.codes import binary
from hybridhash_jax.codes.files import SIDES, CodeFileError, CodeSet, load_code_sets, save_codes
from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.encode import compile_encode, encode_split
from hybridhash_jax.evaluators.baseline import cosine_baseline
from hybridhash_jax.evaluators.collapse import advice_for, collapse_warning
from hybridhash_jax.evaluators.evaluator import Evaluation, Evaluator, OnImages, ShouldStop
from hybridhash_jax.experiment import Experiment
from hybridhash_jax.report.cautions import cautions
from hybridhash_jax.report.files import report_content, write_report
from hybridhash_jax.report.findings import describe_retrieval, shown_images
from hybridhash_jax.runtime import compilation_cache
from hybridhash_jax.runtime.console import logger, progress
from hybridhash_jax.state import TrainState
from hybridhash_jax.workdir import log, results
from hybridhash_jax.workdir.fingerprints import model_fingerprint
from input_pipeline.images.thumbnails import load_thumbnails

_TIMES = ("encode_seconds", "metric_seconds", "images_per_second")


class CodeEvaluator(Evaluator):
    """Encodes queries and database, and the validation images where they are used.

    A record has the numbers of `evaluate_codes`, queries and database (images measured),
    encode_seconds, metric_seconds, and validation_map_expected where it is used.
    """

    measured = ("map_expected", "map_stable")
    told = (
        "queries",
        "database",
        "queries_without_relevant",
        "bit_balance",
        "constant_bits",
        "distinct_codes",
    )

    def __init__(self, experiment: Experiment):
        super().__init__(experiment)
        splits = experiment.dataset.splits
        self.num_images = len(splits.query) + len(splits.database)
        if len(experiment.held_out):
            self.num_images += len(experiment.held_out) + len(experiment.train_rows)
        self.encode = compile_encode(experiment.apply, experiment.mesh, experiment.layout)

    def measure(
        self, state: TrainState, should_stop: ShouldStop, on_images: OnImages
    ) -> Evaluation:
        """See `Evaluator.measure`."""
        exp, started = self.experiment, time.perf_counter()
        compiling = compilation_cache.COUNTS.seconds
        query, database = self.encode_sides(state, should_stop, on_images)
        images = len(exp.dataset.splits.query) + len(exp.dataset.splits.database)
        encoded = time.perf_counter()
        compiling = compilation_cache.COUNTS.seconds - compiling
        record = evaluate_codes(query, database, exp.top_k)
        record |= {"queries": len(query), "database": len(database)}
        record["parameters_fingerprint"] = query.fingerprint
        measured = time.perf_counter()
        if len(exp.held_out):
            held_out, train = (
                self._encode_rows(state, rows, query.fingerprint, should_stop, on_images)
                for rows in (exp.held_out, exp.train_rows)
            )
            record["validation_map_expected"] = metrics.mean_average_precision(
                held_out.codes, held_out.labels, train.codes, train.labels, exp.top_k
            )
        record |= {
            "compile_seconds": compiling,
            "encode_seconds": encoded - started - compiling,
            "metric_seconds": measured - encoded,
            "evaluate_seconds": time.perf_counter() - started,
            "images_per_second": images / (encoded - started - compiling),
        }
        return Evaluation(record, (query, database))

    def warning(self, record: Mapping[str, Any]) -> str | None:
        """See `collapse_warning`; codes of the untrained network may be alike."""
        if not record["step"]:
            return None
        exp = self.experiment
        return collapse_warning(record, exp.bits, advice_for(exp.config))

    def encode_sides(
        self, state: TrainState, should_stop: ShouldStop, on_images: OnImages
    ) -> tuple[CodeSet, CodeSet]:
        """The codes of queries and database; the method's own where it learned some."""
        splits = self.experiment.dataset.splits
        self.experiment.open_features(state.evaluated_params)
        model = model_fingerprint(state.evaluated_params)
        query, database = (
            self._encode_rows(state, rows, model, should_stop, on_images)
            for rows in (splits.query, splits.database)
        )
        learned = self.experiment.method.database_codes(state.method)
        if learned is None:
            return query, database
        return query, self._with_learned(
            database, np.asarray(sharding.replicate(learned, self.experiment.mesh))
        )

    def _with_learned(self, database: CodeSet, learned: np.ndarray) -> CodeSet:
        """The database with learned codes [n, K] for the images that were trained on."""
        place = {row: i for i, row in enumerate(self.experiment.train_rows.tolist())}
        assert database.rows is not None
        is_learned = np.any(learned, axis=1)  # rows of zeros are not learned yet
        rows = enumerate(database.rows.tolist())
        found = [(i, place[row]) for i, row in rows if row in place and is_learned[place[row]]]
        packed = database.packed.copy()
        if found:
            places, images = np.asarray(found).T
            packed[places] = binary.pack(binary.binarize(learned[images]))
        return dataclasses.replace(database, packed=packed)

    def _encode_rows(
        self,
        state: TrainState,
        rows: np.ndarray,
        model: str | None,
        should_stop: ShouldStop,
        on_images: OnImages,
    ) -> CodeSet:
        exp, dataset = self.experiment, self.experiment.dataset
        names = exp.sources.names_of(rows)
        with contextlib.closing(exp.eval_batches(rows)) as batches:
            packed, readable = encode_split(
                self.encode,
                state.evaluated_params,
                batches,
                names,
                exp.mesh,
                should_stop=should_stop,
                on_batch=on_images,
            )
        return CodeSet(
            packed[readable],
            exp.bits,
            dataset.labels[rows[readable]],
            names=names[readable],
            rows=rows[readable],
            class_names=dataset.class_names,
            fingerprint=model,
            protocol=dataset.protocol,
            top_k=exp.top_k,
        )

    def facts(self) -> dict[str, Any]:
        """The method, and the code length and cut-off of mAP (None: over all)."""
        exp = self.experiment
        return {"method": exp.config.method.name, "bits": exp.bits, "top_k": exp.top_k}

    def table(self, entries: Sequence[Mapping[str, Any]]) -> str:
        """One line a run."""
        return results.results_table(entries)

    def collect(self, state: TrainState, record: dict[str, Any], stop: ShouldStop) -> Evaluation:
        """Encodes again."""
        splits = self.experiment.dataset.splits
        with progress("encoding again", len(splits.query) + len(splits.database)) as told:
            return Evaluation(record, self.encode_sides(state, stop, told.update))

    def keep(self, folder: Path, evaluation: Evaluation) -> None:
        """Writes query.npz and database.npz."""
        if jax.process_index() == 0 and evaluation.codes:
            for side, codes in zip(SIDES, evaluation.codes, strict=True):
                save_codes(folder / f"{side}.npz", codes)

    def kept(self, folder: Path, record: dict[str, Any]) -> Evaluation | None:
        """The codes of a folder, if they are this evaluation's."""
        if jax.process_count() > 1:
            return None  # processes must do the same, and may not see the same disk
        try:
            codes = load_code_sets(str(folder))
        except CodeFileError:
            return None
        same = codes[0].fingerprint == record.get("parameters_fingerprint")
        return Evaluation(record, codes) if same else None

    def write_report(
        self,
        workdir: Path,
        evaluation: Evaluation,
        source: str,
        entry: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Writes report.json and, with evaluation.report, the page and its pictures."""
        exp = self.experiment
        config, dataset, record = exp.config, exp.dataset, evaluation.record
        assert evaluation.codes is not None
        query, database = evaluation.codes
        findings = describe_retrieval(query, database, exp.top_k)
        more = _training(workdir, entry) if entry else {}
        times = {name: record[name] for name in _TIMES if name in record}
        report = report_content(
            findings,
            baselines=cosine_baseline(exp, query, database),
            title=f"{dataset.protocol}, {exp.bits} bits, {config.model.variant}",
            dataset={
                "name": dataset.name,
                "protocol": dataset.protocol,
                "provenance": dataset.provenance,
                "official": dataset.official,
                "checksum": dataset.checksum,
                "split_seed": config.data.split_seed,
                "unreadable": len(exp.unreadable.reasons),
            },
            codes={"source": source, "fingerprint": query.fingerprint},
            run={
                **results.run_facts(),
                "seed": config.seed,
                "method": config.method.name,
                "variant": config.model.variant,
                "parameters": exp.num_parameters,
                "init_from": exp.init_note,
            },
            times=times | more.pop("times", {}),
            **more,
        )
        images = {}
        if config.evaluation.report:
            images = load_thumbnails(dataset.images, shown_images(findings))
        page = write_report(workdir, report, images, draw=config.evaluation.report)
        for sentence in cautions(report | {"collapse": []}):  # which was told when it was found
            logger.warning("%s", sentence)
        logger.info("report: %s", page)
        return report


def _training(workdir: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "training": log.drawn_steps(workdir),
        "evaluations": [
            {name: value for name, value in record.items() if name == "epoch" or "map" in name}
            for record in entry["evaluations"]
        ],
        "selection": {name: entry[name] for name in ("selected_by", "epoch", "best", "last")},
        "times": {"train_images_per_second": entry["train_images_per_second"]},
    }


def evaluate_codes(query: CodeSet, database: CodeSet, top_k: int | None) -> dict[str, Any]:
    """The numbers of one evaluation.

    Returns:
      map_expected, map_stable (see `metrics`), queries_without_relevant, database_classes (that
      have an image in the database), and of the database's codes: bit_balance (mean over bits of
      |mean of the bit|: 0 is balanced, 1 is all stuck), constant_bits, distinct_codes,
      largest_share (of the commonest code).
    """
    codes = database.codes
    ranking = metrics.rank(query.codes, query.labels, codes, database.labels)
    statistics = metrics.code_statistics(codes)
    return {
        "map_expected": float(metrics.ranked_precisions(ranking, top_k, "expected").mean()),
        "map_stable": float(metrics.ranked_precisions(ranking, top_k, "stable").mean()),
        "queries_without_relevant": ranking.queries_without_relevant,
        "database_classes": database.num_classes,
        "bit_balance": float(np.abs(statistics.bit_balance).mean()),
        "constant_bits": statistics.constant_bits,
        "distinct_codes": statistics.distinct_codes,
        "largest_share": statistics.largest_share,
    }
