"""A whole portal for a test: gunicorn in a process of its own, on a database of its own.

`Portal.call(function, …)` runs a module's function in one more process that stands on the same
database, so that tests make people and containers without touching the one of the test run.
Not in charge of: an engine; name one in `environment` where a test needs it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.error import URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

P = ParamSpec("P")
R = TypeVar("R")

ROOT = Path(__file__).resolve().parents[2]
NOT_INHERITED = ("ALLOWED_HOSTS", "AIME_CATALOG", "MLC_ARCH", "DS01_WORKSPACE_ROOT", "DS01_GPUS")


class Portal:
    """A running portal: `url`, `environment`, and what its processes use."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.log = folder / "gunicorn.log"
        self._web: subprocess.Popen[bytes] | None = None
        self._helper: ProcessPoolExecutor | None = None
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(512)
        self.port: int = self._socket.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"

    def start(self) -> None:
        """Start gunicorn as it is in production; return when it answers."""
        with self.log.open("ab") as log:
            self._web = subprocess.Popen(
                [
                    Path(sys.executable).parent / "gunicorn",
                    *("-k", "asgi", "--no-control-socket", "--graceful-timeout", "5"),
                    *("--bind", f"fd://{self._socket.fileno()}", "ds01portal.asgi:application"),
                ],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                pass_fds=(self._socket.fileno(),),
                start_new_session=True,
            )
        self._await_health(30)

    def _await_health(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._web and self._web.poll() is None:
            with suppress(URLError, OSError), urlopen(f"{self.url}/healthz", timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the portal does not answer:\n{self.log.read_text()[-3000:]}")

    def stop(self, *, number: signal.Signals = signal.SIGTERM, seconds: float = 15) -> float:
        """Stop gunicorn; return how many seconds it took."""
        assert self._web is not None
        begun = time.monotonic()
        self._web.send_signal(number)
        try:
            self._web.wait(seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._web.pid, signal.SIGKILL)
            self._web.wait()
        self._web = None
        return time.monotonic() - begun

    def close(self) -> None:
        """End everything that was started."""
        if self._web is not None:
            self.stop()
        if self._helper is not None:
            self._helper.shutdown()
        self._socket.close()

    @property
    def worker_pid(self) -> int:
        """Return the process that serves."""
        assert self._web is not None
        children = Path(f"/proc/{self._web.pid}/task/{self._web.pid}/children").read_text()
        return int(children.split()[0])

    def thread_count(self) -> int:
        """Return how many threads the serving process has."""
        return len(list(Path(f"/proc/{self.worker_pid}/task").iterdir()))

    def cpu_seconds(self) -> float:
        """Return the processor time that the serving process has used."""
        used = 0
        for task in Path(f"/proc/{self.worker_pid}/task").iterdir():
            with suppress(FileNotFoundError):  # it ended meanwhile
                used += int((task / "schedstat").read_text().split()[0])
        return used / 1e9

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what a module's function answers on the portal's database."""
        if self._helper is None:
            self._helper = ProcessPoolExecutor(
                1, get_context("spawn"), initializer=set_up, initargs=(self.environment,)
            )
        return self._helper.submit(function, *args, **kwargs).result(120)


@contextmanager
def running_portal(
    folder: Path,
    *,
    database_url: str = "",
    environment: dict[str, str] | None = None,
    settings: dict[str, Any] | None = None,
) -> Iterator[Portal]:
    """Start a portal in `folder` and stop it in the end.

    Without `database_url` it has an SQLite file. `settings` are set after the environment was
    read, for what no variable says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    portal = Portal(folder, _environment(folder, database_url, environment, settings))
    try:
        subprocess.run(
            [sys.executable, "-c", PREPARE], cwd=ROOT, env=portal.environment, check=True
        )
        portal.start()
        yield portal
    finally:
        portal.close()


PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0, interactive=False)
call_command("createcachetable", verbosity=0)
"""


def _environment(
    folder: Path,
    database_url: str,
    environment: dict[str, str] | None,
    settings: dict[str, Any] | None,
) -> dict[str, str]:
    name = f"portal_settings_{secrets.token_hex(4)}"
    lines = [
        f"{key} = {json.loads(json.dumps(value))!r}" for key, value in (settings or {}).items()
    ]
    text = "\n".join(["from ds01portal.settings import *", *lines, ""])
    (folder / f"{name}.py").write_text(text)
    kept = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    return {
        **kept,
        "DEBUG": "True",
        "DATABASE_URL": database_url or f"sqlite:///{folder / 'portal.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": name,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "DS01_GPUS": "simulated:1xA100-40GB",
        "DS01_STATE_DIR": str(folder / "state"),
        "DS01_WORKSPACE_ROOT": str(folder / "workspaces"),
        **(environment or {}),
    }


def set_up(environment: dict[str, str]) -> None:
    """Make this process one that stands on a portal's database."""
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    import django

    django.setup()


@contextmanager
def postgres_database() -> Iterator[str]:
    """Make a database on the PostgreSQL of the test run; return its address; drop it."""
    import psycopg

    server = os.environ.get("DS01_TEST_DATABASE_URL", "")
    assert server, "DS01_TEST_DATABASE_URL is not set: deploy/postgres.sh start DIR prints it"
    name = f"portal_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


# ---- For `Portal.call` ----------------------------------------------------------------------


def make_person(username: str, *, staff: bool = False) -> int:
    """Make a person with a Linux identity; return the id."""
    from ds01portal.services.people import create_person

    person = create_person(username=username, group="admin" if staff else "student", actor=None)
    return person.pk


def sign_in(username: str) -> str:
    """Return a session's key, as the cookie has it."""
    from django.conf import settings
    from django.test import Client

    from ds01portal.models import Person

    client = Client()
    client.force_login(Person.objects.get(username=username), settings.AUTHENTICATION_BACKENDS[0])
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def sign_out(key: str) -> None:
    """End a session."""
    from django.contrib.sessions.models import Session

    Session.objects.filter(pk=key).delete()


def announce(subject: str, owner_id: int | None, **data: Any) -> int:
    """Announce an update; return its id."""
    from ds01portal.models import Update
    from ds01portal.services.events import announce_update

    announce_update(subject=subject, owner_id=owner_id, **data)
    return Update.objects.latest("id").pk


def has_engine() -> str:
    """Return the address of the engine that tests may use; fail without one."""
    host = os.environ.get("DS01_TEST_DOCKER_HOST", "")
    assert host, "DS01_TEST_DOCKER_HOST is not set: deploy/test_engine.sh start DIR prints it"
    assert shutil.which("docker"), "the docker command line is missing"
    return host
