"""What `check` counted, as text."""

from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.images.image_checks import ImageFacts
from input_pipeline.lists.label_lists import LabelList


def list_table(lists: Mapping[str, LabelList], class_names: Sequence[str] | None) -> str:
    """A line a split: images, classes, images a class (least, median, most), unlabelled images.

    Without `class_names` classes are numbered from 0.
    """
    head = f"{'':<10}{'images':>10}{'classes':>9}{'unlabelled':>12}   images a class"
    return "\n".join([head, *(_list_line(*item, class_names) for item in lists.items())])


def _list_line(split: str, listed: LabelList, class_names: Sequence[str] | None) -> str:
    if not listed.paths:
        return f"{split:<10}{0:>10}"
    labels = listed.labels
    counts = labels.sum(axis=0, dtype=np.int64)
    least, most = int(counts.argmin()), int(counts.argmax())
    name = (class_names or [f"class {i}" for i in range(len(counts))]).__getitem__
    unlabelled = int((~labels.any(axis=1)).sum())
    return (
        f"{split:<10}{len(labels):>10,}{labels.shape[1]:>9,}{unlabelled:>12,}   least "
        f"{counts[least]:,} ({name(least)}), median {np.median(counts):,.0f}, "
        f"most {counts[most]:,} ({name(most)})"
    )


def image_table(names: Sequence[str], facts: Sequence[ImageFacts], seconds: float) -> str:
    """How many images were checked, their bytes, the smallest and the largest, and the time."""
    good = [i for i, fact in enumerate(facts) if fact.reason is None]
    size = sum(fact.num_bytes for fact in facts)
    speed = len(facts) / seconds if seconds > 0 else 0
    counts = f"images: {len(facts):,} checked, {len(facts) - len(good):,} unreadable"
    lines = [f"{counts}; {size:,} bytes; {seconds:.1f} s, {speed:,.0f} images/s"]
    if good:
        by_area = sorted(good, key=lambda i: facts[i].width * facts[i].height)
        ends = (("smallest", by_area[0]), ("largest", by_area[-1]))
        told = (f"{what} {facts[i].width} x {facts[i].height} ({names[i]!r})" for what, i in ends)
        lines.append(", ".join(told))
    return "\n".join(lines)
