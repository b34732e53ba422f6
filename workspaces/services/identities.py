"""Give a person a name and a group inside an image without changing the image.

The image's own `/etc/passwd` and `/etc/group` are read once per image, merged with one line
each, and mounted read-only. No commit, no apt, and no `useradd`, which would grow sparse
giants for large uids. Not in charge of: who the person is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from django.conf import settings

from ds01portal.engine.base import ContainerEngine, ImageDetails, Mount, TarEntry
from ds01portal.models import Person

PASSWD, GROUP = "/etc/passwd", "/etc/group"


def home_inside(person: Person) -> str:
    """Return the home of a person inside every container."""
    return f"/home/{person.linux_name}"


def merge_passwd(text: str, person: Person) -> str:
    """Return the image's passwd with the person in place of whoever had the name or the uid."""
    line = f"{person.linux_name}:x:{person.uid}:{person.gid}::{home_inside(person)}:/bin/bash"
    return _merge(text, str(person.linux_name), str(person.uid), line)


def merge_group(text: str, person: Person) -> str:
    """Return the image's group file with the person's group."""
    line = f"{person.linux_name}:x:{person.gid}:"
    return _merge(text, str(person.linux_name), str(person.gid), line)


def _merge(text: str, name: str, number: str, line: str) -> str:
    kept = []
    for row in text.splitlines():
        fields = row.split(":")
        if len(fields) >= 3 and fields[0] != name and fields[2] != number:
            kept.append(row)
    return "\n".join([*kept, line]) + "\n"


def is_engine_local() -> bool:
    """Tell whether the engine sees this host's files."""
    return settings.DOCKER_HOST.startswith(("unix://", "/")) or "fake" in settings.DS01_ENGINE


def identity_files(
    *, engine: ContainerEngine, image: ImageDetails, person: Person
) -> dict[str, str]:
    """Return path inside → merged text, reading the image's files at most once per image."""
    folder = _image_folder(image)
    cache = folder / "base.json"
    if cache.exists():
        base: dict[str, str] = json.loads(cache.read_text())
    else:
        found = engine.read_image_files(image.id, (PASSWD, GROUP))
        base = {path: content.decode("utf-8", "replace") for path, content in found.items()}
        _write(cache, json.dumps(base))
    return {
        PASSWD: merge_passwd(base.get(PASSWD, "root:x:0:0:root:/root:/bin/sh\n"), person),
        GROUP: merge_group(base.get(GROUP, "root:x:0:\n"), person),
    }


def identity_mounts(
    *, engine: ContainerEngine, image: ImageDetails, person: Person
) -> tuple[Mount, ...]:
    """Return read-only mounts of the merged files, for an engine on this host."""
    folder = _image_folder(image) / str(person.uid)
    mounts = []
    for target, text in identity_files(engine=engine, image=image, person=person).items():
        path = folder / Path(target).name
        if not path.exists() or path.read_text() != text:
            _write(path, text)
        mounts.append(Mount(source=str(path), target=target, read_only=True))
    return tuple(mounts)


def identity_entries(
    *, engine: ContainerEngine, image: ImageDetails, person: Person
) -> tuple[TarEntry, ...]:
    """Return the merged files and the home to put in, for an engine on another host."""
    assert person.uid is not None and person.gid is not None
    files = identity_files(engine=engine, image=image, person=person)
    home = TarEntry(
        path=home_inside(person), content=None, uid=person.uid, gid=person.gid, mode=0o700
    )
    return (*(TarEntry(path=path, content=text.encode()) for path, text in files.items()), home)


def _image_folder(image: ImageDetails) -> Path:
    name = image.id.replace(":", "-").replace("/", "-")
    return Path(settings.DS01_STATE_DIR).absolute() / "identities" / name


def _write(path: Path, text: str) -> None:
    """Write a file that everybody may read in one step; concurrent writers agree on the text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    draft.write_text(text)
    draft.chmod(0o644)
    draft.rename(path)
