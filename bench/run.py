#!/usr/bin/env python
"""Measure the portal on the rigs of `make bench`; print the figures and write the report.

run.py [--only a,c] [--quick] [--report DIR]

a launches   b launches at once   c pages   d reconcile   e memory   f stream and terminal
g builds of images
"""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from bench import hands, report  # noqa: E402
from bench.building import measure_building  # noqa: E402
from bench.facts import read_facts, read_load  # noqa: E402
from bench.launches import measure_crowd, measure_launches  # noqa: E402
from bench.liveliness import measure_liveliness  # noqa: E402
from bench.memory import measure_memory  # noqa: E402
from bench.pages import measure_pages  # noqa: E402
from bench.reconciling import measure_reconcile  # noqa: E402
from bench.site import new_site  # noqa: E402

PARTS: dict[str, Callable[[Path, bool], list[report.Figure]]] = {
    "a": measure_launches,
    "b": measure_crowd,
    "c": measure_pages,
    "d": measure_reconcile,
    "e": measure_memory,
    "f": measure_liveliness,
    "g": measure_building,
}


def read_arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="run.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="parts, such as a,c")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a first look")
    parser.add_argument("--report", type=Path, default=ROOT / "var" / "bench", metavar="DIR")
    parser.add_argument("--keep", action="store_true", help="keep logs and databases")
    arguments = parser.parse_args()
    arguments.parts = list(arguments.only.replace(",", "")) or list(PARTS)
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return arguments


def main() -> int:
    """Run the parts; 1 when one could not be measured or a target was missed."""
    arguments = read_arguments()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # what was started is ended all the same
    logging.basicConfig(level=logging.WARNING)
    facts = read_facts()
    figures: list[report.Figure] = []
    troubles: list[report.Trouble] = []
    folder = Path(tempfile.mkdtemp(prefix="ds01-bench-"))
    folder.chmod(0o755)  # containers run as other users, whose workspaces are below
    try:
        with new_site(folder, "SQLite") as site:
            facts |= site.call(hands.read_engine)
            site.call(hands.clean_engine)
        for part in arguments.parts:
            begun = time.monotonic()
            try:
                figures += PARTS[part](folder, arguments.quick)
            except Exception as error:  # noqa: BLE001 - the other parts are still worth having
                traceback.print_exc()
                troubles.append(report.Trouble(part=part, error=f"{type(error).__name__}: {error}"))
            print(f"part {part}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    finally:
        if arguments.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    facts["load after"] = read_load()
    path = report.write(arguments.report, facts, figures, troubles)
    print("\n".join(f"{key}: {value}" for key, value in facts.items()), end="\n\n")
    print(report.as_text(figures), end="\n\n")
    missed = [one for one in figures if one.met is False]
    for trouble in troubles:
        print(f"part {trouble.part} could not be measured: {trouble.error}")
    print(f"{len(figures)} figures, {len(missed)} targets missed; report: {path}")
    return 1 if troubles or missed else 0


if __name__ == "__main__":
    sys.exit(main())
