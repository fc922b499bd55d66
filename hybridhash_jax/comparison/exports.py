"""The table of a comparison for other programs: CSV, and plain LaTeX."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_FIELDS = (
    "method",
    "title",
    "supervision",
    "bits",
    "mean",
    "deviation",
    "train_seconds",
    "encode_seconds",
    "images_encoded",
)


def to_csv(cells: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """One line a cell: what it is, mean and deviation, each seed's value, times, chosen values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIELDS, *(f"seed{seed}" for seed in seeds), "chosen"])
    for cell in cells:
        values = [cell["values"].get(str(seed), "") for seed in seeds]
        chosen = "; ".join(f"{name}={value}" for name, value in cell["chosen"].items())
        row = [*("" if cell[name] is None else cell[name] for name in _FIELDS), *values, chosen]
        writer.writerow([_harmless(field) for field in row])
    return text.getvalue()


def _harmless(field: Any) -> Any:
    """A text that no spreadsheet takes for a formula."""
    starts = isinstance(field, str) and field.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{field}" if starts else field


def to_latex(comparison: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> str:
    r"""A tabular that needs no package; `\input` it into a table.

    `blocks` are those of `table.make_blocks`; the deviation stands behind each mean.
    """
    lengths = comparison["lengths"]
    columns = len(lengths) + 1
    lines = [
        f"% {_one_line(comparison['title'])}: {comparison['measure']}, ties in the expectation,",
        f"% {_seeds(comparison['seeds'])}.",
        rf"\begin{{tabular}}{{l{'c' * len(lengths)}}}",
        r"\hline",
        " & ".join(["Method", *(f"{bits} bits" for bits in lengths)]) + r" \\",
    ]
    if comparison["cosine"]:
        value = f"{comparison['cosine']['map_expected']:.3f}"
        lines += [
            r"\hline",
            rf"Cosine of the features & \multicolumn{{{len(lengths)}}}{{c}}{{{value}}} \\",
        ]
    for block in blocks:
        lines += [
            r"\hline",
            rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{escape(block['name'])}}}}} \\",
        ]
        for row in block["rows"]:
            lines.append(" & ".join([escape(row["title"]), *map(_cell, row["cells"])]) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"mean and sample deviation over seeds {', '.join(map(str, seeds))}"


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "--"
    mean = f"{cell['mean']:.3f}"
    mean = rf"\textbf{{{mean}}}" if cell["leads"] else mean
    spread = "" if cell["deviation"] is None else rf" $\pm$ {cell['deviation']:.3f}"
    partly = f" ({cell['partly']})" if cell["partly"] else ""
    return f"{mean}{spread}{partly}"


def to_text(comparison: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> str:
    """The table in a terminal; * marks a lead that exceeds the deviations, ? seeds that are missing."""
    rows = [("", *(f"{bits} bits" for bits in comparison["lengths"]))]
    for block in blocks:
        rows.append((f"[{block['name']}]",))
        rows += [(row["title"], *map(_plain_cell, row["cells"])) for row in block["rows"]]
    if comparison["cosine"]:
        rows.insert(1, ("cosine of the features", f"{comparison['cosine']['map_expected']:.4f}"))
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:<{width}}" + "".join(f"{x:>18}" for x in row[1:]) for row in rows]
    if any("*" in line for line in lines):
        lines.append("* leads its group by more than both deviations")
    if any("?" in line for line in lines):
        lines.append("? of fewer seeds than asked for, so it leads nothing")
    return "\n".join([f"{comparison['title']}, {comparison['measure']}", *lines])


def _plain_cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "-"
    spread = "" if cell["deviation"] is None else f" +- {cell['deviation']:.4f}"
    return f"{cell['mean']:.4f}{spread}{'?' if cell['partly'] else '*' if cell['leads'] else ' '}"


def escape(text: str) -> str:
    """A text that LaTeX prints as it is."""
    return "".join(_LATEX.get(sign, sign) for sign in _one_line(text))


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", str(text))
