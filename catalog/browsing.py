"""Arrange images for the pages: by framework, what fits this machine first.

Works on rows that were read already; asks the database nothing. Not in charge of: who sees
what (`Image.objects.visible_to`), how it looks (the templates).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from catalog.architectures import Fit, HostArchitecture, Judgement, judge_image
from catalog.models import Image

HERE = "here"
AWAY = "away"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFilter:
    """What a person looks for; empty means everything. `place` is HERE or AWAY."""

    words: str = ""
    framework: str = ""
    version: str = ""
    architecture: str = ""
    place: str = ""

    @property
    def is_active(self) -> bool:
        """Say whether anything is filtered."""
        parts = (self.words, self.framework, self.version, self.architecture, self.place)
        return any(parts)

    def accepts(self, image: Image) -> bool:
        """Say whether an image is one of those looked for."""
        text = f"{image} {image.framework} {image.reference} {image.architectures}".lower()
        return (
            all(word in text for word in self.words.lower().split())
            and self.framework in ("", image.framework_slug)
            and image.version.lower().startswith(self.version.lower())
            and (not self.architecture or self.architecture in image.architecture_list)
            and (not self.place or (self.place == HERE) == image.is_on_engine)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedImage:
    """An image and how it suits the machine."""

    image: Image
    judgement: Judgement

    @property
    def fits(self) -> bool:
        """Say whether it was made for this machine and its driver runs it."""
        return self.judgement.fit == Fit.FITS

    @property
    def cannot_run(self) -> bool:
        """Say whether the driver of this machine cannot run it."""
        return self.judgement.fit == Fit.CANNOT


@dataclass(slots=True)
class ImageGroup:
    """Images of a framework that suit the machine in the same way."""

    title: str
    fit: Fit
    items: list[JudgedImage] = field(default_factory=list)


@dataclass(slots=True)
class FrameworkShelf:
    """All images of a framework. `default` is the newest that fits, None when nothing does."""

    slug: str
    name: str
    groups: list[ImageGroup] = field(default_factory=list)
    default: JudgedImage | None = None
    count: int = 0


def judge(image: Image, host: HostArchitecture) -> JudgedImage:
    """Return the image with how it suits the host."""
    judgement = judge_image(
        architectures=image.architecture_list, reference=image.reference, host=host
    )
    return JudgedImage(image=image, judgement=judgement)


def arrange_images(
    images: Iterable[Image], *, host: HostArchitecture, wanted: ImageFilter
) -> list[FrameworkShelf]:
    """Return the catalogue's images that are wanted, by framework in the catalogue's order."""
    return _arrange(
        (image for image in images if image.kind == Image.Kind.CATALOG),
        host=host,
        accepts=wanted.accepts,
    )


def local_images(
    images: Iterable[Image], *, host: HostArchitecture, wanted: ImageFilter
) -> list[JudgedImage]:
    """Return the local images that are wanted."""
    return [
        judge(image, host)
        for image in images
        if image.kind == Image.Kind.LOCAL and wanted.accepts(image)
    ]


def _arrange(
    images: Iterable[Image], *, host: HostArchitecture, accepts: Callable[[Image], bool]
) -> list[FrameworkShelf]:
    shelves: dict[str, FrameworkShelf] = {}
    groups: dict[tuple[str, str], ImageGroup] = {}
    for image in images:
        if not accepts(image):
            continue
        judged = judge(image, host)
        shelf = shelves.get(image.framework_slug)
        if shelf is None:
            shelf = shelves[image.framework_slug] = FrameworkShelf(
                image.framework_slug, image.display_framework
            )
        shelf.count += 1
        if shelf.default is None and judged.fits:
            shelf.default = judged
        title = _group_title(judged)
        group = groups.get((shelf.slug, title))
        if group is None:
            group = groups[shelf.slug, title] = ImageGroup(title, judged.judgement.fit)
            shelf.groups.append(group)
        group.items.append(judged)
    order = list(Fit)
    for shelf in shelves.values():
        shelf.groups.sort(key=lambda group: order.index(group.fit))
    return list(shelves.values())


def _group_title(judged: JudgedImage) -> str:
    if judged.judgement.fit in (Fit.CANNOT, Fit.OTHER):
        return judged.judgement.reason
    # What fits is one group; without a known machine the architectures tell images apart.
    return "" if judged.fits else judged.image.architectures_text
