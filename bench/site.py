"""A portal of the benchmark's own: database, folders, web and worker as in production.

DEBUG is off. `Site.call` runs a function in one more process that stands on the same database.
Not in charge of: what is measured.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit, urlunsplit

import psycopg

P = ParamSpec("P")
R = TypeVar("R")

ROOT = Path(__file__).resolve().parents[1]
UIDS = range(285_000, 286_000)
GPUS = "simulated:4xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb"
DATABASES = ("SQLite", "PostgreSQL")


def required(name: str) -> str:
    """Return a variable that the rigs set."""
    value = os.environ.get(name, "")
    if not value:
        sys.exit(f"{name} is not set: run `make bench`, which starts what is measured.")
    return value


class Site:
    """Folders, environment and processes of one portal."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = self._make_environment(database_url)
        self.port = 0
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._helper: ProcessPoolExecutor | None = None

    def _make_environment(self, database_url: str) -> dict[str, str]:
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        return {
            **{key: os.environ[key] for key in kept if key in os.environ},
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "ds01portal.settings",
            "DEBUG": "False",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "ALLOWED_HOSTS": "127.0.0.1",
            "SECURE_COOKIES": "False",
            "DATABASE_URL": database_url,
            "STATIC_ROOT": str(self.folder.parent / "static"),
            "DOCKER_HOST": required("DS01_TEST_DOCKER_HOST"),
            "DS01_NETWORK_RANGE": required("DS01_NETWORK_RANGE"),
            "DS01_STATE_DIR": str(self.folder / "state"),
            "DS01_WORKSPACE_ROOT": str(self.folder / "workspaces"),
            "DS01_DISK_FLOOR": "0",
            "DS01_GPUS": GPUS,
            "DS01_UID_RANGE": f"{UIDS.start}-{UIDS.stop - 1}",
            "AIME_CATALOG": "",
            "MLC_ARCH": "CUDA_ADA",
        }

    def prepare(self) -> None:
        """Make tables, cache and, once for all sites, the static files."""
        for name in ("state", "workspaces"):
            (self.folder / name).mkdir(exist_ok=True)
        self.manage("migrate", "--noinput")
        self.manage("createcachetable")
        if not Path(self.environment["STATIC_ROOT"]).exists():
            self.manage("collectstatic", "--noinput")

    def manage(self, *arguments: str) -> None:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"manage.py {arguments[0]}: {done.stderr[-2000:]}")

    def start(self, *, worker: bool) -> None:
        """Start web, and the worker where one is wanted."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        gunicorn = str(Path(sys.executable).parent / "gunicorn")
        web = [gunicorn, "-k", "asgi", "--no-control-socket", "--graceful-timeout", "5"]
        web += ["--bind", f"127.0.0.1:{self.port}", "ds01portal.asgi:application"]
        self._start("web", web)
        if worker:
            self._start("worker", [sys.executable, "manage.py", "run_worker"])
        self._await_health()

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *command],  # never outlives this process
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _await_health(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended: {self.read_log(name)}")
            with suppress(OSError, HTTPException):
                connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"web does not answer: {self.read_log('web')}")

    def read_log(self, name: str) -> str:
        """Return the end of a process's log."""
        return (self.folder / f"{name}.log").read_text()[-2000:]

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Freeze web and worker, so that a raw peer has the machine to itself."""
        groups = [process.pid for process in self.processes.values()]
        for group in groups:
            os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            for group in groups:
                os.killpg(group, signal.SIGCONT)

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what a module's function answers on this site's database."""
        if self._helper is None:
            self._helper = ProcessPoolExecutor(
                1, get_context("spawn"), initializer=set_up, initargs=(self.environment,)
            )
        return self._helper.submit(function, *args, **kwargs).result(600)

    def stop(self) -> None:
        """End everything that was started."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()
        if self._helper is not None:
            self._helper.shutdown()
            self._helper = None


def set_up(environment: dict[str, str]) -> None:
    """Make this process one that stands on a site's database and engine."""
    os.environ.update(environment)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    import django

    django.setup()


@contextmanager
def new_site(folder: Path, database: str) -> Iterator[Site]:
    """Make a site on a new SQLite file or a new PostgreSQL database; end and drop it."""
    name = f"bench_{secrets.token_hex(4)}"
    if database == "SQLite":
        url, drop = f"sqlite:///{folder / name / 'db.sqlite3'}", ""
    else:
        server = required("DS01_TEST_DATABASE_URL")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        url, drop = urlunsplit(urlsplit(server)._replace(path=f"/{name}")), server
    site = Site(folder / name, url)
    try:
        site.prepare()
        yield site
    except Exception:
        for log in sorted((site.folder).glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
        raise
    finally:
        site.stop()
        if drop:
            with psycopg.connect(drop, autocommit=True) as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
