"""Images on a Docker Engine: look, pull, tag, untag, read files.

Not in charge of: which image is allowed, building.
"""

from __future__ import annotations

import contextlib
import io
import posixpath
import re
import tarfile
import time
from collections.abc import Callable
from typing import Any

import requests
from docker import auth
from docker.errors import APIError
from docker.utils import parse_repository_tag

from ds01portal.exceptions import EngineError, MissingOnEngine

from .. import wire
from ..base import ContainerEngine, ImageDetails, PullProgress
from ..progress import PullMeter, pull_cancelled, pull_error
from .client import Client
from .errors import NO_IMAGE, engine_errors
from .stream import JsonStream, StreamEnded

POLL_SECONDS = 0.2
REPORT_SECONDS = 0.2  # the least time between two reports
MAX_FILE = 1_048_576  # bytes of one file read from an image
MAX_LINKS = 8
TEMPORARY_LABELS = {"aime.mlc.DS01_TEMP": "true"}
NO_FILE = "could not find the file"
IMAGE_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}")


class DockerImages(ContainerEngine):
    """The part of the engine that is about images."""

    _client: Client

    def list_images(self) -> list[ImageDetails]:
        with engine_errors("list the images", missing=NO_IMAGE):
            rows = self._client.api.images()
        return [image for image in map(wire.parse_image, rows) if image.tags]

    def inspect_image(self, reference: str) -> ImageDetails:
        with engine_errors("look at the image", missing=NO_IMAGE):
            raw = self._client.api.inspect_image(reference)  # type: ignore[no-untyped-call]
        return wire.parse_image(raw)

    def pull_image(
        self,
        reference: str,
        *,
        on_progress: Callable[[PullProgress], None],
        is_cancelled: Callable[[], bool],
    ) -> ImageDetails:
        with JsonStream(lambda: self._open_pull(reference)) as stream:
            _follow(stream, reference, on_progress, is_cancelled)
        try:
            image = self.inspect_image(reference)
        except MissingOnEngine as error:
            raise pull_error(reference, f"pulled, but {error.cause}") from error
        on_progress(PullProgress(percent=100.0, done_bytes=0, total_bytes=0, message="Downloaded"))
        return image

    def _open_pull(self, reference: str) -> requests.Response:
        repository, tag = parse_repository_tag(reference)
        registry, _ = auth.resolve_repository_name(repository)
        header = auth.get_config_header(self._client.api, registry)
        return self._client.open(
            "POST",
            self._client.path("images", "create"),
            # Without a tag the engine would pull every tag there is.
            params={"fromImage": repository, "tag": tag or "latest"},
            headers={"X-Registry-Auth": header.decode()} if header else None,
            timeout=None,
        )

    def tag_image(self, reference: str, target: str) -> None:
        repository, tag = parse_repository_tag(target)
        with engine_errors("tag the image", missing=NO_IMAGE):
            self._client.api.tag(reference, repository, tag)

    def untag_image(self, reference: str) -> None:
        _, tag = parse_repository_tag(reference)
        if not tag or "@" in reference or IMAGE_ID.fullmatch(reference):
            raise EngineError("Only a tag can be removed, not an image.", cause=reference)
        removing = engine_errors("remove the image's tag", missing=NO_IMAGE)
        with contextlib.suppress(MissingOnEngine), removing:
            self._client.api.remove_image(reference, force=False, noprune=True)

    def read_image_files(self, reference: str, paths: tuple[str, ...]) -> dict[str, bytes]:
        config = {
            "Image": reference,
            "Cmd": ["/never-started"],
            "Entrypoint": [],
            "NetworkDisabled": True,
            "Labels": dict(TEMPORARY_LABELS),
        }
        with engine_errors("read files of the image", missing=NO_IMAGE):
            api = self._client.api
            made = api.create_container_from_config(config)  # type: ignore[no-untyped-call]
        try:
            found = {path: self._read_file(made["Id"], path) for path in paths}
        finally:
            self.remove_container(made["Id"], force=True)
        return {path: content for path, content in found.items() if content is not None}

    def _read_file(self, container_id: str, path: str) -> bytes | None:
        """Return None for what does not exist or is not a file. Links are followed inside."""
        for _ in range(MAX_LINKS):
            try:
                with engine_errors("read a file of the image", missing=NO_FILE):
                    member, content = self._read_member(container_id, path)
            except MissingOnEngine:
                return None
            if not member.issym():
                return content
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
        return None

    def _read_member(self, container_id: str, path: str) -> tuple[tarfile.TarInfo, bytes | None]:
        where = self._client.path("containers", container_id, "archive")
        timeout = self._client.timeout
        plain = {"Accept-Encoding": "identity"}
        with self._client.open(
            "GET", where, params={"path": path}, headers=plain, timeout=timeout
        ) as response:
            limited = _Limited(response, path)
            with tarfile.open(fileobj=limited, mode="r|") as archive:
                member = archive.next()
                if member is None:
                    raise EngineError("Docker sent an empty archive.", cause=path)
                if not member.isfile():
                    return member, None
                if member.size > MAX_FILE:
                    raise _too_large(path)
                file = archive.extractfile(member)
                return member, file.read() if file else None


class _Limited(io.RawIOBase):
    """A response's body that ends with an error instead of filling the memory."""

    def __init__(self, response: requests.Response, path: str) -> None:
        self._raw = response.raw
        self._path = path
        self._left = MAX_FILE + 1_048_576  # headers and padding come on top

    def read(self, size: int | None = -1, /) -> bytes:
        data: bytes = self._raw.read(size if size and size > 0 else MAX_FILE)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._path)
        return data


def _too_large(path: str) -> EngineError:
    return EngineError("A file of the image is larger than 1 MiB.", cause=path, path=path)


def _follow(
    stream: JsonStream,
    reference: str,
    on_progress: Callable[[PullProgress], None],
    is_cancelled: Callable[[], bool],
) -> None:
    """Read a pull to its end, reporting at most a few times a second."""
    meter, reported, due = PullMeter(), None, 0.0
    while True:
        if is_cancelled():
            raise pull_cancelled(reference)
        try:
            message = _next(stream, reference)
        except StreamEnded:
            return
        if message is not None:
            meter.feed(message)
        now = meter.read()
        if now != reported and time.monotonic() >= due:
            on_progress(now)
            reported, due = now, time.monotonic() + REPORT_SECONDS


def _next(stream: JsonStream, reference: str) -> dict[str, Any] | None:
    """Return the next message; what the engine says against the image is an ImagePullFailed."""
    with engine_errors("pull the image", missing=NO_IMAGE):
        try:
            message = stream.poll(POLL_SECONDS)
        except APIError as error:
            raise pull_error(reference, str(error.explanation or error)) from error
    if message is not None and message.get("error"):
        raise pull_error(reference, str(message["error"]))
    return message
