"""Part f, beyond the targets: how late the stream tells a change, how late a key is echoed."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from bench import hands
from bench.launches import Person, launch_and_wait, open_site
from bench.report import Figure, median, percentile
from bench.site import DATABASES, Site, new_site

KEYS = 100


def measure_liveliness(folder: Path, quick: bool) -> list[Figure]:
    """Return the figures; the stream's on both databases."""
    figures = []
    for database in DATABASES[: 1 if quick else 2]:
        with new_site(folder, database) as site:
            try:
                [person] = open_site(site, ["typist"])
                figures.append(_stream_latency(site, person, database))
                if database == DATABASES[0]:
                    figures.append(_terminal(site, person))
            finally:
                site.call(hands.clean_engine)
    return figures


def _stream_latency(site: Site, person: Person, database: str) -> Figure:
    committed = site.call(hands.announce_many, KEYS, 0.037)
    late = []
    for number, moment in enumerate(committed):
        came = person.stream.wait_for(partial(_is_about, f"bench:{number}"), patience=5)
        late.append((came - moment) * 1000)
    return Figure(
        part="f",
        name=f"a commit to the stream's event ({database}), median",
        value=median(late),
        unit="ms",
        samples=late,
        note=f"p95 {percentile(late, 0.95):.0f} ms of {len(late)}.",
    )


def _is_about(subject: str, event: dict[str, Any]) -> bool:
    return bool(event["subject"] == subject)


def _terminal(site: Site, person: Person) -> Figure:
    pk = launch_and_wait(person, "typing", 0).pk
    time.sleep(1)
    raw = [seconds * 1000 for seconds in site.call(hands.type_raw, pk, KEYS)]
    with connect(
        f"ws://127.0.0.1:{site.port}/ws/containers/{pk}/terminal",
        origin=f"http://127.0.0.1:{site.port}",  # type: ignore[arg-type]
        additional_headers={"Cookie": person.browser.headers["Cookie"]},
        compression=None,
    ) as line:
        line.send(json.dumps({"type": "resize", "cols": 80, "rows": 24}))
        line.send(b"PS1=; stty -onlcr; echo re''ady\n")
        _read_until(line, b"ready")
        times = []
        for _ in range(KEYS):
            begun = time.monotonic()
            line.send(b"x")
            _read_until(line, b"x")
            times.append((time.monotonic() - begun) * 1000)
            time.sleep(0.005)
    return Figure(
        part="f",
        name="a key's echo in the terminal, median",
        value=median(times),
        unit="ms",
        raw=median(raw),
        raw_name="exec socket",
        samples=times,
        note=f"p95 {percentile(times, 0.95):.1f} ms of {len(times)}.",
    )


def _read_until(line: ClientConnection, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        frame = line.recv(timeout=20)
        if isinstance(frame, bytes):
            seen += frame
