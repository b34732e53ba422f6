"""Part e: memory of web and worker after they have done something and idle."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from bench import hands
from bench.launches import launch_and_wait, open_site
from bench.report import Figure, at_most
from bench.site import DATABASES, Site, new_site

IDLE = 8.0  # seconds


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread that has ended since
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def read_memory(pid: int) -> tuple[float, float]:
    """Return resident and proportional MB (of 10^6 bytes) of a process and all below it."""
    totals = {"Rss": 0, "Pss": 0}
    for one in tree(pid):
        for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, value = line.partition(":")
            if name in totals:
                totals[name] += int(value.split()[0]) * 1024
    return totals["Rss"] / 1e6, totals["Pss"] / 1e6


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and all below it have used."""
    ticks = 0
    for one in tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure_memory(folder: Path, quick: bool) -> list[Figure]:
    """Return the figures of both databases."""
    figures = []
    for database in DATABASES[: 1 if quick else 2]:
        with new_site(folder, database) as site:
            try:
                figures += _memory_of(site, database)
            finally:
                site.call(hands.clean_engine)
    return figures


def _memory_of(site: Site, database: str) -> list[Figure]:
    [person] = open_site(site, ["warm"])
    pk = launch_and_wait(person, "warm", 1).pk
    for path in ("/", "/images/", "/machine/", "/launch/", "/limits/", f"/containers/{pk}/"):
        for _ in range(3):
            person.browser.get(path)
    person.remove(pk)
    time.sleep(IDLE)
    figures = []
    resident = proportional = 0.0
    for name, process in site.processes.items():
        rss, pss = read_memory(process.pid)
        resident, proportional = resident + rss, proportional + pss
        figures.append(
            Figure(
                part="e",
                name=f"{name} idle, resident ({database})",
                value=rss,
                unit="MB",
                note=f"proportional (shared pages counted once): {pss:.0f} MB;"
                f" {len(tree(process.pid))} processes.",
            )
        )
    figures.append(
        Figure(
            part="e",
            name=f"web and worker idle, resident ({database})",
            value=resident,
            unit="MB",
            raw=proportional,
            raw_name="proportional",
            **at_most(resident, 220, "MB"),
        )
    )
    return figures
