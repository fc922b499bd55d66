"""Why the numbers of a report mean less than they seem to."""

from collections.abc import Mapping
from typing import Any

from hybridhash_jax.report import wording


def cautions(report: Mapping[str, Any]) -> list[str]:
    """Says why a report's numbers mean less than they seem to: a sentence or two each.

    The symptoms of a collapse, training without a gain, queries with nothing to find, labels that
    decide the result, and images that could not be read.
    """
    dataset, found = report["dataset"], []
    if symptoms := report["collapse"]:
        found.append(
            f"The codes cannot tell images apart: {'; '.join(symptoms)}. Order at equal distance "
            "decides most of the numbers."
        )
    if text := no_gain(report):
        found.append(text)
    if without := report["queries_without_relevant"]:
        queries = wording.counted(dataset["queries"], "query", "queries")
        unlabelled = report.get("queries_without_label")
        found.append(
            f"{wording.count(without)} of {queries} {'has' if without == 1 else 'have'} no "
            f"relevant item in the database{_without_label(unlabelled)}. Each counts as 0 in every "
            "mean."
        )
    if text := _decided(report):
        found.append(text)
    if unreadable := dataset.get("unreadable"):
        found.append(
            f"{wording.counted(unreadable, 'image')} could not be read and "
            f"{'was' if unreadable == 1 else 'were'} left out of queries and database, so the "
            "numbers are not those of the whole data set."
        )
    return found


def no_gain(report: Mapping[str, Any]) -> str:
    """Says that training did not improve the codes; empty where it did, or what was before is unknown."""
    selection = report.get("selection")
    before = [one["map_expected"] for one in report.get("evaluations") or () if not one["epoch"]]
    after = report["map"]["expected"]
    if not before or not selection or not selection["epoch"] or after > before[0]:
        return ""
    return (
        f"Training did not improve the codes: mAP was {wording.measure(before[0])} before it and is "
        f"{wording.measure(after)} after epoch {selection['epoch']:g}. More epochs or another "
        "learning rate may help."
    )


def _without_label(queries: int | None) -> str:
    if not queries:
        return ""
    return f"; {wording.count(queries)} of them {'has' if queries == 1 else 'have'} no label at all"


def _decided(report: Mapping[str, Any]) -> str:
    """What to say where labels decide the result, whatever the codes."""
    value = wording.measure(report["map"]["expected"])
    if report.get("decided_by_labels"):
        which = "some queries and none to the others"
        if not report["queries_without_relevant"]:
            which = "every query, as with a single class"
        elif report["queries_without_relevant"] == report["dataset"]["queries"]:
            return f"No query has anything to find: mAP is {value} whatever the codes."
        return f"Every database image is relevant to {which}: mAP is {value} whatever the codes."
    if (labels := report.get("common_labels")) is not None:
        return (
            f"All queries have the same labels ({wording.label_list(labels)}): the numbers say "
            "nothing of other classes."
        )
    return ""
