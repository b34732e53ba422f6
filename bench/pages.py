"""Part c: how long pages take on a large database, and how many queries each makes."""

from __future__ import annotations

import secrets
from pathlib import Path

from bench import hands, seeding
from bench.client import Browser
from bench.memory import cpu_seconds
from bench.report import Figure, at_most, median, percentile
from bench.site import DATABASES, Site, new_site

PASSWORD = secrets.token_urlsafe(12)
VIEWER, BUSY, ADMIN = "viewer", "busy", "chief"
BUSY_LIST = "dashboard of 20 containers"
ADMIN_LIST = "container admin list"
PAGES = {"dashboard": "/", BUSY_LIST: "/", "catalogue": "/images/", "machine": "/machine/"}
ADMIN_PAGES = {ADMIN_LIST: "/admin/workspaces/container/"}
FURTHER = {"launch form": "/launch/", "limits": "/limits/"}
FURTHER_ADMIN = {"event admin list": "/admin/ds01portal/event/"}
# Below what one page shows, so that a query for each row would be seen.
SMALL = {"people": 5, "containers": 12, "events": 20, "own": {VIEWER: 1, BUSY: 2}}
LARGE = {"people": 500, "containers": 2_000, "events": 200_000, "own": {VIEWER: 4, BUSY: 20}}
WARM_UP = 5  # requests


def measure_pages(folder: Path, quick: bool) -> list[Figure]:
    """Return the figures of both databases."""
    figures = []
    for database in DATABASES:
        with new_site(folder, database) as site:
            figures += _pages_on(site, database, 20 if quick else 80)
    return figures


def _pages_on(site: Site, database: str, count: int) -> list[Figure]:
    site.call(hands.prepare_machine)
    site.call(hands.make_people, [VIEWER, BUSY], PASSWORD)
    site.call(hands.make_people, [ADMIN], PASSWORD, "admin")
    paths = {**PAGES, **ADMIN_PAGES, **FURTHER, **FURTHER_ADMIN}
    people = {name: ADMIN if path.startswith("/admin/") else VIEWER for name, path in paths.items()}
    people |= {BUSY_LIST: BUSY, "container page": VIEWER}
    queries = {}
    for size, totals in (("small", SMALL), ("large", LARGE)):
        site.call(seeding.seed, **totals, whole_catalogue=size == "large")
        own = {"container page": site.call(seeding.address_of_own, VIEWER)}
        queries[size] = site.call(seeding.count_queries, {**paths, **own}, people)
    site.start(worker=False)
    browsers = {name: Browser(site.port).sign_in(name, PASSWORD) for name in (VIEWER, BUSY, ADMIN)}
    peer = median(_time(browsers[VIEWER], "/healthz", count))
    figures = []
    for name, path in {**paths, **own}.items():
        before = cpu_seconds(site.processes["web"].pid)
        times = _time(browsers[people[name]], path, count)
        cpu = (cpu_seconds(site.processes["web"].pid) - before) * 1000 / (count + WARM_UP)
        counts = queries["small"][name], queries["large"][name]
        figures += _figures_of(name, database, times, cpu, peer, *counts)
    return figures


def _time(browser: Browser, path: str, count: int) -> list[float]:
    """Return the milliseconds of `count` requests after a few that warm up."""
    for _ in range(WARM_UP):
        browser.get(path)
    return [browser.get(path).seconds * 1000 for _ in range(count)]


def _figures_of(
    name: str,
    database: str,
    times: list[float],
    cpu: float,
    peer: float,
    small: int,
    large: int,
) -> list[Figure]:
    p95 = percentile(times, 0.95)
    asked = name in PAGES or name in ADMIN_PAGES
    return [
        Figure(
            part="c",
            name=f"{name}, p95 ({database})",
            value=p95,
            unit="ms",
            raw=peer,
            raw_name="/healthz p50",
            samples=times,
            note=f"p50 {median(times):.1f} ms, {len(times)} requests;"
            f" {cpu:.0f} ms of processor time each.",
            **(at_most(p95, 100, "ms") if asked else {}),
        ),
        Figure(
            part="c",
            name=f"{name}, queries ({database})",
            value=large,
            unit="",
            raw=small,
            raw_name="on few rows",
            target="constant" if asked else "",
            met=large == small if asked else None,
        ),
    ]
