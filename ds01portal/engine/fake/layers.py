"""Images of the fake engine that were made on others: children, and what goes with the last."""

from __future__ import annotations

from ds01portal.exceptions import EngineConflict, EngineError, MissingOnEngine

from ..base import ImageDetails
from .images import describe
from .world import FakeImage, FakeWorld, full_reference


class FakeLayers(FakeWorld):
    """The part of the fake engine that is about images nobody named, and about layers."""

    def find_images(self, *, label: str) -> list[ImageDetails]:
        with self.enter("find_images"):
            return [_listed(image) for image in self._labelled(label)]

    def list_dangling_images(self, *, label: str) -> list[ImageDetails]:
        with self.enter("list_dangling_images"):
            return [
                _listed(image)
                for image in self._labelled(label)
                if not image.tags and not self.has_children(image)
            ]

    def _labelled(self, label: str) -> list[FakeImage]:
        key, equals, value = label.partition("=")
        return [
            image
            for image in self.images.values()
            if key in image.labels and (not equals or image.labels[key] == value)
        ]

    def remove_image(self, reference_or_id: str) -> bool:
        by_id = reference_or_id.startswith("sha256:")
        with self.enter("remove_image"):
            tagged = ":" in reference_or_id.rpartition("/")[2] and "@" not in reference_or_id
            if not by_id and not tagged:
                raise EngineError("Only a tag or an id can be removed.", cause=reference_or_id)
            try:
                image = self.find_image(reference_or_id)
            except MissingOnEngine:
                return False
            if by_id:
                self._require(not image.tags, f"tagged {', '.join(sorted(image.tags))}")
                self._require(not self.has_children(image), "it has dependent child images")
            if not image.tags - {full_reference(reference_or_id)}:
                self._require(not self._is_used(image), "a container is using it")
            image.tags.discard(full_reference(reference_or_id))
            self._prune(image)
            return True

    def _require(self, holds: bool, cause: str) -> None:
        if not holds:
            raise EngineConflict(
                "Docker could not remove the image: it is taken or in use.", cause=cause
            )

    def _prune(self, image: FakeImage) -> None:
        """Remove an image that nothing needs, and then its parents of that kind."""
        found: FakeImage | None = image
        while found and not (found.tags or self.has_children(found) or self._is_used(found)):
            del self.images[found.id]
            found = self.images.get(found.parent)

    def _is_used(self, image: FakeImage) -> bool:
        return any(one.raw["Image"] == image.id for one in self.containers.values())

    def read_layers_size(self) -> int | None:
        with self.enter("read_layers_size"):
            return sum(sum(image.layers) - self._inherited(image) for image in self.images.values())

    def _inherited(self, image: FakeImage) -> int:
        parent = self.images.get(image.parent)
        return sum(parent.layers) if parent else 0


def _listed(image: FakeImage) -> ImageDetails:
    return describe(image, listed=True)
