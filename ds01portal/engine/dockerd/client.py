"""The line to one Docker Engine: an SDK client made when first needed, and raw sockets.

One client serves all threads. Not in charge of: what is asked, how errors are named
(`errors`; everything here lets the SDK's own errors through).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from docker import APIClient
from docker.errors import APIError
from docker.utils import kwargs_from_env

from ds01portal.exceptions import EngineError

from .transport import PooledUnixAdapter, connect_unix

MINIMUM_API = (1, 41)
CONNECTIONS = 64  # kept open for reuse; more are made when needed and not kept
MAX_HEAD = 65_536  # bytes of an answer's status line and headers


class Client:
    """A lazily made SDK client for `base_url`; `timeout` in seconds for every answer."""

    def __init__(self, base_url: str, timeout: float) -> None:
        self.base_url = base_url
        self.timeout = timeout
        self._lock = threading.Lock()
        self._api: APIClient | None = None

    @property
    def is_local(self) -> bool:
        """Whether the engine's processes are on this machine."""
        return self.base_url.startswith("unix://")

    @property
    def _path(self) -> str:
        return self.base_url.removeprefix("unix://")

    @property
    def api(self) -> APIClient:
        """Return the client; raise EngineError when the engine is too old."""
        if self._api is None:
            # Not under the lock: an engine that hangs would make everybody queue behind it.
            made = self._connect()
            with self._lock:
                if self._api is None:
                    self._api = made
                else:
                    made.close()
                return self._api
        return self._api

    def _connect(self) -> APIClient:
        # TLS material comes from DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, as for docker itself.
        environment = {**os.environ, "DOCKER_HOST": self.base_url}
        timeout = max(1, round(self.timeout))
        api = APIClient(
            version=self._newest_version() if self.is_local else "auto",
            timeout=timeout,
            max_pool_size=CONNECTIONS,
            **kwargs_from_env(environment=environment),
        )
        if self.is_local:
            adapter = PooledUnixAdapter(self._path, timeout=timeout, connections=CONNECTIONS)
            api.mount("http+docker://", adapter)
            # No proxy and no .netrc on a local socket; looking for them costs on every call.
            api.trust_env = False
        if tuple(int(part) for part in api.api_version.split(".")[:2]) < MINIMUM_API:
            api.close()
            raise EngineError(
                "Docker on this machine is too old for the portal.",
                hint="Docker Engine 20.10 or later is needed.",
                cause=f"API {api.api_version}",
            )
        return api

    def _newest_version(self) -> str:
        line = HTTPConnection("docker")
        line.sock = self._dial()
        with contextlib.closing(line):
            line.request("GET", "/version")
            return str(json.loads(line.getresponse().read())["ApiVersion"])

    def close(self) -> None:
        """Hang up. The next question connects again."""
        with self._lock:
            if self._api is not None:
                self._api.close()
            self._api = None

    def path(self, *parts: str) -> str:
        """Return a versioned path of quoted parts."""
        return f"/v{self.api.api_version}/" + "/".join(quote(part, safe="") for part in parts)

    def open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout: float | None,
    ) -> requests.Response:
        """Return an answer whose body is not read yet. Raise APIError from status 400 on."""
        response = self.api.request(
            method,
            self.api.base_url + path,
            params=dict(params or {}),
            headers=dict(headers or {}),
            json=body,
            stream=True,
            timeout=timeout,
        )
        if response.status_code >= 400:
            with response:
                text = _explanation(response.content)
                raise APIError(text, response=response, explanation=text)
        return response

    def hijack(self, path: str, body: Mapping[str, Any] | None) -> socket.socket:
        """POST and return the socket, as it is after the last byte of the answer's head.

        The SDK's way leaves first output in the buffer of its HTTP reader, where it is lost.
        Where the engine expects no body there must be none: it would be taken for input.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else "Content-Type: application/json\r\n"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: docker\r\n{kind}"
            f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        sock = self._dial()
        try:
            sock.sendall(head.encode() + payload)
            status, length = _read_head(sock)
            if status not in (101, 200):
                text = _explanation(_read_exactly(sock, min(length, MAX_HEAD)))
                response = requests.Response()
                response.status_code = status
                raise APIError(text, response=response, explanation=text)
        except BaseException:
            sock.close()
            raise
        sock.settimeout(None)
        return sock

    def _dial(self) -> socket.socket:
        if self.is_local:
            return connect_unix(self._path, self.timeout)
        address = urlsplit(self.base_url)
        secured = os.environ.get("DOCKER_TLS_VERIFY") or os.environ.get("DOCKER_CERT_PATH")
        if address.scheme in ("tcp", "http") and address.hostname and not secured:
            where = (address.hostname, address.port or 2375)
            return socket.create_connection(where, timeout=self.timeout)
        raise EngineError(
            "Commands inside containers need an engine reached by unix:// or plain tcp://.",
            cause=self.base_url,
        )


def _explanation(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            break
        data += more
    return data


def _read_head(sock: socket.socket) -> tuple[int, int]:
    """Return status and content length; byte by byte, to leave the stream behind untouched."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte or len(head) > MAX_HEAD:
            raise ConnectionError("the engine hung up before it answered")
        head += byte
    lines = head.decode("latin-1").split("\r\n")
    fields = {key.strip().lower(): value.strip() for key, _, value in
              (line.partition(":") for line in lines[1:])}  # fmt: skip
    return int(lines[0].split(" ")[1]), int(fields.get("content-length") or 0)
