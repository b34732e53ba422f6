"""What is kept of builds on a Docker Engine: find images by label, remove them, measure.

Not in charge of: which image is still wanted.
"""

from __future__ import annotations

from typing import Any

import requests
from docker.utils import parse_repository_tag

from ds01portal.exceptions import EngineConflict, EngineError, EngineTimeout, MissingOnEngine

from .. import wire
from ..base import ContainerEngine, ImageDetails
from .client import Client
from .errors import NO_IMAGE, engine_errors
from .images import IMAGE_ID

TYPED_USAGE_API = (1, 42)  # from here on the engine can be asked about images alone
USAGE_SECONDS = 5.0


class DockerLayers(ContainerEngine):
    """The part of the engine that is about images nobody named, and about their layers."""

    _client: Client

    def find_images(self, *, label: str) -> list[ImageDetails]:
        return self._list_by(all=True, filters={"label": [label]})

    def list_dangling_images(self, *, label: str) -> list[ImageDetails]:
        return self._list_by(filters={"label": [label], "dangling": ["true"]})

    def _list_by(self, **question: Any) -> list[ImageDetails]:
        with engine_errors("list the images", missing=NO_IMAGE):
            rows = self._client.api.images(**question)
        return [wire.parse_image(row) for row in rows]

    def remove_image(self, reference_or_id: str) -> bool:
        try:
            if IMAGE_ID.fullmatch(reference_or_id):
                self._require_untagged(reference_or_id)
            elif not parse_repository_tag(reference_or_id)[1] or "@" in reference_or_id:
                raise EngineError("Only a tag or an id can be removed.", cause=reference_or_id)
            with engine_errors("remove the image", missing=NO_IMAGE):
                self._client.api.remove_image(reference_or_id, force=False, noprune=False)
        except MissingOnEngine:
            return False
        return True

    def _require_untagged(self, image_id: str) -> None:
        tags = self.inspect_image(image_id).tags  # the engine would take a last tag with it
        if tags:
            raise EngineConflict(
                "Docker could not remove the image: it is taken or in use.",
                cause=f"{image_id} is tagged {', '.join(tags)}",
            )

    def read_layers_size(self) -> int | None:
        try:
            with engine_errors("measure the images"), self._open_usage() as response:
                return parse_layers_size(response.json())
        except (EngineTimeout, EngineConflict):  # too slow, or somebody else is asking
            return None

    def _open_usage(self) -> requests.Response:
        version = tuple(int(part) for part in self._client.api.api_version.split("."))
        return self._client.open(
            "GET",
            self._client.path("system", "df"),
            # An older engine measures all containers and volumes as well, which can take minutes.
            params={"type": "image"} if version >= TYPED_USAGE_API else {},
            timeout=USAGE_SECONDS,
        )


def parse_layers_size(raw: dict[str, Any]) -> int | None:
    """Read a disk usage answer; API 1.52 moved the figure."""
    size = raw.get("LayersSize")
    if size is None:
        size = (raw.get("ImageUsage") or {}).get("TotalSize")
    return None if size is None else int(size)
