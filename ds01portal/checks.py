"""System checks: with DEBUG off the portal refuses to start insecure. Each has id and hint."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.db import DatabaseError, connection


def check_secret_key(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse the development key in production."""
    if settings.DEBUG or (
        settings.SECRET_KEY != settings.DEVELOPMENT_SECRET_KEY and len(settings.SECRET_KEY) >= 32
    ):
        return []
    return [
        Error(
            "SECRET_KEY is the development default or shorter than 32 characters.",
            hint="Set SECRET_KEY to a long random text and keep it.",
            id="ds01portal.E001",
        )
    ]


def check_allowed_hosts(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse wildcard hosts in production."""
    if settings.DEBUG or (settings.ALLOWED_HOSTS and "*" not in settings.ALLOWED_HOSTS):
        return []
    return [
        Error(
            "ALLOWED_HOSTS is empty or allows every host.",
            hint="Set ALLOWED_HOSTS to the names under which people reach the portal.",
            id="ds01portal.E002",
        )
    ]


def check_database(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse a database that cannot be read."""
    try:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return [
            Error(
                f"The database cannot be read: {error}",
                hint="Check DATABASE_URL and that the server or the file's folder is there.",
                id="ds01portal.E003",
            )
        ]
    return []


def check_uid_range(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse a uid range that reaches into the system's."""
    first, _, last = settings.DS01_UID_RANGE.partition("-")
    if first.isdecimal() and last.isdecimal() and 1000 <= int(first) < int(last) < 2**32 - 2:
        return []
    return [
        Error(
            f"DS01_UID_RANGE={settings.DS01_UID_RANGE} is not a range of user ids.",
            hint="Write FIRST-LAST with FIRST at least 1000, such as 200000-299999.",
            id="ds01portal.E004",
        )
    ]


def register_checks() -> None:
    """Register the checks of this module."""
    register(check_secret_key)
    register(check_allowed_hosts)
    register(check_uid_range)
    if not settings.DEBUG:
        register(check_database)
