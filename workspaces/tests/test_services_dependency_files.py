"""Lists of packages in a workspace: found, read, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ds01portal.exceptions import FolderRefused, NotFound
from ds01portal.models import Person
from workspaces.services.dependency_files import find_dependency_files, read_dependency_text
from workspaces.services.folders import ensure_workspace


@pytest.fixture
def workspace(alice: Person) -> Path:
    """Alice's workspace with a project, a hidden folder and a data set in it."""
    root = Path(ensure_workspace(person=alice))
    for path, text in {
        "requirements.txt": "numpy\n",
        "thesis/requirements-dev.txt": "pytest\n",
        "thesis/environment.yml": "dependencies: [numpy]\n",
        "thesis/code/pyproject.toml": "[project]\n",
        "thesis/code/deep/requirements.txt": "too deep\n",
        ".venv/requirements.txt": "hidden\n",
        "thesis/notes.txt": "no list\n",
    }.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.chown(file, alice.uid or 0, alice.gid or 0)
    return root


def test_finds_lists_near_the_top_and_leaves_the_rest_alone(alice: Person, workspace: Path) -> None:
    assert sorted(file.path for file in find_dependency_files(person=alice)) == [
        "requirements.txt",
        "thesis/code/pyproject.toml",
        "thesis/environment.yml",
        "thesis/requirements-dev.txt",
    ]


def test_without_a_workspace_there_are_none_and_none_is_made(bob: Person, tmp_path: Path) -> None:
    assert find_dependency_files(person=bob) == []
    assert list((tmp_path / "workspaces").iterdir()) == []


def test_reads_a_list(alice: Person, workspace: Path) -> None:
    assert read_dependency_text(person=alice, path="thesis/requirements-dev.txt") == b"pytest\n"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../bob/requirements.txt",
        "thesis/../../bob/requirements.txt",
        "thesis/notes.txt",
        "requirements.txt\0.png",
        "thesis:requirements.txt",
    ],
)
def test_refuses_paths_that_lead_elsewhere(alice: Person, workspace: Path, path: str) -> None:
    with pytest.raises(FolderRefused):
        read_dependency_text(person=alice, path=path)


def test_follows_no_link_to_a_file_or_a_folder(
    alice: Person, workspace: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "requirements.txt"
    secret.write_text("secret\n")
    (workspace / "requirements-link.txt").symlink_to(secret)
    (workspace / "elsewhere").symlink_to(tmp_path)

    assert "requirements-link.txt" not in [one.path for one in find_dependency_files(person=alice)]
    for path in ("requirements-link.txt", "elsewhere/requirements.txt"):
        with pytest.raises(FolderRefused, match="cannot be used"):
            read_dependency_text(person=alice, path=path)


def test_reads_no_pipe_no_huge_file_and_nobody_elses(
    alice: Person, bob: Person, workspace: Path
) -> None:
    os.mkfifo(workspace / "requirements-pipe.txt")
    (workspace / "requirements-big.txt").write_bytes(b"x" * 65_537)
    os.chown(workspace / "requirements-big.txt", alice.uid or 0, alice.gid or 0)
    (workspace / "requirements-bob.txt").write_bytes(b"bob\n")
    os.chown(workspace / "requirements-bob.txt", bob.uid or 0, bob.gid or 0)

    for name in ("pipe", "big", "bob"):
        with pytest.raises(FolderRefused):
            read_dependency_text(person=alice, path=f"requirements-{name}.txt")


def test_says_when_a_file_is_gone(alice: Person, workspace: Path) -> None:
    with pytest.raises(NotFound, match="any more"):
        read_dependency_text(person=alice, path="thesis/requirements-gone.txt")
