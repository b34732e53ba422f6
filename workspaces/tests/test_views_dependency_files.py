"""The list of dependency files in one's own workspace, as the recipe form asks for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.test import Client

from ds01portal.models import Person
from workspaces.services.folders import ensure_workspace

LIST = "/workspace/dependency-files/"
ONE = "/workspace/dependency-file/"


@pytest.fixture
def workspace(alice: Person) -> Path:
    """Alice's workspace with one list in it."""
    root = Path(ensure_workspace(person=alice))
    (root / "requirements a&b.txt").write_text("no match\n")
    write(root / "requirements.txt", "numpy # grün\n".encode(), alice)
    return root


def write(path: Path, content: bytes, person: Person) -> None:
    path.write_bytes(content)
    os.chown(path, person.uid or 0, person.gid or 0)


def test_shows_buttons_that_lead_to_the_text(
    client: Client, alice: Person, workspace: Path
) -> None:
    client.force_login(alice)

    listing = client.get(LIST).content.decode()
    answer = client.get(ONE, {"path": "requirements.txt"})

    assert f'data-dependency-url="{ONE}?path=requirements.txt"' in listing
    assert answer.json()["name"] == "requirements.txt"
    assert answer.json()["text"] == "numpy # grün\n"


def test_an_empty_workspace_says_what_is_looked_for(client: Client, bob: Person) -> None:
    client.force_login(bob)

    shown = client.get(LIST).content.decode()

    assert "requirements.txt, environment.yml or pyproject.toml" in shown


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../alice/requirements.txt", "gone.txt"])
def test_says_why_a_file_cannot_be_taken(
    client: Client, alice: Person, bob: Person, workspace: Path, path: str
) -> None:
    client.force_login(bob)

    answer = client.get(ONE, {"path": path})

    assert answer.status_code == 422
    assert answer.json()["error"]


def test_a_file_that_is_no_text_is_refused(client: Client, alice: Person, workspace: Path) -> None:
    write(workspace / "requirements.txt", b"numpy \xff\xfe\n", alice)
    client.force_login(alice)

    answer = client.get(ONE, {"path": "requirements.txt"})

    assert (answer.status_code, "UTF-8" in answer.json()["error"]) == (422, True)


def test_strangers_are_sent_to_sign_in(client: Client, db: None) -> None:
    assert client.get(LIST).status_code == 302
    assert client.get(ONE).status_code == 302
