"""What a reader must know before trusting a report's numbers, in plain words."""

from collections.abc import Mapping
from typing import Any

from hybridhash_jax.report import wording


def cautions(report: Mapping[str, Any]) -> list[str]:
    """Finds what makes a report's numbers mean less than they seem to; each is a sentence or two.

    The symptoms of a collapse, queries with nothing to find, and images that could not be read.
    """
    symptoms, dataset, found = report["collapse"], report["dataset"], []
    if symptoms:
        found.append(
            f"The codes have collapsed: {'; '.join(symptoms)}. Such codes cannot tell images "
            "apart, and order at equal distance decides most of the numbers below."
        )
    if without := report["queries_without_relevant"]:
        found.append(
            f"{wording.count(without)} of {wording.count(dataset['queries'])} queries have no "
            "relevant item in the database. Each counts as 0 in every mean."
        )
    if unreadable := dataset.get("unreadable"):
        found.append(
            f"{wording.count(unreadable)} images could not be read and were left out of queries "
            "and database, so the numbers are not those of the whole data set."
        )
    return found
