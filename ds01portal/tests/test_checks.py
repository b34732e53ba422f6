"""System checks: with DEBUG off the portal refuses to start insecure, and says what to do."""

from __future__ import annotations

import pytest
from django.core.checks import registry
from django.db import ConnectionHandler

from ds01portal import checks

GOOD_KEY = "k" * 50


def ids(messages):
    for message in messages:
        assert message.hint
        assert message.is_serious()
    return [message.id for message in messages]


def test_development_may_be_open(settings):
    settings.DEBUG = True
    settings.SECRET_KEY = settings.DEVELOPMENT_SECRET_KEY
    settings.ALLOWED_HOSTS = ["*"]
    assert checks.check_secret_key() == checks.check_allowed_hosts() == []


@pytest.mark.parametrize("key", ["development-only-secret-key-change-me", "short", "x" * 31])
def test_production_needs_a_key_of_its_own(settings, key):
    settings.DEBUG = False
    settings.SECRET_KEY = key
    assert ids(checks.check_secret_key()) == ["ds01portal.E001"]
    settings.SECRET_KEY = GOOD_KEY
    assert checks.check_secret_key() == []


@pytest.mark.parametrize("hosts", [[], ["*"], ["portal.example.org", "*"]])
def test_production_names_its_hosts(settings, hosts):
    settings.DEBUG = False
    settings.ALLOWED_HOSTS = hosts
    assert ids(checks.check_allowed_hosts()) == ["ds01portal.E002"]
    settings.ALLOWED_HOSTS = ["portal.example.org"]
    assert checks.check_allowed_hosts() == []


@pytest.mark.django_db
def test_a_database_that_cannot_be_read_is_told(monkeypatch, tmp_path):
    handler = ConnectionHandler(
        {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(tmp_path / "no such folder" / "db.sqlite3"),
            }
        }
    )
    monkeypatch.setattr(checks, "connection", handler["default"])
    found = checks.check_database()
    assert ids(found) == ["ds01portal.E003"]
    assert "DATABASE_URL" in found[0].hint


@pytest.mark.django_db
def test_a_database_that_can_be_read_is_fine():
    assert checks.check_database() == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "200000",
        "a-b",
        "200000-",
        "-5-10",
        "0-1000",
        "999-2000",
        "3000-2000",
        "3000-3000",
        f"200000-{2**32}",
    ],
)
def test_a_bad_uid_range_is_told(settings, text):
    settings.DS01_UID_RANGE = text
    found = checks.check_uid_range()
    assert ids(found) == ["ds01portal.E004"]
    assert text in found[0].msg


def test_a_good_uid_range_is_fine(settings):
    settings.DS01_UID_RANGE = "200000-299999"
    assert checks.check_uid_range() == []


def test_the_checks_are_registered():
    registered = registry.registry.registered_checks
    for check in (checks.check_secret_key, checks.check_allowed_hosts, checks.check_uid_range):
        assert check in registered
