"""How builds reach packages from this campus: index, mirror, proxies.

Handed to the process of each step and kept nowhere: no image, history or log has it. Not in
charge of: which index a recipe may name (`policies`).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings

__all__ = ["site_environment", "site_secrets"]


def site_environment() -> dict[str, str]:
    """Return the variables of a build step; what is not set is not there."""
    variables = {
        "PIP_INDEX_URL": settings.DS01_PIP_INDEX_URL,
        "PIP_TRUSTED_HOST": _plain_host(settings.DS01_PIP_INDEX_URL),
        "DS01_APT_MIRROR": settings.DS01_APT_MIRROR,
    }
    for name, value in settings.DS01_BUILD_PROXIES.items():
        # Tools disagree on which of the two they read.
        variables |= {name: value, name.lower(): value}
    return {name: value for name, value in variables.items() if value}


def site_secrets() -> tuple[str, ...]:
    """Return what must never be read in a log: the credentials in those addresses."""
    found = []
    for value in (
        settings.DS01_PIP_INDEX_URL,
        settings.DS01_APT_MIRROR,
        *settings.DS01_BUILD_PROXIES.values(),
    ):
        address = urlsplit(value)
        found += [part for part in (address.password, address.username) if part]
    return tuple(found)


def _plain_host(address: str) -> str:
    """Return the host of an index without TLS, which pip refuses unless it is named."""
    parts = urlsplit(address)
    return parts.hostname or "" if parts.scheme == "http" else ""
