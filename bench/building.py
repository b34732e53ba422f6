"""Part g: builds beside `docker build` of the same Dockerfile, the live log, the Dockerfile.

Both builds run on one engine from one base, in which pip is told of a wheelhouse on this machine,
so that the Dockerfile is the same to the byte. The log is timed from the moment that a program in
the build says in its own line until the line is read from a viewer's stream.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from bench import building_hands, hands
from bench.client import Browser
from bench.report import Figure, at_most, median, percentile
from bench.site import DATABASES, Site, new_site, required
from catalog.tests.wheelhouse import Wheelhouse

PASSWORD = secrets.token_urlsafe(12)
OWNER = "builder"
BASE = "bench/base:1"
PEER = "bench/peer"
SETTLE = 0.6  # seconds in which the worker ends what it does after a build
VIEWERS = 20
WHEEL_BYTES = 6_000_000
RECIPE = {
    "base": {"kind": "reference", "reference": BASE},
    "jupyter": {"choice": "own", "packages": ["lab>=4"]},
    "data_science": {"choice": "own", "packages": ["frames>=2,<3", "plots"]},
    "requirements": "models[fast]>=1.0,<2\ntraining!=3.1\n",
    "environment": {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
}
# The viewers come while it sleeps.
TALK = (
    "import time; time.sleep(4); "
    "[(print('stamp', time.time(), flush=True), time.sleep(0.12)) for _ in range({count})]"
)
_STAMP = re.compile(rb"stamp ([0-9]+\.[0-9]+)")


def measure_building(folder: Path, quick: bool) -> list[Figure]:
    """Return all figures; those of the log on both databases."""
    figures: list[Figure] = []
    with serve_packages():
        for database in DATABASES[: 1 if quick else 2]:
            with new_site(folder, database) as site:
                try:
                    _open(site)
                    if database == DATABASES[0]:
                        figures += _builds(site, 2 if quick else 5)
                        figures += _dockerfile(site)
                    figures.append(_log(site, database, 20 if quick else 60))
                finally:
                    site.call(building_hands.clean_builds)
    return figures


def _open(site: Site) -> None:
    site.call(building_hands.prepare_builds, BASE)
    site.call(hands.make_people, [OWNER], PASSWORD)
    site.call(building_hands.lift_limits, OWNER)
    site.start(worker=True)


def docker(*arguments: str, stdin: str = "") -> None:
    """Run the docker command with its classic builder; raise with what it said."""
    done = subprocess.run(
        ["docker", "-H", required("DS01_TEST_DOCKER_HOST"), *arguments],
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"docker {arguments[0]}: {(done.stdout + done.stderr)[-2000:]}")


@contextmanager
def serve_packages() -> Iterator[None]:
    """Serve wheels of some megabytes, and make the base whose pip knows where."""
    with Wheelhouse(docker_host=required("DS01_TEST_DOCKER_HOST")) as house:
        house.add("lab", "4.2", size=WHEEL_BYTES)
        house.add("frames", "2.3", requires=["arrays>=1"], size=WHEEL_BYTES)
        house.add("arrays", "1.26", size=WHEEL_BYTES)
        house.add("plots", "3.9", requires=["arrays"], size=WHEEL_BYTES)
        house.add("models", "1.4", extras={"fast": ["kernels"]}, size=WHEEL_BYTES)
        house.add("kernels", "0.9", size=WHEEL_BYTES)
        house.add("training", "3.0", size=WHEEL_BYTES)
        told = f"[global]\\nindex-url = {house.url}\\ntrusted-host = {house.host}\\n"
        docker(
            *("build", "-t", BASE, "-"),
            stdin=f"FROM {hands.DEMO}\nRUN printf '{told}' > /etc/pip.conf\n",
        )
        try:
            yield
        finally:
            docker("image", "rm", BASE)


def _builds(site: Site, rounds: int) -> list[Figure]:
    dockerfile = site.call(building_hands.write_recipe, OWNER, "thesis", RECIPE)
    peer = iter(range(1000))  # numbers of the tags
    try:
        # The first of each is a warm-up: what fills caches here would be told as their price.
        cold = [_pair(site, dockerfile, next(peer), fresh=True) for _ in range(rounds + 1)]
        warm = [_pair(site, dockerfile, next(peer), fresh=False) for _ in range(3 * rounds + 1)]
    finally:
        for number in range(next(peer)):
            docker("image", "rm", f"{PEER}:{number}")
    return [_ratio("cold", cold[1:]), _ratio("warm", warm[1:])]


def _pair(site: Site, dockerfile: str, number: int, *, fresh: bool) -> tuple[float, float]:
    """Return the seconds of a build through the portal and of one beside it; who begins changes."""
    raw = _raw(site, dockerfile, number, fresh=fresh) if number % 2 else 0.0
    mine = site.call(building_hands.build_through_portal, OWNER, "thesis", fresh=fresh)
    time.sleep(SETTLE)
    return mine, raw or _raw(site, dockerfile, number, fresh=fresh)


def _raw(site: Site, dockerfile: str, number: int, *, fresh: bool) -> float:
    with site.standing_still():
        seconds = _docker_build(dockerfile, number, fresh=fresh)
    time.sleep(SETTLE)
    return seconds


def _docker_build(dockerfile: str, number: int, *, fresh: bool) -> float:
    again = ["--no-cache"] if fresh else []
    begun = time.monotonic()
    docker("build", *again, "-t", f"{PEER}:{number}", "-", stdin=dockerfile)
    return time.monotonic() - begun


def _ratio(kind: str, pairs: list[tuple[float, float]]) -> Figure:
    times, raw = [mine for mine, _ in pairs], [peer for _, peer in pairs]
    over = median(times) / median(raw)
    # A machine that gets slower meanwhile does so for both of a pair.
    paired = median([mine / peer for mine, peer in pairs])
    said = "everything anew" if kind == "cold" else "every layer there"
    return Figure(
        part="g",
        name=f"a build of 7 packages in 3 layers, {kind} ({said}), median",
        value=median(times),
        unit="s",
        raw=median(raw),
        raw_name="docker build",
        samples=times,
        target="≤ 1.05 × docker build",
        met=over <= 1.05,
        note=f"{len(times)} builds each, in turn, {paired:.2f} × pair by pair (median);"
        " from the request to the stored version.",
    )


def _dockerfile(site: Site) -> list[Figure]:
    cold, edited = site.call(building_hands.time_dockerfile, 100)
    name = f"Dockerfile of {building_hands.LINES} packages"
    return [
        Figure(
            part="g",
            name=f"{name}, from the form with one line edited, median",
            value=median(edited),
            unit="ms",
            samples=edited,
            note=f"p95 {percentile(edited, 0.95):.1f} ms of {len(edited)}; reading, plan and text.",
            **at_most(median(edited), 5, "ms"),
        ),
        Figure(
            part="g",
            name=f"{name}, every line read for the first time, median",
            value=median(cold),
            unit="ms",
            samples=cold,
            note="Most of it is PEP 508: each line is read once in a process.",
        ),
    ]


class Viewer(threading.Thread):
    """A page that watches a build's log: notes how late each stamped line came, in ms."""

    def __init__(self, browser: Browser, build: str) -> None:
        super().__init__(daemon=True)
        self.late: list[float] = []
        self._connection = HTTPConnection("127.0.0.1", browser.port, timeout=60)
        headers = {**browser.headers, "Accept": "text/event-stream"}
        self._connection.request("GET", f"/builds/{build}/output/", headers=headers)
        self._response = self._connection.getresponse()
        if self._response.status != 200:
            raise RuntimeError(f"the log: {self._response.status}")

    def run(self) -> None:
        """Read until the build has ended."""
        try:
            while line := self._response.readline():
                came = time.time()
                self.late += [(came - float(stamp)) * 1000 for stamp in _STAMP.findall(line)]
                if line.startswith(b"event: end"):
                    return
        except (OSError, HTTPException) as error:
            print(f"a viewer was cut off: {error}")
        finally:
            self._connection.close()


def _log(site: Site, database: str, count: int) -> Figure:
    browser = Browser(site.port).sign_in(OWNER, PASSWORD)
    line = f'python3 -c "{TALK.format(count=count)}"'
    content = {"base": RECIPE["base"], "post_install": [line]}
    site.call(building_hands.write_recipe, OWNER, "talking", content)
    build = site.call(building_hands.ask_for_build, OWNER, "talking")
    site.call(building_hands.await_step, build)
    viewers = [Viewer(browser, build) for _ in range(VIEWERS)]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join(120)
    late = [moment for viewer in viewers for moment in viewer.late]
    if len(late) != VIEWERS * count:
        raise RuntimeError(f"{len(late)} lines came to {VIEWERS} viewers, not {VIEWERS * count}")
    return Figure(
        part="g",
        name=f"a log line, engine to {VIEWERS} browsers ({database}), p95",
        value=percentile(late, 0.95),
        unit="ms",
        samples=late,
        note=f"median {median(late):.0f} ms, worst {max(late):.0f} ms of {len(late)}.",
        **at_most(percentile(late, 0.95), 300, "ms"),
    )
