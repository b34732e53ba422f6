"""Real processes on a real database: fresh databases, environments, players, workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]


def fresh_database(kind: str, folder: Path) -> str:
    """Return the URL of a new, empty database; a missing PostgreSQL is a failure."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'race.sqlite3'}"
    server = os.environ.get("DS01_TEST_DATABASE_URL")
    if not server:
        pytest.fail("DS01_TEST_DATABASE_URL is not set: run `make test`, which starts one.")
    name = f"race_{uuid.uuid4().hex[:10]}"
    parts = urlsplit(server)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return urlunsplit(parts._replace(path=f"/{name}"))


def make_environment(database: str, folder: Path, **more: str) -> dict[str, str]:
    """Return an environment for portal processes that touch only `folder` and the database."""
    for name in ("state", "workspaces"):
        (folder / name).mkdir(exist_ok=True)
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "ds01portal.settings",
        "DEBUG": "1",
        "DATABASE_URL": database,
        "DS01_STATE_DIR": str(folder / "state"),
        "DS01_WORKSPACE_ROOT": str(folder / "workspaces"),
        "DS01_DISK_FLOOR": "0",
        "MLC_ARCH": "CUDA_ADA",
        "LOG_LEVEL": "ERROR",
        **more,
    }


def start_python(
    module: str, *arguments: str, environment: dict[str, str]
) -> subprocess.Popen[str]:
    """Start a module as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_python(module: str, *arguments: str, environment: dict[str, str]) -> str:
    """Run a module to its end and return what it printed; its failure is the test's."""
    process = start_python(module, *arguments, environment=environment)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, f"{module} {arguments}: {err[-3000:]}"
    return out


def ask_python(module: str, *arguments: str, environment: dict[str, str]) -> dict[str, object]:
    """Run a module and return the JSON of its last line."""
    answer: dict[str, object] = json.loads(
        run_python(module, *arguments, environment=environment).strip().splitlines()[-1]
    )
    return answer
