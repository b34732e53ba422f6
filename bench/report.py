"""Figures and the report made of them. Not in charge of: measuring."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value beside its peer of the same run. `met` None: there is no target."""

    part: str
    name: str
    value: float
    unit: str
    raw: float | None = None
    raw_name: str = ""
    target: str = ""
    met: bool | None = None
    note: str = ""
    samples: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """How many times the peer's value."""
        return self.value / self.raw if self.raw else None

    @property
    def verdict(self) -> str:
        """The target's end in a word."""
        return {True: "met", False: "MISSED", None: ""}[self.met]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A part that could not be measured."""

    part: str
    error: str


def at_most(value: float, limit: float, unit: str) -> dict[str, Any]:
    """Return the target's fields of a figure that must not be above `limit`."""
    return {"target": f"≤ {limit:g} {unit}", "met": value <= limit}


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least `share` of all are not above (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]


def median(samples: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(samples)


def number(value: float | None) -> str:
    """Write a value with about three digits that mean something."""
    if value is None:
        return "–"
    size = abs(value)
    if value == int(value) and size < 1e6:
        return f"{value:.0f}"
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


HEAD = ("", "figure", "value", "peer", "ratio", "target", "")


def rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Return the table's cells."""
    return [
        (
            one.part,
            one.name,
            f"{number(one.value)} {one.unit}".strip(),
            f"{number(one.raw)} {one.unit} {one.raw_name}".strip() if one.raw is not None else "–",
            f"{one.ratio:.2f}" if one.ratio is not None else "–",
            one.target or "–",
            one.verdict,
        )
        for one in figures
    ]


def as_text(figures: Sequence[Figure]) -> str:
    """Return the table for a terminal."""
    table = [HEAD, *rows(figures)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
    return "\n".join(lines)


def as_markdown(
    facts: dict[str, str], figures: Sequence[Figure], troubles: Sequence[Trouble]
) -> str:
    """Return the whole report."""
    lines = ["# Benchmark", "", "| machine | |", "| --- | --- |"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    lines += ["", f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows(figures)]
    notes = [f"* **{one.part}** {one.name}: {one.note}" for one in figures if one.note]
    if notes:
        lines += ["", "## Notes", "", *notes]
    if troubles:
        lines += ["", "## Not measured", ""]
        lines += [f"* **{one.part}**: {one.error}" for one in troubles]
    return "\n".join([*lines, ""])


def write(
    folder: Path, facts: dict[str, str], figures: Sequence[Figure], troubles: Sequence[Trouble]
) -> Path:
    """Write report.md and report.json; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "machine": facts,
        "figures": [{**asdict(one), "ratio": one.ratio} for one in figures],
        "not_measured": [asdict(one) for one in troubles],
    }
    (folder / "report.json").write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    path = folder / "report.md"
    path.write_text(as_markdown(facts, figures, troubles))
    return path
