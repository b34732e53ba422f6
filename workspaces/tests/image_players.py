"""Processes that use and delete the same images at the same moments; no engine is asked.

Not a test. Run as `python -m … VERB ARGUMENTS`.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator

import django

django.setup()

from django.db import transaction  # noqa: E402

from catalog.models import Image, Recipe  # noqa: E402
from catalog.services.image_care import delete_version, use_image  # noqa: E402
from ds01portal.exceptions import ImageInUse, ImageRefused, NotFound  # noqa: E402
from ds01portal.models import Person  # noqa: E402
from workspaces.models import Container  # noqa: E402

STEP = 0.05  # seconds between two rounds


def prepare(count: int) -> dict[str, object]:
    """Make a person with that many versions of an image."""
    owner = Person.objects.create(username="alice", uid=300_001, gid=300_001, linux_name="alice")
    recipe = Recipe.objects.create(owner=owner, name="thesis")
    for number in range(1, count + 1):
        Image.objects.create(
            kind="custom",
            owner=owner,
            recipe=recipe,
            number=number,
            framework="Python",
            version="3",
            reference=recipe.reference(number),
            engine_image_id=f"sha256:{number:064x}",
        )
    return {}


def _rounds(start: float) -> Iterator[Image]:
    images = list(Image.objects.custom().select_related("recipe__owner").order_by("number"))
    for number, image in enumerate(images):
        time.sleep(max(start + number * STEP - time.time(), 0) + random.random() * 0.004)
        yield image


def use(start: float) -> dict[str, int]:
    """Use each image at its moment, as a launch does; a launch takes its time."""
    counts: Counter[str] = Counter()
    for image in _rounds(start):
        try:
            with transaction.atomic():
                use_image(image=image)
                time.sleep(random.random() * 0.01)
                Container.objects.create(
                    owner=image.owner,
                    name=f"c{image.number}",
                    engine_name=f"c{image.number}._.{image.owner.uid}",
                    image=image,
                    image_reference=image.reference,
                )
            counts["used"] += 1
        except ImageRefused:
            counts["refused"] += 1
    return dict(counts)


def delete(start: float) -> dict[str, int]:
    """Delete each image at its moment."""
    counts: Counter[str] = Counter(deleted=0, refused=0)
    for image in _rounds(start):
        try:
            delete_version(image=image, actor=None)
            counts["deleted"] += 1
        except (ImageInUse, NotFound):
            counts["refused"] += 1
    return dict(counts)


def left() -> dict[str, int]:
    """Return what must not be."""
    counts: Counter[str] = Counter({"used and deleted": 0, "neither": 0})
    for image in Image.objects.custom():
        used = Container.objects.filter(image=image).exists()
        counts["used and deleted"] += used and image.is_retired
        counts["neither"] += not used and not image.is_retired
    return dict(counts)


VERBS = {
    "prepare": lambda count: prepare(int(count)),
    "use": lambda start: use(float(start)),
    "delete": lambda start: delete(float(start)),
    "left": left,
}

if __name__ == "__main__":
    print(json.dumps(VERBS[sys.argv[1]](*sys.argv[2:])))
