#!/usr/bin/env python3
"""Print "PASSED FAILED" for one pytest run: junit_counts.py REPORT EXITCODE.

A skipped test counts as failed; so does a run without a test, a run that broke off, and a run that
pytest calls failed although no single test did. Needs no package, is not a test itself.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def count_results(report: Path, exit_code: int) -> tuple[int, int]:
    """Return (passed, failed) and name on stderr what is not a plain failure."""
    try:
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError) as error:
        print(f"no report of this suite: {error}", file=sys.stderr)
        return 0, 1
    cases = [case for suite in suites for case in suite.iter("testcase")]
    skipped = [case for case in cases if case.find("skipped") is not None]
    failed = [case for case in cases if case.find("failure") is not None]
    broken = [case for case in cases if case.find("error") is not None]
    for case in skipped:
        print(f"skipped: {case.get('classname')}::{case.get('name')}", file=sys.stderr)
    # A test whose teardown broke stands twice in some reports; names make it one.
    bad = {(case.get("classname"), case.get("name")) for case in (*failed, *broken, *skipped)}
    every = {(case.get("classname"), case.get("name")) for case in cases}
    if not every:
        print("this suite ran no test", file=sys.stderr)
        return 0, 1
    if exit_code != 0 and not bad:
        print(f"pytest ended with {exit_code} although no test failed", file=sys.stderr)
        return len(every), 1
    return len(every) - len(bad), len(bad)


if __name__ == "__main__":
    print(*count_results(Path(sys.argv[1]), int(sys.argv[2])))
