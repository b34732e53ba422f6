"""Fixtures that every suite shares: people, a machine with simulated devices, both engines.

Alice owns, Bob is in her group, Charlie is a stranger. The fake engine stands in only for
Docker; `real_engine` is the private test engine of the rigs, and a missing rig is a failure.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group

from catalog.models import Image
from ds01portal.engine import get_engine, reset_engine, set_engine
from ds01portal.engine.base import ContainerEngine
from ds01portal.engine.fake import FakeEngine
from ds01portal.models import Person
from workspaces.models import Container, Device
from workspaces.services import carrying, containers, devices, launch_images, machine, requests

DEMO_IMAGE = "ds01/demo-python:1"
PASSWD = b"root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n"
GPUS = "simulated:4xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the second database be tried with the tests that use one."""
    parser.addoption(
        "--database-only", action="store_true", help="run only tests that use the database"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests to which it is all one which database there is."""
    if not config.getoption("--database-only"):
        return
    kept = [item for item in items if _uses_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def _uses_database(item: pytest.Item) -> bool:
    if item.get_closest_marker("any_database"):
        return False
    fixtures = set(getattr(item, "fixturenames", ()))
    return bool(item.get_closest_marker("django_db") or fixtures & {"db", "transactional_db"})


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, settings: Any) -> None:
    """Keep every test away from the developer's files and settings."""
    (tmp_path / "workspaces").mkdir()
    settings.DS01_STATE_DIR = str(tmp_path / "state")
    settings.DS01_WORKSPACE_ROOT = str(tmp_path / "workspaces")
    settings.DS01_SHARED_ROOTS = [str(tmp_path / "shared")]
    settings.DS01_DISK_FLOOR = 0
    settings.DS01_NETWORK_RANGE = "10.213.0.0/16"
    settings.DS01_GPUS = GPUS
    settings.MLC_ARCH = "CUDA_ADA"
    settings.AIME_CATALOG = ""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


def make_person(username: str, group: str, uid: int, **values: Any) -> Person:
    """Make a person with an identity in a group."""
    person = Person.objects.create_user(
        username=username,
        email=f"{username}@example.org",
        password="correct horse battery",
        uid=uid,
        gid=uid,
        linux_name=username,
        **values,
    )
    person.groups.add(Group.objects.get(name=group))
    return person


@pytest.fixture
def alice(db: None) -> Person:
    """A student, the owner."""
    return make_person("alice", "student", 200001)


@pytest.fixture
def bob(db: None) -> Person:
    """A student too."""
    return make_person("bob", "student", 200002)


@pytest.fixture
def charlie(db: None) -> Person:
    """A researcher, a stranger to both."""
    return make_person("charlie", "researcher", 200003)


@pytest.fixture
def admin_person(db: None) -> Person:
    """An admin."""
    return make_person("ada", "admin", 200009, is_staff=True, is_superuser=True)


@pytest.fixture
def fake_engine() -> Iterator[FakeEngine]:
    """An engine in memory with the demo image on it."""
    engine = FakeEngine()
    engine.add_image(DEMO_IMAGE, files={"/etc/passwd": PASSWD, "/etc/group": b"root:x:0:\n"})
    set_engine(engine)
    yield engine
    reset_engine()


@pytest.fixture
def real_engine(settings: Any) -> Iterator[ContainerEngine]:
    """The private test engine; what a test leaves on it is removed by its uids' names."""
    host = os.environ.get("DS01_TEST_DOCKER_HOST")
    if not host:
        pytest.fail("DS01_TEST_DOCKER_HOST is not set: run `make test`, which starts an engine.")
    settings.DOCKER_HOST = host
    settings.DS01_NETWORK_RANGE = os.environ.get("DS01_NETWORK_RANGE", "10.213.0.0/16")
    reset_engine()
    engine = get_engine()
    before = {summary.id for summary in engine.list_containers()}
    yield engine
    for summary in engine.list_containers():
        if summary.id not in before and summary.labels.get("aime.mlc.DS01_MANAGED") == "true":
            engine.remove_container(summary.id, force=True)
            engine.untag_image(summary.image)
    for name in engine.list_networks(label="aime.mlc.DS01_NETWORK"):
        engine.remove_network_if_unused(name)
    reset_engine()


@pytest.fixture
def demo_image(db: None) -> Image:
    """The demo image, allowed by an admin and on this machine."""
    return Image.objects.create(
        kind=Image.Kind.LOCAL,
        framework="Python",
        framework_slug="python",
        version="3",
        reference=DEMO_IMAGE,
        engine_image_id="sha256:demo",
    )


@pytest.fixture
def simulated_devices(db: None) -> list[Device]:
    """Four whole A100 and an H100 in two slices."""
    devices.sync_devices()
    return list(Device.objects.offered())


@pytest.fixture
def portal(
    fake_engine: FakeEngine, simulated_devices: list[Device], demo_image: Image
) -> FakeEngine:
    """A portal ready to launch on the fake engine."""
    machine.refresh_machine()
    machine.note_worker()
    return fake_engine


@pytest.fixture
def real_portal(
    real_engine: ContainerEngine, simulated_devices: list[Device], demo_image: Image
) -> ContainerEngine:
    """A portal ready to launch on the private test engine."""
    machine.refresh_machine()
    machine.note_worker()
    return real_engine


Launch = Callable[..., Container]


@pytest.fixture
def ask(demo_image: Image) -> Launch:
    """Ask for a container of the demo image; the worker has not acted yet."""

    def ask_for(owner: Person, name: str = "", **wishes: Any) -> Container:
        request = requests.LaunchRequest(
            owner=owner,
            name=name or f"c{uuid.uuid4().hex[:8]}",
            **{**launch_images.image_fields(demo_image), **wishes},
        )
        return containers.launch_container(request=request, actor=owner)

    return ask_for


@pytest.fixture
def run_due() -> Callable[[], int]:
    """Carry out what is due, in this thread."""
    return carrying.carry_out_due


@pytest.fixture
def launch(ask: Launch) -> Launch:
    """Launch a container and carry it out."""

    def launch_one(owner: Person, name: str = "", **wishes: Any) -> Container:
        container = ask(owner, name, **wishes)
        carrying.carry_out_due()
        container.refresh_from_db()
        return container

    return launch_one
