"""Verification: what `inspect` shows is what was asked for, or it may not run."""

from __future__ import annotations

import dataclasses
import os

import pytest

from ds01portal.engine.base import Mount, Observed
from ds01portal.exceptions import EngineError, FolderRefused, OutOfMemory
from workspaces.services.verification import verify_container

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(portal, alice, launch):
    container = launch(alice, "c", devices=2, workspace="thesis")
    return container, portal.inspect_container(container.engine_name)


def verify(portal, container, details, **changes):
    changed = dataclasses.replace(details, **changes)
    verify_container(container=container, details=changed, engine=portal)


def host(details, **values):
    return {**details.raw, "HostConfig": {**details.raw["HostConfig"], **values}}


def test_what_was_asked_for_passes(portal, running):
    verify(portal, *running)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("user", {"user": "0:0"}),
        ("devices", {"devices": ()}),
        ("devices", {"devices": ("GPU-other",)}),
        ("devices", {"all_devices": True}),
        ("visible devices", {"environment": {"NVIDIA_VISIBLE_DEVICES": "all"}}),
        ("visible devices", {"environment": {}}),
        ("memory", {"memory": 0}),
        ("cpus", {"cpus": 0.0}),
        ("workspace", {"mounts": (Mount(source="/etc", target="/workspace"),)}),
        ("workspace", {"mounts": ()}),
    ],
)
def test_each_difference_is_named(portal, running, what, changes):
    with pytest.raises(EngineError) as found:
        verify(portal, *running, **changes)
    assert what in found.value.fields["differs"]
    assert what in found.value.cause


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("privileged", {"Privileged": True}),
        ("capabilities", {"CapDrop": []}),
        ("capabilities", {"CapAdd": ["SYS_ADMIN"]}),
        ("network", {"NetworkMode": "host"}),
    ],
)
def test_privileges_are_looked_at(portal, running, what, values):
    container, details = running
    with pytest.raises(EngineError) as found:
        verify(portal, container, details, raw=host(details, **values))
    assert found.value.fields["differs"] == [what]


def test_without_a_gpu_only_void_passes(portal, alice, launch):
    container = launch(alice, "cpu")
    details = portal.inspect_container(container.engine_name)
    verify(portal, container, details)
    for visible in ("all", "", "0"):
        with pytest.raises(EngineError):
            verify(portal, container, details, environment={"NVIDIA_VISIBLE_DEVICES": visible})


def test_an_end_right_after_the_start_shows_the_last_lines(portal, running):
    container, details = running
    portal.write_log(container.engine_name, b"exec: bash: not found\n")
    with pytest.raises(EngineError) as found:
        verify(portal, container, details, state=Observed.EXITED, exit_code=127)
    assert "exit code 127" in found.value.message
    assert "bash: not found" in found.value.cause


def test_a_start_that_ran_out_of_memory_says_so(portal, running):
    with pytest.raises(OutOfMemory):
        verify(portal, *running, state=Observed.EXITED, oom_killed=True)


def test_a_workspace_swapped_for_a_link_is_found_out(portal, running, alice, tmp_path):
    container, details = running
    folder = tmp_path / "workspaces" / "alice" / "thesis"
    folder.rmdir()
    folder.symlink_to("/etc")
    with pytest.raises(FolderRefused):
        verify(portal, container, details)


def test_a_mount_of_another_folder_is_named(portal, running, monkeypatch):
    """A process whose /workspace is another folder: this test's own, as the host has none."""
    container, details = running
    monkeypatch.setattr(
        "workspaces.services.folders.find_swapped_mounts", lambda *, pid, mounts: list(mounts)
    )
    with pytest.raises(EngineError) as found:
        verify(portal, container, details, pid=os.getpid())
    assert found.value.fields["differs"] == ["folder at /workspace"]
