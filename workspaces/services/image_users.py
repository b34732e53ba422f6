"""Which containers stand on an image: the answer that the catalogue asks for.

A failed launch left nothing on the engine and a removed container is gone: neither counts.
Reads rows only; containers that no row knows are the engine's to name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from django.db.models import Q

from catalog.models import Image
from catalog.uses import register_users
from workspaces.models import Container

__all__ = ["find_image_users", "find_users_on_engine", "register"]


def find_image_users(images: Iterable[int]) -> dict[int, list[str]]:
    """Return primary key of an image → names of its containers, also of those that adopted it.

    A container made outside of the portal names no image row; the id on the engine tells.
    """
    rows = dict(Image.objects.filter(pk__in=list(images)).values_list("pk", "engine_image_id"))
    by_engine_id = defaultdict(list)
    for pk, engine_id in rows.items():
        if engine_id:
            by_engine_id[engine_id].append(pk)
    containers = (
        Container.objects.counted()
        .filter(Q(image__in=rows) | Q(image_engine_id__in=by_engine_id))
        .select_related("owner")
    )
    found: defaultdict[int, set[str]] = defaultdict(set)
    for container in containers:
        keys = set(by_engine_id.get(container.image_engine_id, ()))
        if container.image_id in rows:
            keys.add(container.image_id)
        for key in keys:
            found[key].add(_name(container))
    return {key: sorted(names) for key, names in found.items()}


def find_users_on_engine(engine_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return id of an image on the engine → names of the containers that stand on it."""
    wanted = {one for one in engine_ids if one}
    found: defaultdict[str, set[str]] = defaultdict(set)
    rows = Container.objects.counted().filter(image_engine_id__in=wanted).select_related("owner")
    for container in rows:
        found[container.image_engine_id].add(_name(container))
    return {key: sorted(names) for key, names in found.items()}


def register() -> None:
    """Answer the catalogue from now on."""
    register_users(find_image_users, find_on_engine=find_users_on_engine)


def _name(container: Container) -> str:
    """Return the name with its owner's, as names are unique per owner only."""
    if container.owner is None:
        return container.engine_name
    return f"{container.owner.username}/{container.name}"
