"""A package index of hand-made wheels, served where the build containers of the rigs reach it.

`with Wheelhouse() as house:` listens on every address of this machine; `house.url` names the one
that is the gateway of the test engine's containers. Wheels are the same bytes in every run. Not in
charge of: settings, the engine, judging what pip does with it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import re
import subprocess
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import quote, unquote

CHUNK = 64 * 1024
LONG_AGO = (2024, 1, 1, 0, 0, 0)


def canonical(name: str) -> str:
    """Return the name as an index knows it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def module_name(name: str) -> str:
    """Return what a package of this name is imported as."""
    return canonical(name).replace("-", "_")


@cache
def find_gateway(docker_host: str, network: str = "bridge") -> str:
    """Return this machine's address on a network of the engine, seen from its containers.

    That of the default bridge serves every other network of the engine too: it is an address of
    the host, which is each container's router.
    """
    answer = subprocess.run(
        ["docker", "-H", docker_host, "network", "inspect", network],
        capture_output=True,
        text=True,
        check=True,
    )
    return str(json.loads(answer.stdout)[0]["IPAM"]["Config"][0]["Gateway"])


def make_wheel(
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    extras: Mapping[str, Iterable[str]] | None = None,
    requires_python: str = "",
    size: int = 0,
    files: Mapping[str, str] | None = None,
) -> tuple[str, bytes]:
    """Return file name and bytes of a pure wheel whose module tells its version.

    `size`: bytes of noise in it that nothing can compress. `files`: more files by path.
    """
    module = module_name(name)
    info = f"{module}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    if requires_python:
        metadata.append(f"Requires-Python: {requires_python}")
    metadata += [f"Requires-Dist: {one}" for one in requires]
    for extra, wanted in (extras or {}).items():
        metadata.append(f"Provides-Extra: {extra}")
        for one in wanted:
            plain, _, marker = one.partition(";")
            also = f"({marker.strip()}) and " if marker else ""
            metadata.append(f'Requires-Dist: {plain.strip()} ; {also}extra == "{extra}"')
    content: dict[str, bytes] = {f"{module}/__init__.py": f'__version__ = "{version}"\n'.encode()}
    if size:
        content[f"{module}/noise.bin"] = random.Random(f"{name} {version}").randbytes(size)
    content |= {path: text.encode() for path, text in (files or {}).items()}
    content[f"{info}/METADATA"] = "\n".join([*metadata, ""]).encode()
    content[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in content.items()]
    content[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, data in content.items():
            archive.writestr(zipfile.ZipInfo(path, LONG_AGO), data)
    return f"{module}-{version}-py3-none-any.whl", packed.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def make_broken_source(name: str, version: str) -> tuple[str, bytes]:
    """Return file name and bytes of a source package that needs a compiler nobody has."""
    stem = f"{module_name(name)}-{version}"
    setup = (
        "from setuptools import Extension, setup\n"
        f'setup(name="{name}", version="{version}", ext_modules=[Extension("_it", ["it.c"])])\n'
    )
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in (
            ("setup.py", setup),
            ("it.c", "#include <Python.h>\n"),
            ("PKG-INFO", metadata),
        ):
            entry = tarfile.TarInfo(f"{stem}/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return f"{stem}.tar.gz", packed.getvalue()


class Wheelhouse:
    """The index. `asked` lists the paths that were asked for, in order."""

    def __init__(self, *, docker_host: str = "") -> None:
        self._docker_host = docker_host or os.environ.get("DS01_TEST_DOCKER_HOST", "")
        self._projects: dict[str, dict[str, bytes]] = {}
        self._python: dict[str, str] = {}
        self._gate = threading.Event()
        self._gate.set()
        self._held: set[str] = set()
        self._server: _Server | None = None
        self.port = 0
        self.asked: list[str] = []
        self.reached = threading.Event()  # somebody waits for a file that is held
        self.seconds_per_file = 0.0

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
        self.refuse()

    # What is in it

    def add(
        self,
        name: str,
        version: str,
        *,
        requires: Iterable[str] = (),
        extras: Mapping[str, Iterable[str]] | None = None,
        requires_python: str = "",
        size: int = 0,
        files: Mapping[str, str] | None = None,
    ) -> str:
        """Add a wheel; return its hash as `pip --hash` wants it."""
        file, data = make_wheel(
            name,
            version,
            requires=requires,
            extras=extras,
            requires_python=requires_python,
            size=size,
            files=files,
        )
        self._python[file] = requires_python
        return self._put(name, file, data)

    def add_many(self, name: str, *versions: str) -> None:
        """Add plain wheels of several versions."""
        for version in versions:
            self.add(name, version)

    def add_broken_source(self, name: str, version: str) -> str:
        """Add a source package whose build fails for want of a compiler."""
        return self._put(name, *make_broken_source(name, version))

    def _put(self, name: str, file: str, data: bytes) -> str:
        self._projects.setdefault(canonical(name), {})[file] = data
        return f"sha256:{hashlib.sha256(data).hexdigest()}"

    # Where it is

    @property
    def host(self) -> str:
        """Return the address that containers reach it at."""
        return find_gateway(self._docker_host)

    @property
    def url(self) -> str:
        """Return the index's address for containers of the test engine."""
        return f"http://{self.host}:{self.port}/simple"

    @property
    def environment(self) -> dict[str, str]:
        """Return what makes pip use it and nothing else."""
        return {"PIP_INDEX_URL": self.url, "PIP_TRUSTED_HOST": self.host}

    # How it behaves

    def hold(self, *projects: str) -> None:
        """Let files (of these projects, or all) hang after the first byte, until `release`."""
        self._held = {canonical(project) for project in projects}
        self.reached.clear()
        self._gate.clear()

    def release(self) -> None:
        """Go on with what was held."""
        self._gate.set()

    def refuse(self) -> None:
        """Close the door: connections to the port are refused."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def accept(self) -> None:
        """Open the door, at the same port as before."""
        if self._server is None:
            self._server = _Server(("0.0.0.0", self.port), self)
            self.port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    # What it answers

    def read_page(self, project: str) -> bytes | None:
        """Return a project's page of links with hashes; None when there is no such project."""
        files = self._projects.get(canonical(project))
        if files is None:
            return None
        links = []
        for file, data in files.items():
            target = f"/files/{canonical(project)}/{quote(file)}"
            target += f"#sha256={hashlib.sha256(data).hexdigest()}"
            needs = self._python.get(file, "")
            python = f' data-requires-python="{escape(needs)}"' if needs else ""
            links.append(f'<a href="{target}"{python}>{file}</a><br>')
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()

    def read_file(self, project: str, file: str) -> bytes | None:
        """Return a file's bytes."""
        return self._projects.get(project, {}).get(file)

    def wait_to_serve(self, project: str) -> None:
        """Return when a file of the project may go out."""
        if self.seconds_per_file:
            time.sleep(self.seconds_per_file)
        if not self._gate.is_set() and (not self._held or project in self._held):
            self.reached.set()
            self._gate.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], house: Wheelhouse) -> None:
        self.house = house
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # Headers and body in one packet, or each waits for the other's acknowledgement.
    wbufsize: ClassVar[int] = CHUNK

    def do_GET(self) -> None:
        house, path = self.server.house, unquote(self.path)
        house.asked.append(path)
        parts = path.strip("/").split("/")
        match parts:
            case ["simple", project]:
                self._answer(house.read_page(project), "text/html")
            case ["files", project, file]:
                data = house.read_file(project, file)
                self._answer(data, "application/octet-stream", project)
            case _:
                self._answer(None, "text/plain")

    def _answer(self, data: bytes | None, kind: str, project: str = "") -> None:
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with suppress(ConnectionError):  # whoever asked was killed
            if project:
                self.wfile.write(data[:1])
                self.wfile.flush()
                self.server.house.wait_to_serve(project)
                data = data[1:]
            self.wfile.write(data)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base names it so
        """Say nothing: `asked` has it."""
