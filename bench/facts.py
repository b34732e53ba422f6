"""What the machine is, so that figures can be compared. Not in charge of: measuring."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


def read_load() -> str:
    """Return the load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def read_facts() -> dict[str, str]:
    """Return the facts that need no engine and no database; call it before anything runs."""
    memory = int(_first("/proc/meminfo", "MemTotal").split()[0]) / 1024**2
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("django", "gunicorn", "uvloop", "docker", "psycopg")
    ]
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": _first("/proc/cpuinfo", "model name"),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.1f} GiB",
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": ", ".join(versions),
        "load before": read_load(),
    }
