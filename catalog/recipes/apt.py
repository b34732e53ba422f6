"""Names of apt packages as a person may ask for them. Pure.

Stricter than Debian's policy where apt-get would read more into a name: a final `-` means
removal, and an unknown name with `.+` is taken for a pattern by older versions. Not in charge of:
whether a package exists in the base's distribution.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from catalog.recipes.texts import bad_characters, shorten
from ds01portal.exceptions import InvalidInput

MAX_PACKAGES = 200
MAX_LENGTH = 100

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+:~-]*")
_HINT = "Write Debian package names such as git or libgl1, one each."


def check_apt_packages(names: Sequence[str], *, pattern: str = "") -> list[InvalidInput]:
    """Return what is wrong with the names; `pattern` (a full match) is the admin's, "" allows all.

    The pattern sees the name without its version, at most 100 characters. Raise re.error when it
    is no regular expression.
    """
    problems = []
    if len(names) > MAX_PACKAGES:
        problems.append(_problem(f"There are more than {MAX_PACKAGES} apt packages.", 0, ""))
    allowed = re.compile(pattern) if pattern else None
    for index, name in enumerate(names[:MAX_PACKAGES]):
        reason = apt_trouble(name)
        if not reason and allowed and not allowed.fullmatch(name.partition("=")[0]):
            reason = "this site does not allow it; ask an admin"
        if reason:
            problems.append(
                _problem(f"“{shorten(name)}” cannot be installed with apt: {reason}.", index, name)
            )
    return problems


def apt_trouble(name: str) -> str:
    """Return why a name is refused, empty when apt may have it."""
    package, equals, version = name.partition("=")
    reason = ""
    if not name:
        reason = "it is empty"
    elif len(name) > MAX_LENGTH:
        reason = f"it is longer than {MAX_LENGTH} characters"
    elif bad_characters(name, ascii_only=True):
        reason = bad_characters(name, ascii_only=True)
    elif ":" in package:
        reason = "packages of other architectures are not allowed"
    elif not _NAME.fullmatch(package):
        reason = (
            "names have small letters, digits, '+', '-' and '.', and begin with one of the first"
        )
    elif package.endswith("-"):
        reason = "a '-' at the end would remove the package"
    elif ".+" in package or package.endswith("."):
        reason = "it would be read as a pattern"
    elif equals and not _VERSION.fullmatch(version):
        reason = "the part after '=' is not a version"
    return reason


def _problem(message: str, index: int, name: str) -> InvalidInput:
    return InvalidInput(message, hint=_HINT, field="apt", index=index, value=shorten(name))
