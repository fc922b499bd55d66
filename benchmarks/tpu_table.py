"""The table of what `benchmarks.tpu_compile` recorded, as docs/pods.md has it."""

from typing import Any

_TOLD = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute")


def table(record: dict[str, Any]) -> str:
    """Markdown, a row a cell of the record."""
    columns = (
        "chips", "network", "program", "images a chip", "layout", "remat", "memory a chip",
        "estimated cycles", "gathered", "summed", "summed into parts",
        "passed on", "compiled in",
    )  # fmt: skip
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for own in record["cells"].values():
        cell = own["cell"]
        kind, _, shape = cell["topology"].partition(":")
        row = [f"{own['chips']} x TPU {kind} ({shape})", cell["variant"], cell["program"]]
        row.append(cell["images_per_chip"])
        row += [_layout(own["mesh"]), cell["remat"]]
        if own["fits"]:
            row.append(f"{sum(own['memory_bytes'].values()) / 2**30:.2g} GiB")
            row.append(f"{own['estimated_cycles'] / 1e6:.0f} million")
            row += [_sent(own, kind) for kind in _TOLD]
            row.append(f"{own['compile_core_seconds']:.0f} s")
        else:
            row += [f"**does not fit**: {own['needed_bytes'] / 2**30:.1f} GiB", *["-"] * 6]
        rows.append(f"| {' | '.join(str(x) for x in row)} |")
    return "\n".join(rows)


def _layout(mesh: dict[str, int]) -> str:
    """The axis that all chips are on, or both with their sizes."""
    if mesh["fsdp"] == 1:
        return "data"
    return "fsdp" if mesh["data"] == 1 else f"data {mesh['data']} x fsdp {mesh['fsdp']}"


def _sent(own: dict[str, Any], kind: str) -> str:
    """Megabytes by the type of numbers and how many messages, as "111.2 MB bf16 in 2"."""
    rows = [row for row in own["collectives"] if row["kind"] == kind]
    large = [row for row in rows if row["bytes"] >= 50_000]
    texts = [
        f"{row['bytes'] / 1e6:.1f} MB {'+'.join(row['types'])} in {row['messages']}"
        for row in large
    ]
    if small := [row for row in rows if row not in large]:
        texts.append(f"{sum(row['messages'] for row in small)} small")
    return ", ".join(texts) or "-"
