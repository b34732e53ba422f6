"""What is installed in images: read once per image id, in a container that reaches nothing.

Recipes leave out what their base has, and "what did I install?" compares with it. Not in
charge of: running containers (they are asked from where containers are known).
"""

from __future__ import annotations

import logging
import threading
import time

from django.db.models import Q
from django.utils import timezone

from catalog.models import Image, ImagePackages
from catalog.packages import LIST_COMMAND, MOST_OUTPUT, Listing, parse_listing
from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine, StepSpec
from ds01portal.exceptions import EngineError, MissingOnEngine

__all__ = [
    "FACTS_PREFIX",
    "find_packages",
    "read_packages",
    "read_wanted_packages",
    "wanted_images",
]

FACTS_PREFIX = "ds01-facts."  # of the names of the containers that look

logger = logging.getLogger(__name__)

TIMEOUT = 60.0  # seconds; a large image answers within two
NOBODY = "65534:65534"  # who sees as much as a person in a container of the image
# What the portal's own scratch containers are marked with; nothing adopts them.
LABELS = {"aime.mlc.DS01_TEMP": "true"}
MEMORY = 512 * 1024**2

_given_up: set[str] = set()  # ids that could not be read; tried again by the next process
_lock = threading.Lock()


def find_packages(*, engine_image_id: str) -> ImagePackages | None:
    """Return what is known of an image by its id on the engine."""
    return ImagePackages.objects.filter(pk=engine_image_id).first() if engine_image_id else None


def read_packages(
    *, engine_image_id: str, reference: str = "", engine: ContainerEngine | None = None
) -> ImagePackages:
    """Return the packages of an image, read from it unless they are known.

    `reference` is for messages only. An image without Python or dpkg has none. Raise
    EngineError when it cannot be read, MissingOnEngine when it is gone.
    """
    known = find_packages(engine_image_id=engine_image_id)
    if known is not None:
        return known
    listing = _list(engine or get_engine(), engine_image_id, reference or engine_image_id)
    facts, _created = ImagePackages.objects.update_or_create(
        pk=engine_image_id,
        defaults={
            "pip": {package.name: package.version for package in listing.pip.values()},
            "apt": {package.name: package.version for package in listing.apt.values()},
            "read_at": timezone.now(),
        },
    )
    return facts


def _list(engine: ContainerEngine, engine_image_id: str, reference: str) -> Listing:
    output = bytearray()
    until = time.monotonic() + TIMEOUT
    # Two processes may read the same image: each has a container of its own.
    name = f"{FACTS_PREFIX}{engine_image_id.removeprefix('sha256:')[:12]}.{time.monotonic_ns():x}"
    spec = StepSpec(
        name=name,
        image=engine_image_id,
        command=LIST_COMMAND,
        labels={**LABELS, "aime.mlc.DS01_FACTS": name},
        network="none",
        cpus=1.0,
        memory=MEMORY,
        memory_swap=MEMORY,
        pids_limit=64,
        user=NOBODY,
    )
    try:
        result = engine.run_step(
            spec,
            # Root's own packages are not in people's path.
            environment={"PYTHONNOUSERSITE": "1", "HOME": "/nonexistent", "LC_ALL": "C"},
            on_output=output.extend,
            should_stop=lambda: len(output) > MOST_OUTPUT or time.monotonic() > until,
        )
    finally:
        engine.end_step(name)
    listing = parse_listing(bytes(output))
    if not listing.whole:
        raise EngineError(
            f"What is installed in {reference} could not be read.",
            hint="It is taken as it is; packages that it has are installed again.",
            cause=f"exit code {result.exit_code}, {len(output)} bytes",
        )
    return listing


def wanted_images() -> list[Image]:
    """Return images on this machine whose packages are not known yet, the most useful first.

    Those that people build on or built come before the rest of the catalogue.
    """
    known = ImagePackages.objects.values("pk")
    rows = (
        Image.objects.active()
        .on_engine()
        .filter(Q(kind=Image.Kind.CUSTOM) | Q(kind=Image.Kind.CATALOG) | Q(visible=True))
        .exclude(engine_image_id__in=known)
    )
    bases = set(Image.objects.custom().active().values_list("base_engine_id", flat=True).distinct())
    images = [row for row in rows.in_order() if row.engine_image_id not in _given_up]
    return sorted(
        images, key=lambda row: (row.engine_image_id not in bases, not row.is_custom, row.pk)
    )


def read_wanted_packages(*, limit: int = 1, engine: ContainerEngine | None = None) -> int:
    """Read the next images in the background; return how many. One at a time in a process."""
    count = 0
    if not _lock.acquire(blocking=False):
        return 0
    try:
        for image in wanted_images()[:limit]:
            try:
                read_packages(
                    engine_image_id=image.engine_image_id, reference=image.reference, engine=engine
                )
            except MissingOnEngine:
                _given_up.add(image.engine_image_id)
            except EngineError as error:
                if error.code != EngineError.code:
                    raise  # the engine is away: nothing is said about the image
                logger.warning("%s: %s", error.message, error.cause)
                _given_up.add(image.engine_image_id)
            else:
                count += 1
    finally:
        _lock.release()
    return count
