"""Versions with known ways out of containers: told exactly, and never guessed."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest
from django.core.checks import registry
from django.db import DatabaseError
from django.utils import timezone

from catalog import checks
from catalog.escapes import RUNC, TOOLKIT, find_escapes, parse_version
from catalog.models import HostFacts
from catalog.services import engine_facts
from catalog.services.engine_facts import (
    find_unknown_components,
    forget_toolkit_version,
    known_escapes,
    read_toolkit_version,
    record_engine_facts,
)

NOW = timezone.now()
LEAKY = "CVE-2024-21626"
MASKED = "CVE-2025-31133"


def advisories(component: str, version: str) -> list[str]:
    return [escape.advisory.split(",")[0] for escape in find_escapes(component, version)]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.0.3", [LEAKY, MASKED]),
        ("1.1.5+ds1-1+deb12u1", [LEAKY, MASKED]),
        ("v1.1.11-0-g4bccb38", [LEAKY, MASKED]),
        ("1.1.12", [MASKED]),
        ("1.1.15", [MASKED]),
        ("1.2.0-rc.2", [MASKED]),
        ("1.2.7", [MASKED]),
        ("1.2.8", []),
        ("1.2.9", []),
        ("1.3.0", [MASKED]),
        ("1.3.2", [MASKED]),
        ("1.3.3", []),
        ("1.4.0-rc.1", [MASKED]),
        ("1.4.0-rc.3", []),
        ("1.4.0", []),
        ("1.5.2", []),
        ("2.0.0", []),
    ],
)
def test_each_line_of_runc_is_judged_by_its_own_fix(version, expected):
    assert advisories(RUNC, version) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.16.1", ["CVE-2024-0132", "CVE-2025-23266"]),
        ("1.16.2-1", ["CVE-2025-23266"]),
        ("1.17.7", ["CVE-2025-23266"]),
        ("1.17.8-rc.1", ["CVE-2025-23266"]),
        ("1.17.8-1", []),
        ("1.18.0", []),
    ],
)
def test_the_toolkit_is_judged_too(version, expected):
    assert advisories(TOOLKIT, version) == expected


@pytest.mark.parametrize(
    "text", ["", "unknown", "git-51d5e94", "1", "latest", "v", "1.x.3", "١.٢.٣"]
)
def test_a_version_that_cannot_be_read_is_no_alarm(text):
    assert find_escapes(RUNC, text) == find_escapes(TOOLKIT, text) == []


@pytest.mark.parametrize(
    ("text", "packaged"),
    [
        ("1.1.5+ds1-1+deb12u1", True),
        ("1.1.12-0ubuntu3.1", True),
        ("1.1.12~deb12", True),
        ("1.1.12-2.el9", True),
        ("1.1.12", False),
        ("1.1.12-0-g51d5e94", False),
        ("1.1.12-1", False),
        ("1.1.12+unknown", False),
    ],
)
def test_a_distributions_package_is_known_by_its_suffix(text, packaged):
    assert parse_version(text).packaged is packaged
    for escape in find_escapes(RUNC, text):
        assert escape.packaged is packaged
        assert ("distribution" in escape.message) is packaged


def test_candidates_come_before_the_release():
    ordered = ["1.1.9", "1.2.0-rc.1", "1.2.0-rc.2", "1.2", "1.2.1", "1.10.0"]

    parsed = [parse_version(text) for text in ordered]

    assert parsed == sorted(parsed)


# What is stored ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_facts_are_written_only_when_they_change(django_assert_num_queries):
    first = record_engine_facts(root="/var/lib/docker", runc_version="1.1.12", toolkit_version="")

    with django_assert_num_queries(1):
        record_engine_facts(root="/var/lib/docker", runc_version="1.1.12", toolkit_version="")
    facts = record_engine_facts(root="/data", runc_version="1.3.3", toolkit_version="1.17.8")

    assert HostFacts.objects.count() == 1
    assert facts.engine_root == "/data"
    assert facts.updated_at > first.updated_at


@pytest.mark.django_db
def test_the_drivers_facts_stay(db):
    HostFacts.objects.create(pk=1, driver_version="550.1", driver_cuda="12.4", updated_at=NOW)

    facts = record_engine_facts(root="/r", runc_version="1.1.12", toolkit_version="")

    assert facts.driver_version == "550.1"
    assert find_unknown_components() == [TOOLKIT]


@pytest.mark.django_db
def test_without_a_look_at_the_machine_nothing_is_said():
    assert known_escapes() == []
    assert find_unknown_components() == []
    assert checks.check_known_escapes() == []


@pytest.mark.django_db
def test_the_check_warns_with_a_hint_and_says_what_is_unknown():
    record_engine_facts(root="/r", runc_version="1.2.7", toolkit_version="1.17.4")
    found = checks.check_known_escapes()

    assert [message.id for message in found] == ["catalog.W001", "catalog.W001"]
    assert "runc 1.2.7" in found[0].msg
    assert "1.2.8" in found[0].hint
    assert "1.17.8" in found[1].hint
    record_engine_facts(root="/r", runc_version="", toolkit_version="")
    (unknown,) = checks.check_known_escapes()
    assert unknown.id == "catalog.I001"
    assert "runc is not known" in unknown.msg
    assert not unknown.is_serious()


@pytest.mark.django_db
def test_the_check_is_silent_without_a_database(monkeypatch):
    def broken(**_kwargs):
        raise DatabaseError

    monkeypatch.setattr(checks, "known_escapes", broken)

    assert checks.check_known_escapes() == []


def test_the_check_runs_before_a_deployment_only():
    assert checks.check_known_escapes in registry.registry.deployment_checks
    assert checks.check_known_escapes not in registry.registry.registered_checks


# The toolkit on this host ------------------------------------------------------------------------


@pytest.fixture
def tools(settings, monkeypatch):
    """Tools of the toolkit on PATH, with what they print; `asked` counts."""
    settings.DOCKER_HOST = "unix:///run/engine.sock"
    said: dict[str, object] = {}
    asked: list[list[str]] = []

    def run(command, **options):
        asked.append(command)
        assert options["timeout"] == 2.0
        answer = said[command[0].rpartition("/")[2]]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(stdout=answer)

    monkeypatch.setattr(engine_facts.subprocess, "run", run)
    monkeypatch.setattr(
        engine_facts.shutil, "which", lambda name: f"/usr/bin/{name}" if name in said else None
    )
    forget_toolkit_version()
    yield said, asked
    forget_toolkit_version()


def test_the_toolkit_is_asked_once_in_ten_minutes(tools):
    said, asked = tools
    said["nvidia-ctk"] = "NVIDIA Container Toolkit CLI version 1.17.4\ncommit: 9b69590c\n"

    assert read_toolkit_version() == read_toolkit_version() == "1.17.4"
    assert asked == [["/usr/bin/nvidia-ctk", "--version"]]


def test_the_older_tool_is_asked_when_the_newer_one_fails(tools):
    said, _asked = tools
    said["nvidia-ctk"] = subprocess.TimeoutExpired("nvidia-ctk", 2)
    said["nvidia-container-cli"] = "cli-version: 1.16.1\nlib-version: 1.16.1\n"

    assert read_toolkit_version() == "1.16.1"


def test_no_toolkit_and_another_host_say_nothing(tools, settings):
    said, asked = tools
    assert read_toolkit_version() == ""
    said["nvidia-ctk"] = "version 1.17.4"
    settings.DOCKER_HOST = "tcp://elsewhere:2376"

    assert read_toolkit_version() == ""
    assert asked == []
