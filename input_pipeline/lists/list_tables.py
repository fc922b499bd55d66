"""What is in lists of images, as text."""

from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.lists.label_lists import LabelList
from input_pipeline.messages import one_line


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
    names = class_names or [f"class {i}" for i in range(len(counts))]
    unlabelled = int((~labels.any(axis=1)).sum())
    return (
        f"{split:<10}{len(labels):>10,}{labels.shape[1]:>9,}{unlabelled:>12,}   least "
        f"{counts[least]:,} ({one_line(names[least])}), median {np.median(counts):,.0f}, "
        f"most {counts[most]:,} ({one_line(names[most])})"
    )
