"""The whole portal for a browser: web process, worker process, the private test engine.

It runs as in production (DEBUG off, hashed static files); only the cookies go over plain HTTP and
the password hash is a quick one.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catalog.tests.wheelhouse import Wheelhouse
from workspaces.tests.browser import data
from workspaces.tests.servers import ROOT, Portal, has_engine, running_portal

GPUS = "simulated:4xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb"
# Everybody has a part in one story only, so that no limit of one gets in the way of another.
PEOPLE = {
    "ada": "admin",
    "alice": "student",  # has containers in every state
    "bob": "student",  # a stranger to alice's
    "nora": "student",  # has none
    "mia": "student",  # the main story
    "kim": "student",  # uses no mouse
    "tom": "student",  # has two tabs open
    "lea": "student",  # is given more by an admin
    "max": "student",  # has two hundred containers
    "eva": "student",  # builds an image
    "ben": "student",  # has images in every state
}
SETTINGS = {
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    "ACCOUNT_RATE_LIMITS": False,
}


class Site:
    """A portal with its worker."""

    def __init__(self, portal: Portal, index: Wheelhouse) -> None:
        self.portal = portal
        self.index = index
        self.url = portal.url
        self._worker: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what a function answers on the portal's database."""
        return self.portal.call(function, *args, **kwargs)

    def start_worker(self) -> None:
        """Start the worker as its service does."""
        log = self.portal.folder / "worker.log"
        with log.open("ab") as file:
            self._worker = subprocess.Popen(
                [sys.executable, "manage.py", "run_worker"],
                cwd=ROOT,
                env=self.portal.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def stop_worker(self) -> None:
        """Stop the worker."""
        if self._worker is not None:
            self._worker.terminate()
            try:
                self._worker.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._worker.pid, signal.SIGKILL)
                self._worker.wait()
            self._worker = None

    @contextmanager
    def paused_worker(self) -> Iterator[None]:
        """Let nothing be carried out for a while, as on a machine with much to do."""
        assert self._worker is not None
        self._worker.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._worker.send_signal(signal.SIGCONT)

    def await_build(self, pk: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until a build is in one of the states; return it."""
        deadline, seen = time.monotonic() + seconds, {}
        while time.monotonic() < deadline:
            seen = self.call(data.build_of, pk)
            if seen["state"] in states:
                return seen
            time.sleep(0.1)
        log = (self.portal.folder / "worker.log").read_text()[-2000:]
        raise AssertionError(f"{pk} is {seen}, not {states}\n{log}")

    def await_state(self, pk: str, state: str, seconds: float = 30) -> None:
        """Wait until a container is in a state."""
        deadline, seen = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            seen = self.call(data.state_of, pk)
            if seen == state:
                return
            time.sleep(0.1)
        log = (self.portal.folder / "worker.log").read_text()[-2000:]
        raise AssertionError(f"{pk} is {seen}, not {state}\n{log}")


@contextmanager
def package_index() -> Iterator[Wheelhouse]:
    """Serve a few packages that builds can install."""
    with Wheelhouse(docker_host=has_engine()) as index:
        index.add_many("tiny-math", "1.0", "1.9", "2.1")
        index.add("thesis-tools", "1.2", requires=["tiny-math>=1.5,<2"])
        index.add("slow-package", "1.0")
        index.hold("slow-package")
        yield index


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Start a portal with people, images and GPUs; in the end nothing of it is left."""
    with package_index() as index:
        yield from _running_site(folder, index)


def _running_site(folder: Path, index: Wheelhouse) -> Iterator[Site]:
    # Of its own, so that what an earlier run left on the engine is nobody's here.
    first_uid = 210_000 + secrets.randbelow(800) * 100
    environment = {
        "DEBUG": "False",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_COOKIES": "False",
        "LOG_LEVEL": "WARNING",
        "DOCKER_HOST": has_engine(),
        "STATIC_ROOT": str(folder / "static"),
        "DS01_GPUS": GPUS,
        "DS01_UID_RANGE": f"{first_uid}-{first_uid + 99}",
        "DS01_DISK_FLOOR": "0",
        "DS01_SSH_HOST": "ds01.example.org",
        "DS01_CONTACT": "gpu-help@example.org",
        "DS01_PIP_INDEX_URL": index.url,
        "MLC_ARCH": "CUDA_ADA",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workspaces").mkdir(exist_ok=True)
    subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--noinput", "-v", "0"],
        cwd=ROOT,
        env={
            **os.environ,
            **environment,
            "DATABASE_URL": "sqlite://:memory:",
            "DJANGO_SETTINGS_MODULE": "ds01portal.settings",
        },
        check=True,
    )
    with running_portal(folder, environment=environment, settings=SETTINGS) as portal:
        site = Site(portal, index)
        site.call(data.make_people, PEOPLE)
        site.call(data.allow_builds_at_once, 4)
        site.start_worker()
        try:
            yield site
        finally:
            site.stop_worker()
            left = site.call(data.remove_everything)
            assert not left, left
