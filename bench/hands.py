"""What is done in a process that stands on a site's database: people, raw containers, clean-up.

Called through `Site.call`; Django is set up there. Not in charge of: judging times.
"""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from bench.site import UIDS

if TYPE_CHECKING:
    from ds01portal.engine.base import ContainerSpec

DEMO = "ds01/demo-python:1"
TINY = "ds01/tiny:1"
# Hides raw containers from adoption, as the site's own scratch.
SCRATCH = {"aime.mlc.DS01_TEMP": "true"}
_specs: list[ContainerSpec] = []


def read_engine() -> dict[str, str]:
    """Return the engine's facts for the report."""
    from ds01portal.engine import get_engine

    info = get_engine().info()
    return {
        "engine": f"Docker {info.version}, API {info.api_version}, cgroup v{info.cgroup_version}"
        f" ({info.cgroup_driver})",
    }


def prepare_machine() -> int:
    """Make devices, facts of the engine, and the demo image known; return the image's key."""
    from catalog.services.images import allow_local_image
    from workspaces.services import devices, machine

    devices.sync_devices()
    machine.refresh_machine()
    return allow_local_image(reference=DEMO, actor=None).pk


def make_people(usernames: list[str], password: str, group: str = "student") -> None:
    """Make people who can sign in and whose limits do not stand in the way."""
    from ds01portal.limits import UNLIMITED
    from ds01portal.services.people import create_person
    from ds01portal.services.quotas import set_limits

    for username in usernames:
        person = create_person(username=username, group=group, password=password, actor=None)
        names = ("containers", "gpueq", "devices_per_container", "total_cpus", "total_memory")
        set_limits(
            subject=person,
            values={**dict.fromkeys(names, UNLIMITED), "cpus": 0.5, "memory": 256 * 1024**2},
            actor=None,
        )


def remember_specs(container_ids: list[str]) -> None:
    """Keep the specifications of running containers, as the portal itself builds them."""
    from ds01portal.engine import get_engine
    from workspaces.models import Container
    from workspaces.services.launches import prepare_spec

    engine = get_engine()
    _specs.clear()
    for pk in container_ids:
        row = Container.objects.select_related("owner", "image", "data", "models_folder").get(pk=pk)
        spec = prepare_spec(row, engine, engine.inspect_image(row.image_reference))
        _specs.append(dataclasses.replace(spec, labels={**spec.labels, **SCRATCH}))


def launch_raw(number: int) -> float:
    """Create and start one container of the same specification; return seconds; remove it."""
    seconds, engine_id = _create_and_start(number)
    from ds01portal.engine import get_engine

    get_engine().remove_container(engine_id, force=True)
    return seconds


def _create_and_start(number: int) -> tuple[float, str]:
    from ds01portal.engine import get_engine

    engine, spec = get_engine(), _specs[number % len(_specs)]
    named = dataclasses.replace(spec, name=f"raw{number}.{spec.name}")
    begun = time.monotonic()
    engine_id = engine.create_container(named)
    engine.start_container(engine_id)
    return time.monotonic() - begun, engine_id


def launch_raw_crowd(count: int, threads: int) -> float:
    """Create and start many at once; return the wall time in seconds; remove them."""
    from ds01portal.engine import get_engine

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: get_engine().ping(), range(threads)))  # connections are there
        begun = time.monotonic()
        made = list(pool.map(_create_and_start, range(count)))
        seconds = time.monotonic() - begun
        list(pool.map(lambda one: get_engine().remove_container(one[1], force=True), made))
    return seconds


def count_running(names: list[str]) -> dict[str, int]:
    """Return how many of the named containers run, by the rows and by the engine."""
    from ds01portal.engine import get_engine
    from ds01portal.engine.base import Observed
    from workspaces.models import Container

    listed = get_engine().list_containers()
    running = {one.name for one in listed if one.state is Observed.RUNNING}
    rows = Container.objects.filter(engine_name__in=running, state="running", name__in=names)
    return {"running": rows.count()}


def worker_threads() -> int:
    """Return how many operations a worker carries out at once."""
    from django.conf import settings

    return int(settings.DS01_WORKER_THREADS)


def announce_many(count: int, pause: float) -> list[float]:
    """Announce updates for everybody; return when each was committed (monotonic seconds)."""
    from ds01portal.services.events import announce_update

    committed = []
    for number in range(count):
        time.sleep(pause)
        announce_update(subject=f"bench:{number}", owner_id=None)
        committed.append(time.monotonic())
    return committed


def type_raw(container_id: str, keys: int) -> list[float]:
    """Type into a shell on the engine's own socket; return the seconds until each key's echo."""
    from workspaces.models import Container
    from workspaces.services.terminals import open_terminal

    row = Container.objects.select_related("owner").get(pk=container_id)
    assert row.owner is not None
    session = open_terminal(container=row, actor=row.owner, columns=80, rows=24)
    try:
        session.write(b"PS1=; stty -onlcr; echo re''ady\n")
        seen = b""
        while b"ready" not in seen:
            seen += session.read()
        times = []
        for _ in range(keys):
            begun = time.monotonic()
            session.write(b"x")
            while b"x" not in session.read():
                pass
            times.append(time.monotonic() - begun)
            time.sleep(0.005)
        return times
    finally:
        session.close()


def clean_engine() -> dict[str, Any]:
    """Remove every container, tag and network of the benchmark's people."""
    from ds01portal.engine import get_engine

    engine = get_engine()
    mine = [
        one
        for one in engine.list_containers()
        if one.labels.get("aime.mlc.DS01_UID", "").isdigit()
        and int(one.labels["aime.mlc.DS01_UID"]) in UIDS
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: engine.remove_container(one.id, force=True), mine))
    for image in engine.list_images():
        for tag in image.tags:
            _name, found, uid = tag.rpartition("._.")
            if found and uid.isdigit() and int(uid) in UIDS:
                engine.untag_image(tag)
    networks = [f"ds01-{uid}" for uid in UIDS]
    there = engine.list_networks(label="aime.mlc.DS01_NETWORK")
    left = [name for name in networks if name in there]
    for name in left:
        engine.remove_network_if_unused(name)
    return {"containers": len(mine), "networks": len(left)}
