"""Images of the fake engine, and the registry it pulls from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ds01portal.exceptions import EngineConflict, EngineError, MissingOnEngine

from ..base import ImageDetails, PullProgress
from ..progress import PullMeter, pull_cancelled, pull_error
from .world import FakeImage, FakeWorld, full_reference, new_id

STEPS = 5  # messages for each layer, downloading and again extracting


class FakeImages(FakeWorld):
    """The part of the fake engine that is about images."""

    def add_image(
        self,
        reference: str,
        size: int = 1_000_000,
        *,
        files: Mapping[str, bytes] | None = None,
        labels: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Have an image on the engine; return its id."""
        image = self._make(reference, (size,), files, labels, environment)
        with self.changed:
            self.images[image.id] = image
        return image.id

    def add_remote_image(
        self,
        reference: str,
        layers: tuple[int, ...] = (1_000_000,),
        *,
        files: Mapping[str, bytes] | None = None,
        labels: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        seconds_per_step: float = 0.0,
        breaks_with: str = "",
    ) -> None:
        """Have an image in the registry, `layers` in bytes.

        `seconds_per_step` slows its pull down; `breaks_with` is what the engine says when the
        pull fails half way.
        """
        image = self._make(reference, layers, files, labels, environment)
        image.seconds_per_step, image.breaks_with = seconds_per_step, breaks_with
        self.registry[full_reference(reference)] = image

    def _make(
        self,
        reference: str,
        layers: tuple[int, ...],
        files: Mapping[str, bytes] | None,
        labels: Mapping[str, str] | None,
        environment: Mapping[str, str] | None,
    ) -> FakeImage:
        return FakeImage(
            id=f"sha256:{new_id()}",
            tags={full_reference(reference)},
            layers=layers,
            files=dict(files or {}),
            labels=dict(labels or {}),
            environment=dict(environment or {}),
            created_at=self.clock(),
        )

    def list_images(self) -> list[ImageDetails]:
        with self.enter("list_images"):
            return [describe(image, listed=True) for image in self.images.values() if image.tags]

    def inspect_image(self, reference: str) -> ImageDetails:
        with self.enter("inspect_image"):
            return describe(self.find_image(reference))

    def pull_image(
        self,
        reference: str,
        *,
        on_progress: Callable[[PullProgress], None],
        is_cancelled: Callable[[], bool],
    ) -> ImageDetails:
        self.faults.check("pull_image")
        wanted = full_reference(reference)
        image = self.registry.get(wanted)
        if image is None:
            raise pull_error(reference, f"manifest for {wanted} not found: manifest unknown")
        meter, reported = PullMeter(), None
        for message in self._messages(image):
            if is_cancelled():
                raise pull_cancelled(reference)
            self.faults.require_up()
            if message.get("error"):
                raise pull_error(reference, str(message["error"]))
            meter.feed(message)
            if (now := meter.read()) != reported:
                on_progress(now)
                reported = now
            _wait(image.seconds_per_step, is_cancelled)
        with self.changed:
            for other in self.images.values():
                other.tags.discard(wanted)
            kept = self.images.setdefault(image.id, image)
            kept.tags.add(wanted)
        on_progress(PullProgress(percent=100.0, done_bytes=0, total_bytes=0, message="Downloaded"))
        return describe(image)

    def _messages(self, image: FakeImage) -> Iterator[dict[str, Any]]:
        """Yield what a real engine says during a pull."""
        if image.id in self.images:
            return
        names = [f"layer{number:08}" for number, _ in enumerate(image.layers)]
        yield from ({"id": name, "status": "Pulling fs layer"} for name in names)
        for status in ("Downloading", "Extracting"):
            for name, size in zip(names, image.layers, strict=True):
                for step in range(1, STEPS + 1):
                    detail = {"current": size * step // STEPS, "total": size}
                    yield {"id": name, "status": status, "progressDetail": detail}
                if status == "Extracting":
                    yield {"id": name, "status": "Pull complete"}
            if image.breaks_with:
                yield {"error": image.breaks_with}

    def tag_image(self, reference: str, target: str) -> None:
        with self.enter("tag_image"):
            image = self.find_image(reference)
            for other in self.images.values():
                other.tags.discard(full_reference(target))
            image.tags.add(full_reference(target))

    def untag_image(self, reference: str) -> None:
        with self.enter("untag_image"):
            if (
                ":" not in reference.rpartition("/")[2]
                or "@" in reference
                or (reference in self.images)
            ):
                raise EngineError("Only a tag can be removed, not an image.", cause=reference)
            try:
                image = self.find_image(reference)
            except MissingOnEngine:
                return
            if image.tags == {reference}:
                self._require_unused(image, reference)
                if not self.has_children(image):
                    del self.images[image.id]
            image.tags.discard(reference)

    def _require_unused(self, image: FakeImage, reference: str) -> None:
        for one in self.containers.values():
            if one.raw["Image"] == image.id:
                raise EngineConflict(
                    "Docker could not remove the image's tag: it is taken or in use.",
                    cause=f"container {one.name} is using {reference}",
                )

    def read_image_files(self, reference: str, paths: tuple[str, ...]) -> dict[str, bytes]:
        with self.enter("read_image_files"):
            files = self.find_image(reference).files
            return {path: files[path] for path in paths if path in files}


def describe(image: FakeImage, *, listed: bool = False) -> ImageDetails:
    """Return what the engine says of an image; less in a listing than asked for alone."""
    return ImageDetails(
        id=image.id,
        tags=tuple(sorted(image.tags)),
        size=sum(image.layers),
        created_at=image.created_at,
        labels=dict(image.labels),
        environment={} if listed else dict(image.environment),
        parent=image.parent,
        user="" if listed else image.user,
    )


def _wait(seconds: float, is_cancelled: Callable[[], bool]) -> None:
    """Wait, looking up several times a second, as the real one does."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not is_cancelled():
        time.sleep(min(left, 0.1))
