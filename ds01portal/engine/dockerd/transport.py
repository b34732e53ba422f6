"""HTTP over a unix socket, with two faults of the SDK's own transport mended.

The SDK keeps a pool for each address asked for, so that connections are hardly ever used again,
and leaves a socket open when nobody listens. Not in charge of: anything but connecting.
"""

from __future__ import annotations

import socket
from typing import Any

from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool


def connect_unix(path: str, timeout: float | None) -> socket.socket:
    """Return a connected socket, or leave none behind."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        self.sock = connect_unix(self.unix_socket, self.timeout)


class _Pool(UnixHTTPConnectionPool):
    seconds: int  # to connect; each request sets its own for the answer

    def _new_conn(self) -> Any:
        return _Connection(self.base_url, self.socket_path, self.seconds)


class PooledUnixAdapter(UnixHTTPAdapter):
    """One pool for all addresses of one socket. Safe to use from several threads."""

    def __init__(self, path: str, *, timeout: int, connections: int) -> None:
        super().__init__(path, timeout=timeout, max_pool_size=connections)
        self._pool = _Pool("http+docker://localhost", path, timeout, maxsize=connections)
        self._pool.seconds = timeout

    def get_connection(self, url: bytes | str, proxies: Any = None) -> UnixHTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()
