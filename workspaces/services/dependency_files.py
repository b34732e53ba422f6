"""Files in a person's workspace that name packages: found, and read for a recipe.

As with mounts, every step goes through an open directory and follows no symbolic link. Not in
charge of: what the files say (`catalog.recipes`).
"""

from __future__ import annotations

import datetime as dt
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from ds01portal.exceptions import FolderRefused, NotFound
from ds01portal.models import Person
from workspaces.services.folders import OPEN_DIRECTORY, workspace_base, workspace_parts

__all__ = ["DependencyFile", "find_dependency_files", "read_dependency_text"]

NAMES = re.compile(r"requirements[\w.-]*\.txt|environment[\w.-]*\.ya?ml|pyproject\.toml")
MAX_DEPTH = 2  # folders below the workspace
MAX_ENTRIES = 5_000  # looked at; a workspace may hold a data set
MAX_FOLDERS = 200  # open at the same time
MAX_FILES = 50
MAX_BYTES = 65_536
READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True, slots=True)
class DependencyFile:
    """A file by its path below the workspace; `size` in bytes."""

    path: str
    size: int
    changed_at: dt.datetime


def find_dependency_files(*, person: Person) -> list[DependencyFile]:
    """Return what looks like a list of packages, newest first; nothing without a workspace."""
    base, name = workspace_base(person)
    try:
        root = _open_folder(str(base.resolve()), (name,))
    except OSError:
        return []
    found: list[DependencyFile] = []
    looked = 0
    with ExitStack() as stack:
        folders = [("", root)]
        stack.callback(os.close, root)
        while folders:
            prefix, descriptor = folders.pop(0)
            for entry, facts in _entries(descriptor):
                looked += 1
                if looked > MAX_ENTRIES or len(found) >= MAX_FILES:
                    return _newest_first(found)
                if stat.S_ISREG(facts.st_mode) and NAMES.fullmatch(entry):
                    found.append(_describe(f"{prefix}{entry}", facts))
                elif len(folders) < MAX_FOLDERS and _is_worth_a_look(entry, facts, prefix):
                    with suppress(OSError):
                        below = os.open(entry, OPEN_DIRECTORY, dir_fd=descriptor)
                        stack.callback(os.close, below)
                        folders.append((f"{prefix}{entry}/", below))
    return _newest_first(found)


def _newest_first(found: list[DependencyFile]) -> list[DependencyFile]:
    return sorted(found, key=lambda file: file.changed_at, reverse=True)


def _describe(path: str, facts: os.stat_result) -> DependencyFile:
    changed = dt.datetime.fromtimestamp(facts.st_mtime, dt.UTC)
    return DependencyFile(path=path, size=facts.st_size, changed_at=changed)


def _entries(descriptor: int) -> Iterator[tuple[str, os.stat_result]]:
    for entry in sorted(os.listdir(descriptor)):
        try:
            yield entry, os.stat(entry, dir_fd=descriptor, follow_symlinks=False)
        except OSError:
            continue


def _is_worth_a_look(entry: str, facts: os.stat_result, prefix: str) -> bool:
    deep = prefix.count("/") >= MAX_DEPTH
    return stat.S_ISDIR(facts.st_mode) and not deep and not entry.startswith((".", "__"))


def read_dependency_text(*, person: Person, path: str) -> bytes:
    """Return the content of such a file, at most 64 KB.

    Raise FolderRefused for a path that leaves the workspace, a link, a file of somebody else's
    or one that is no list of packages; NotFound when it is gone.
    """
    parts = workspace_parts(path)
    if not parts or not NAMES.fullmatch(parts[-1]):
        raise _refused(path, "Choose a requirements.txt, an environment.yml or a pyproject.toml.")
    base, name = workspace_base(person)
    with ExitStack() as stack:
        try:
            folder = _open_folder(str(base.resolve()), (name, *parts[:-1]))
            stack.callback(os.close, folder)
            descriptor = os.open(parts[-1], READ_FILE, dir_fd=folder)
        except FileNotFoundError as error:
            raise NotFound(
                f"There is no {PurePosixPath(path)} in your workspace any more.",
                hint="Reload the list.",
                field="path",
            ) from error
        except OSError as error:
            raise _refused(path, "It is a link or cannot be read.", str(error)) from error
        stack.callback(os.close, descriptor)
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != person.uid:
            raise _refused(path, "It is not a plain file of your own.")
        if facts.st_size > MAX_BYTES:
            raise _refused(path, "It is larger than 64 KB, more than any list of packages.")
        return os.read(descriptor, MAX_BYTES + 1)[:MAX_BYTES]


def _open_folder(base: str, parts: tuple[str, ...]) -> int:
    """Return a descriptor of the folder; raise OSError for what is missing or a link."""
    descriptor = os.open(base, OPEN_DIRECTORY)
    for part in parts:
        try:
            below = os.open(part, OPEN_DIRECTORY, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _refused(path: str, hint: str, cause: str = "") -> FolderRefused:
    return FolderRefused(
        f"“{path[:80]}” in your workspace cannot be used.", hint=hint, cause=cause, field="path"
    )
