"""Folders on the host: the workspace of a person, a container's home, shared folders.

Every step below a root goes through an open directory descriptor and never follows a symbolic
link, so that a link swapped in between leads nowhere. What the engine really mounted is
checked once more after the start (`identify_folder`). Needs the right to give files away
(root), as containers of different people need differently owned folders.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from django.conf import settings

from ds01portal.exceptions import EngineError, FolderRefused
from ds01portal.models import Person
from workspaces.models import Container, SharedFolder

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FORBIDDEN_ROOTS = ("/", "/etc", "/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/root")

BASHRC = b"""# Made by the portal once; yours to change. Lives as long as this container.
export PS1='[\\h] \\u:\\w\\$ '
export PATH="$HOME/.local/bin:$PATH"
alias ll='ls -lA'
"""


def workspace_parts(text: str) -> tuple[str, ...]:
    """Return the parts of a folder below the workspace; raise FolderRefused for bad ones."""
    text = text.strip()
    if not text:
        return ()
    path = PurePosixPath(text)
    bad = path.is_absolute() or ".." in path.parts or len(path.parts) > 8
    if bad or any(sign in text for sign in ",:\\\0\n\r\t") or len(text) > 200:
        raise FolderRefused(
            f"“{text[:80]}” is not a folder below your workspace.",
            hint="Write a name such as thesis or thesis/run1, without “..”, comma or colon.",
            field="workspace",
        )
    return path.parts


def workspace_base(person: Person) -> tuple[Path, str]:
    """Return the folder that must exist, and the name of the person's workspace in it."""
    if settings.DS01_WORKSPACE_ROOT:
        return Path(settings.DS01_WORKSPACE_ROOT), str(person.linux_name)
    if person.home and Path(person.home).is_dir():
        return Path(person.home), "workspace"
    return Path(settings.DS01_STATE_DIR) / "workspaces", str(person.linux_name)


def ensure_workspace(*, person: Person, subfolder: str = "") -> str:
    """Return the host path of the workspace, made with the right owner where it is missing.

    Raise FolderRefused when a part of it is a link, no directory, or somebody else's.
    """
    return _walk_workspace(person, subfolder)[0]


def identify_workspace(*, person: Person, subfolder: str = "") -> tuple[int, int]:
    """Return device and inode of the workspace, walked to without following any link."""
    return _walk_workspace(person, subfolder)[1]


def _walk_workspace(person: Person, subfolder: str) -> tuple[str, tuple[int, int]]:
    base, name = workspace_base(person)
    parts = (name, *workspace_parts(subfolder))
    if not person.home or base != Path(person.home):
        base.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        descriptor = _open(os.path.realpath(base), None)
        stack.callback(os.close, descriptor)
        for part in parts:
            descriptor = _enter(descriptor, part, person)
            stack.callback(os.close, descriptor)
        facts = os.fstat(descriptor)
    return str(Path(os.path.realpath(base), *parts)), (facts.st_dev, facts.st_ino)


def _open(path: str, parent: int | None) -> int:
    try:
        return os.open(path, OPEN_DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise FolderRefused(
            f"“{path}” is not a folder that can be used as a workspace.",
            hint="Remove the link or file of that name, or choose another folder.",
            field="workspace",
            cause=str(error),
        ) from error


def _enter(parent: int, name: str, person: Person) -> int:
    """Return a descriptor of the child, made when missing; it must be the person's own."""
    assert person.uid is not None and person.gid is not None
    try:
        os.mkdir(name, 0o750, dir_fd=parent)
        made = True
    except FileExistsError:
        made = False
    except OSError as error:
        raise EngineError("The workspace folder cannot be made.", cause=str(error)) from error
    descriptor = _open(name, parent)
    facts = os.fstat(descriptor)
    try:
        # A portal that was killed between the two steps left an empty folder of its own.
        if made or (facts.st_uid == os.geteuid() and not os.listdir(descriptor)):
            os.fchown(descriptor, person.uid, person.gid)
        elif facts.st_uid != person.uid:
            raise FolderRefused(
                f"The folder “{name}” belongs to somebody else.",
                hint="Choose another folder, or ask an admin to correct its owner.",
                field="workspace",
                owner_uid=facts.st_uid,
            )
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise EngineError(
                "The portal may not create folders for others; it must run as root.",
                cause=str(error),
            ) from error
        raise
    return descriptor


def check_shared_folder(*, folder: SharedFolder) -> str:
    """Return the real path of a shared folder; raise FolderRefused unless an operator allowed it.

    Allowed are folders below DS01_SHARED_ROOTS, after every link is resolved.
    """
    real = os.path.realpath(folder.path)
    roots = [os.path.realpath(root) for root in settings.DS01_SHARED_ROOTS if root]
    inside = any(real == root or real.startswith(root + os.sep) for root in roots)
    if not inside or real in FORBIDDEN_ROOTS or "," in real or not os.path.isdir(real):
        raise FolderRefused(
            f"The shared folder “{folder.name}” cannot be mounted.",
            hint="It must be an existing folder below DS01_SHARED_ROOTS; tell an admin.",
            field=str(folder.purpose),
        )
    return real


def home_path(container: Container) -> Path:
    """Return the host path of a container's home."""
    return Path(settings.DS01_STATE_DIR).absolute() / "homes" / str(container.pk)


def ensure_home(*, container: Container) -> Path:
    """Make the writable home that a container has until it is removed."""
    person = container.owner
    assert person is not None and person.uid is not None and person.gid is not None
    path = home_path(container)
    _ensure_private(path.parent)
    if not path.exists():
        draft = path.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        (draft / ".bashrc").write_bytes(BASHRC)
        (draft / ".profile").write_bytes(b'[ -n "$BASH_VERSION" ] && . "$HOME/.bashrc"\n')
        for item in (*draft.iterdir(), draft):
            _give(item, person)
        draft.rename(path)
    return path


def _ensure_private(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != 0o700:
        path.chmod(0o700)


def _give(path: Path, person: Person) -> None:
    try:
        os.chown(path, person.uid or -1, person.gid or -1, follow_symlinks=False)
    except PermissionError as error:
        raise EngineError(
            "The portal may not create folders for others; it must run as root.", cause=str(error)
        ) from error


def remove_home(*, container: Container) -> None:
    """Delete a container's home. Missing is success."""
    path = home_path(container)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)


def identify_folder(path: str) -> tuple[int, int]:
    """Return device and inode of a folder that is no link; raise FolderRefused when gone."""
    try:
        facts = os.stat(path, follow_symlinks=False)
    except OSError as error:
        raise FolderRefused(
            f"The folder {path} is not there any more.", hint="Tell an admin.", cause=str(error)
        ) from error
    return facts.st_dev, facts.st_ino


def find_swapped_mounts(*, pid: int, mounts: dict[str, tuple[int, int]]) -> list[str]:
    """Return the targets whose folder inside the process is another one than expected.

    `mounts` maps target → (device, inode). Targets that cannot be looked at (another host, no
    rights) are not reported: the engine's own answer stands for them.
    """
    swapped = []
    for target, expected in mounts.items():
        try:
            facts = os.stat(f"/proc/{pid}/root{target}", follow_symlinks=False)
        except OSError:
            continue
        if (facts.st_dev, facts.st_ino) != expected:
            swapped.append(target)
    return swapped
