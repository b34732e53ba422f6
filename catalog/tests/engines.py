"""A stand-in for the engine's images: what is here, and pulls that a test holds and lets go."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ds01portal.engine.base import ImageDetails, PullProgress
from ds01portal.exceptions import (
    EngineUnreachable,
    ImagePullFailed,
    MissingOnEngine,
    PortalError,
)

GIGABYTE = 1024**3


def make_details(tag: str, *, size: int = 8 * GIGABYTE, image_id: str = "") -> ImageDetails:
    """Return an image with one tag."""
    return ImageDetails(
        id=image_id or f"sha256:{abs(hash(tag)):064x}",
        tags=(tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest",),
        size=size,
        created_at=None,
        labels={},
        environment={},
    )


class ImageEngine:
    """Only the image part of an engine. `gate` closed holds every pull half way."""

    def __init__(self, *tags: str) -> None:
        self.images = {make_details(tag).tags[0]: make_details(tag) for tag in tags}
        self.gate = threading.Event()
        self.gate.set()
        self.half_way = threading.Event()
        self.pulled: list[str] = []
        self.cancelled: list[str] = []
        self.listings = 0
        self.pull_error: PortalError | Exception | None = None
        self.unreachable = False

    def list_images(self) -> list[ImageDetails]:
        self._answer()
        self.listings += 1
        return list(self.images.values())

    def inspect_image(self, reference: str) -> ImageDetails:
        self._answer()
        try:
            return self.images[_full(reference)]
        except KeyError:
            raise MissingOnEngine(f"There is no image {reference} on the engine.") from None

    def pull_image(
        self,
        reference: str,
        *,
        on_progress: Callable[[PullProgress], None],
        is_cancelled: Callable[[], bool],
    ) -> ImageDetails:
        self.pulled.append(reference)
        on_progress(PullProgress(percent=50, done_bytes=1, total_bytes=2, message="half"))
        self.half_way.set()
        while not self.gate.wait(0.01):
            if is_cancelled():
                self.cancelled.append(reference)
                raise ImagePullFailed("cancelled", cancelled=True)
        if self.pull_error is not None:
            raise self.pull_error
        details = self.images[_full(reference)] = make_details(reference)
        return details

    def tag_image(self, reference: str, target: str) -> None:
        self.images[_full(target)] = self.images[_full(reference)]

    def untag_image(self, reference: str) -> None:
        self.images.pop(_full(reference), None)

    def close(self) -> None:
        """Let everything go that a test still holds."""
        self.gate.set()

    def _answer(self) -> None:
        if self.unreachable:
            raise EngineUnreachable("The engine does not answer.")


def _full(reference: str) -> str:
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"
