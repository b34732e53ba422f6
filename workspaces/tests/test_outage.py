"""Docker Engine goes away for a minute under running containers, and comes back.

Two portals at once, each with an engine of its own: one keeps containers alive while it is
down (`live-restore`), the other takes them with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from workspaces.tests.processes import (
    ROOT,
    ask_python,
    fresh_database,
    make_environment,
    run_python,
)

pytestmark = [pytest.mark.outage, pytest.mark.timeout(580)]
PLAYERS = "workspaces.tests.players"
PEOPLE, EACH = 4, 5
OUTAGE = 60  # seconds


def script(name: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run a rig's script and return what it printed."""
    done = subprocess.run(
        ["bash", str(ROOT / "deploy" / name), *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@dataclass
class Site:
    """A portal with an engine and a worker of its own."""

    folder: Path
    live_restore: bool
    environment: dict[str, str] = field(default_factory=dict)
    during: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    worker: subprocess.Popen[str] | None = None

    @property
    def rig(self) -> str:
        return str(self.folder / "engine")

    def open(self) -> None:
        """Start the engine, twenty containers and a worker."""
        flags = ["--live-restore"] if self.live_restore else []
        out = script("test_engine.sh", "start", self.rig, *flags)
        facts = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        script("demo_image.sh", "demo", environment=facts)
        self.environment = make_environment(
            fresh_database("sqlite", self.folder),
            self.folder,
            DS01_GPUS="simulated:8xA100-40GB",
            **facts,
        )
        run_python("manage", "migrate", "-v", "0", environment=self.environment)
        ask_python(PLAYERS, "prepare", str(PEOPLE + 1), environment=self.environment)
        ask_python(PLAYERS, "many", str(PEOPLE), str(EACH), environment=self.environment)
        with (self.folder / "worker.log").open("w") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "manage.py", "run_worker"],
                cwd=ROOT,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
            )

    def look(self) -> dict[str, Any]:
        return ask_python(PLAYERS, "look", environment=self.environment)

    def wait_until(self, what: str, good: Any, seconds: float = 90) -> dict[str, Any]:
        """Look until it is so."""
        end = time.monotonic() + seconds
        while True:
            seen = self.look()
            if good(seen):
                return seen
            assert time.monotonic() < end, f"{what} never came: {seen}"
            time.sleep(0.5)

    def close(self) -> None:
        try:
            if self.worker is not None:
                self.worker.send_signal(signal.SIGTERM)
                self.worker.wait(timeout=40)
        finally:
            if self.worker is not None:
                self.worker.kill()
            script("test_engine.sh", "wipe", self.rig)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Site]]:
    """Let both engines be away at the same time, and look before, during and after."""
    made = {
        restore: Site(folder=tmp_path_factory.mktemp(f"outage{restore}"), live_restore=restore)
        for restore in (True, False)
    }
    try:
        for site in made.values():
            site.open()
        for site in made.values():
            site.wait_until("twenty running", lambda seen: seen["states"] == {"running": 20})
        for site in made.values():
            script("test_engine.sh", "down", site.rig)
        away = time.monotonic()
        for site in made.values():
            site.wait_until("unreachable", lambda seen: not seen["reachable"])
            ask_python(PLAYERS, "ask", "meanwhile", "1", environment=_as_last(site))
        time.sleep(max(0.0, OUTAGE - (time.monotonic() - away)))
        for site in made.values():
            site.during = site.look()
            script("test_engine.sh", "up", site.rig)
        for site in made.values():
            site.after = site.wait_until(
                "the launch that was asked for meanwhile",
                lambda seen: seen["reachable"] and not seen["live operations"],
            )
        yield made
    finally:
        for site in made.values():
            site.close()


def _as_last(site: Site) -> dict[str, str]:
    return {**site.environment, "PLAYER": f"player{PEOPLE}"}


def test_with_live_restore_nothing_changes_and_nothing_is_freed(sites):
    site = sites[True]
    assert site.during["states"] == {"running": 20, "launching": 1}
    assert site.during["held"] == PEOPLE + 1
    assert site.during["unreachable_since"]
    assert site.after["states"] == {"running": 21}
    assert site.after["held"] == PEOPLE + 1
    assert site.after["failed operations"] == 0


def test_without_it_they_are_found_stopped_with_the_reason_and_their_devices_held(sites):
    site = sites[False]
    assert site.during["held"] == PEOPLE + 1
    after = site.wait_until(
        "the reasons", lambda seen: seen["history"] == 20 and seen["states"].get("stopped") == 20
    )
    assert after["states"] == {"stopped": 20, "running": 1}
    assert after["held"] == PEOPLE + 1
    assert after["holding"] == PEOPLE
    reason = "Docker Engine was stopped or restarted, and its containers with it."
    assert after["reasons"][reason] == 20
    assert after["failed operations"] == 0
