"""Parts a and b: launches through HTTP beside the same containers made on the engine alone."""

from __future__ import annotations

import secrets
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench import hands
from bench.client import Browser, Stream
from bench.report import Figure, at_most, median, percentile
from bench.site import DATABASES, Site, new_site

PASSWORD = secrets.token_urlsafe(12)
SETTLE = 0.6  # seconds in which the worker has looked at what the engine told


@dataclass
class Person:
    """Somebody signed in, with a page open."""

    browser: Browser
    stream: Stream
    image: int

    def launch(self, name: str, gpus: int) -> tuple[str, float, float]:
        """Send the launch form; return the container's key, and when it was sent and answered."""
        fields = {
            "image": str(self.image),
            "name": name,
            "gpus": str(gpus),
            "request_key": str(uuid.uuid4()),
        }
        answer = self.browser.post("/launch/", fields)
        return answer.location.rstrip("/").rpartition("/")[2], answer.sent, answer.seconds

    def remove(self, pk: str) -> None:
        """Ask for the removal and wait for its end."""
        self.browser.post(f"/containers/{pk}/do/remove/", {})
        self.stream.wait_for_state(pk, "removed")


def sign_in(site: Site, username: str, image: int) -> Person:
    """Sign in and open a page's stream."""
    browser = Browser(site.port).sign_in(username, PASSWORD)
    return Person(browser, Stream(browser), image)


def open_site(site: Site, usernames: list[str]) -> list[Person]:
    """Make people, start web and worker, sign in."""
    image = site.call(hands.prepare_machine)
    site.call(hands.make_people, usernames, PASSWORD)
    site.start(worker=True)
    return [sign_in(site, name, image) for name in usernames]


@dataclass(frozen=True)
class Launched:
    """A launch that came up: seconds from POST to `running`, and to each step before."""

    pk: str
    seconds: float
    steps: dict[str, float]


def launch_and_wait(person: Person, name: str, gpus: int) -> Launched:
    """Launch and wait until the stream says `running`."""
    pk, sent, answered = person.launch(name, gpus)
    came = person.stream.wait_for_state(pk, "running")
    phases = {phase: moment - sent for phase, moment in person.stream.phases(pk).items()}
    return Launched(pk, came - sent, {"answered": answered, **phases})


def measure_launches(folder: Path, quick: bool) -> list[Figure]:
    """Part a, on both databases."""
    figures: list[Figure] = []
    for database in DATABASES[: 1 if quick else 2]:
        with new_site(folder, database) as site:
            try:
                figures += _single_launches(site, database, 5 if quick else 15)
            finally:
                site.call(hands.clean_engine)
    return figures


def _single_launches(site: Site, database: str, count: int) -> list[Figure]:
    solo, settled = open_site(site, ["solo", "settled"])
    template = launch_and_wait(settled, "template", 1)
    solo.remove(launch_and_wait(solo, "warm", 1).pk)
    site.call(hands.remember_specs, [template.pk])
    raw: list[float] = []
    first: list[float] = []
    beside: list[float] = []
    steps: defaultdict[str, list[float]] = defaultdict(list)
    site.call(hands.launch_raw, 999)  # a warm-up
    for number in range(count):
        with site.standing_still():
            raw.append(site.call(hands.launch_raw, number) * 1000)
        time.sleep(SETTLE)
        for person, times in ((settled, beside), (solo, first)):
            person.stream.forget()
            launched = launch_and_wait(person, f"run{number}", 1)
            times.append(launched.seconds * 1000)
            for name, seconds in launched.steps.items():
                steps[name].append(seconds * 1000)
            person.remove(launched.pk)
            time.sleep(SETTLE)
    peer = median(raw)
    common = {"part": "a", "unit": "ms", "raw": peer, "raw_name": "create+start"}
    order = sorted(steps, key=lambda step: median(steps[step]))
    path = ", ".join(f"{step} {median(steps[step]):.0f}" for step in order)
    figures = []
    for name, times in (("a further container", beside), ("a first one, network too", first)):
        over = median(times) - peer
        figures.append(
            Figure(
                name=f"launch, POST to running, {name} ({database}), median",
                value=median(times),
                samples=times,
                note=f"p95 {percentile(times, 0.95):.0f} ms, {len(times)} launches with one GPU."
                f" Steps of all, told after (ms, median): {path}.",
                **common,
            )
        )
        figures.append(
            Figure(
                part="a",
                name=f"launch minus raw, {name} ({database})",
                value=over,
                unit="ms",
                **at_most(over, 100, "ms"),
            )
        )
    return figures


def measure_crowd(folder: Path, quick: bool) -> list[Figure]:
    """Part b."""
    with new_site(folder, "SQLite") as site:
        try:
            return _crowd(site, 8 if quick else 20, 1 if quick else 3)
        finally:
            site.call(hands.clean_engine)


def _crowd(site: Site, count: int, rounds: int) -> list[Figure]:
    usernames = [f"crowd{number}" for number in range(4)]
    people = open_site(site, usernames)
    templates = [launch_and_wait(person, "template", 0).pk for person in people]
    site.call(hands.remember_specs, templates)
    threads = site.call(hands.worker_threads)
    raw: list[float] = []
    wall: list[float] = []
    lost = 0
    for number in range(rounds):
        with site.standing_still():
            raw.append(site.call(hands.launch_raw_crowd, count, threads))
        time.sleep(2)
        seconds, missing = _launch_crowd(site, people, count, number)
        wall.append(seconds)
        lost += missing
        time.sleep(2)
    ratio = median(wall) / median(raw)
    return [
        Figure(
            part="b",
            name=f"{count} launches at once, wall time (median of {rounds})",
            value=median(wall),
            unit="s",
            raw=median(raw),
            raw_name=f"raw, {threads} threads",
            samples=wall,
            target="≤ 1.25 × raw",
            met=ratio <= 1.25,
        ),
        Figure(
            part="b",
            name=f"launches lost of {count * rounds}",
            value=lost,
            unit="",
            target="0",
            met=lost == 0,
        ),
    ]


def _launch_crowd(site: Site, people: list[Person], count: int, number: int) -> tuple[float, int]:
    """Send all forms at once; return the wall time to the last `running`, and how many are lost."""
    image = people[0].image
    senders = []
    for index in range(count):
        person = people[index % len(people)]
        browser = Browser(site.port)
        browser.cookies = dict(person.browser.cookies)
        browser.get("/healthz")  # the connection is there
        senders.append((person, Person(browser, person.stream, image), f"r{number}n{index}"))
    begun = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        sent = list(pool.map(lambda one: (one[0], one[1].launch(one[2], 0)[0]), senders))
    came = [person.stream.wait_for_state(pk, "running", patience=120) for person, pk in sent]
    wall = max(came) - begun
    running = site.call(hands.count_running, [one[2] for one in senders])["running"]
    for person, pk in sent:
        person.browser.post(f"/containers/{pk}/do/remove/", {})
    for person, pk in sent:
        person.stream.wait_for_state(pk, "removed", patience=120)
    return wall, count - running
