"""Who uses an image: a question that this app cannot answer, so others register answers.

The catalogue knows nothing of containers. Whoever starts something from images registers how
to find out; without an answer nothing counts as used here, and the engine's own refusal to
remove what a container stands on is what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

__all__ = ["find_engine_users", "find_users", "register_users"]

FindByRow = Callable[[Iterable[int]], Mapping[int, list[str]]]
FindByEngineId = Callable[[Iterable[str]], Mapping[str, list[str]]]

_by_row: list[FindByRow] = []
_by_engine_id: list[FindByEngineId] = []


def register_users(find: FindByRow, *, find_on_engine: FindByEngineId | None = None) -> None:
    """Ask these as well: primary keys of images, or ids on the engine, to names of users."""
    if find not in _by_row:
        _by_row.append(find)
    if find_on_engine is not None and find_on_engine not in _by_engine_id:
        _by_engine_id.append(find_on_engine)


def find_users(images: Iterable[int]) -> dict[int, list[str]]:
    """Return primary key of an image → names of what uses it; images without users are not in."""
    wanted = list(images)
    found: dict[int, list[str]] = {}
    for find in _by_row:
        for key, names in find(wanted).items():
            found[key] = sorted({*found.get(key, []), *names})
    return found


def find_engine_users(engine_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return id of an image on the engine → names of what stands on it, by the rows."""
    wanted = [one for one in engine_ids if one]
    found: dict[str, list[str]] = {}
    for find in _by_engine_id:
        for key, names in find(wanted).items():
            found[key] = sorted({*found.get(key, []), *names})
    return found
