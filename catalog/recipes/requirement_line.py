"""One joined line of a requirements text: a package, harmless options, or a reason. Pure.

Not in charge of: comments, continuation lines and duplicates (`requirements`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from catalog.recipes.names import canonical_name
from catalog.recipes.texts import bad_characters, shorten

MAX_PACKAGE_NAME = 100
ARCHIVES = (".whl", ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".egg", ".7z", ".rar", ".tbz")

_HASH_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HASH = re.compile(r"(sha256|sha384|sha512):([0-9a-fA-F]+)")
_CHOICE = re.compile(r":all:|:none:|[A-Za-z0-9._-]+(?:,[A-Za-z0-9._-]+)*")
_PLAIN_OPTIONS = frozenset({"--pre", "--prefer-binary", "--require-hashes"})
_CHOICE_OPTIONS = frozenset({"--only-binary", "--no-binary"})
_INDEX_OPTIONS = frozenset({"-i", "--index-url", "--extra-index-url", "-f", "--find-links"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9.+-]*:(//|(?=[^=]))")
_BARE_URL = re.compile(r"[A-Za-z][A-Za-z0-9.+-]*://")
_ALLOWED_SCHEMES = frozenset({"https", "git+https"})

_ASK_ADMIN = "Ask an admin if you need it."
# Beginning of an option → (what it would do, what to do instead). The first that fits counts.
_REFUSED_OPTIONS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("--requirement", "-r"), "it reads another file, which is not there during the build",
     "Paste the lines of that file here."),
    (("--constraint", "-c"), "it reads another file, which is not there during the build",
     "Write the versions to the packages here."),
    (("--editable", "-e"), "an editable install points to a folder, which an image cannot keep",
     "Install your own code from the workspace after the launch."),
    (("--index-url", "-i", "--pypi-url", "--extra-index-url"),
     "another package index is not allowed", f"Remove it; the site's index is used. {_ASK_ADMIN}"),
    (("--find-links", "-f"), "another place for packages is not allowed",
     f"Remove it; the site's index is used. {_ASK_ADMIN}"),
    (("--no-index",), "without an index nothing can be installed", "Remove it."),
    (("--trusted-host",), "certificates are always checked", f"Remove it. {_ASK_ADMIN}"),
    (("--use-feature", "--use-deprecated"), "pip's own switches are not allowed", "Remove it."),
    (("--config-settings", "--config-setting", "--global-option", "--install-option"),
     "options for the package's own build are not allowed", "Remove it."),
    (("--hash",), "a hash belongs to a package", "Write it behind the package, on its line."),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementsPolicy:
    """What an admin allows beyond packages of the site's index."""

    allow_urls: bool = False
    allow_index_options: bool = False
    allow_editable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementLine:
    """One line of the requirements file. `name` is canonical, empty for comments and options."""

    number: int
    text: str
    name: str = ""
    requirement: Requirement | None = None
    hashes: tuple[str, ...] = ()
    is_comment: bool = False
    last_number: int = 0

    @property
    def specifier(self) -> str:
        """Return the wanted versions in one spelling, empty for any."""
        return str(self.requirement.specifier) if self.requirement else ""

    def placed(self, first: int, last: int, comment: str = "") -> RequirementLine:
        """Return the same line as one that stands there, with its comment behind it."""
        # Written out: dataclasses.replace costs more than the rest of reading a line.
        return RequirementLine(
            number=first,
            text=f"{self.text}  {comment}" if comment else self.text,
            name=self.name,
            requirement=self.requirement,
            hashes=self.hashes,
            is_comment=self.is_comment,
            last_number=last,
        )


@dataclass(frozen=True, slots=True)
class LineProblem:
    """Why a line is refused (or, as a note, left out), and what to do instead."""

    number: int
    text: str
    reason: str
    hint: str = ""
    last_number: int = 0


class _Refused(Exception):  # never leaves this module
    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def read_line(code: str, *, policy: RequirementsPolicy) -> RequirementLine | LineProblem:
    """Return what one joined line without comment asks for; `number` is 1."""
    try:
        _check_characters(code)
        if code.startswith("-"):
            return RequirementLine(number=1, text=_read_options(code, policy))
        return _read_package(code, policy)
    except _Refused as refused:
        return LineProblem(1, shorten(code), refused.reason, refused.hint, 1)


@lru_cache(maxsize=8192)
def parse_requirement(text: str) -> Requirement:
    """Return the PEP 508 requirement; treat it as read-only. Raise InvalidRequirement."""
    return Requirement(text)


def _check_characters(code: str) -> None:
    trouble = bad_characters(code, ascii_only=True)
    if trouble:
        raise _Refused(trouble, "Type the line anew; look-alike letters are not the same package.")
    if "\\" in code:
        hint = "A backslash joins lines only as the very last character, without blanks behind it."
        raise _Refused("there is a backslash in the line", hint)
    if "${" in code:
        raise _Refused("pip would put in a variable of the build for ${…}", "Write the value.")


def _read_package(code: str, policy: RequirementsPolicy) -> RequirementLine:
    words = code.split(" ")
    # pip's rule: from the first word that begins with "-" on, everything is an option.
    at = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    hashes = _read_hashes([word for word in words[at:] if word])
    text = " ".join(words[:at]).strip()
    if not any(quote in text for quote in "'\""):
        text = " ".join(text.split())
    _refuse_places(text)
    try:
        wanted = parse_requirement(text)
    except InvalidRequirement as error:
        raise _explain(text, error) from error
    _check_name(wanted.name)
    if wanted.url:
        _check_url(wanted.url, policy)
    return RequirementLine(
        number=1,
        text=" ".join([text, *(f"--hash={value}" for value in hashes)]),
        name=canonical_name(wanted.name),
        requirement=wanted,
        hashes=hashes,
    )


def _read_hashes(words: list[str]) -> tuple[str, ...]:
    hashes = []
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if option != "--hash":
            raise _refuse_option(word)
        if not equals:
            value = words.pop(0) if words else ""
        match = _HASH.fullmatch(value)
        if not match or len(match[2]) != _HASH_LENGTHS[match[1]]:
            hint = "Write --hash=sha256: and 64 hexadecimal digits."
            raise _Refused(f"“{shorten(value)}” is not a hash that pip takes", hint)
        hashes.append(value.lower())  # pip compares with small letters
    return tuple(hashes)


def _read_options(code: str, policy: RequirementsPolicy) -> str:
    words, kept = code.split(), list[str]()
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        takes_value = option in _CHOICE_OPTIONS or option in _INDEX_OPTIONS | {"-e", "--editable"}
        if takes_value and not equals:
            value = words.pop(0) if words else ""
        if word in _PLAIN_OPTIONS:
            kept.append(word)
        elif option in _CHOICE_OPTIONS and _CHOICE.fullmatch(value):
            kept.append(f"{option} {value}")
        elif option in _INDEX_OPTIONS and policy.allow_index_options:
            kept.append(f"{option} {_check_place(value, frozenset({'https'}))}")
        elif option in ("-e", "--editable") and policy.allow_editable:
            kept.append(f"{option} {_check_place(value, frozenset({'git+https'}))}")
        else:
            raise _refuse_option(word)
    return " ".join(kept)


def _refuse_option(word: str) -> _Refused:
    for beginnings, reason, hint in _REFUSED_OPTIONS:
        for beginning in beginnings:
            attached = len(beginning) == 2 and not word.startswith("--")
            if word.partition("=")[0] == beginning or (attached and word.startswith(beginning)):
                return _Refused(f"{beginning}: {reason}", hint)
    return _Refused(f"the option “{shorten(word)}” is not allowed", "Remove it.")


def _refuse_places(text: str) -> None:
    """Refuse what pip takes for a place and not for a package's name."""
    if _BARE_URL.match(text) or re.match(r"(git|hg|svn|bzr)\+|file:", text, re.IGNORECASE):
        hint = f"Write the package's name. {_ASK_ADMIN} (then as: name @ https://…)"
        raise _Refused("an address alone is not allowed", hint)
    head = text.partition("@")[0]
    if text.startswith((".", "/", "~")) or "/" in head.partition(";")[0]:
        hint = "Files and folders are not there during the build: name a package of the index."
        raise _Refused("it is a path", hint)


def _check_name(name: str) -> None:
    if len(name) > MAX_PACKAGE_NAME:
        raise _Refused(f"the name is longer than {MAX_PACKAGE_NAME} characters", "Check it.")
    if name.lower().endswith(ARCHIVES):
        hint = "Name the package and its version, for example numpy==2.1.0."
        raise _Refused("it is the name of a file, which is not there during the build", hint)


def _check_url(url: str, policy: RequirementsPolicy) -> None:
    if not policy.allow_urls:
        hint = f"Name the package and a version, for example numpy==2.1.0. {_ASK_ADMIN}"
        raise _Refused("packages from an address are not allowed", hint)
    _check_place(url, _ALLOWED_SCHEMES)


def _check_place(url: str, schemes: frozenset[str]) -> str:
    """Return the address when it is encrypted, complete and free of passwords."""
    try:
        parts = urlsplit(url)
        host, secret = parts.hostname, parts.username or parts.password
    except ValueError:
        raise _Refused("it is not an address", "Write https://…") from None
    if parts.scheme not in schemes or not host:
        raise _Refused(f"only {' or '.join(sorted(schemes))} addresses are allowed", "Change it.")
    if secret:
        hint = "Everybody who sees the image could read it. Remove it from the address."
        raise _Refused("there is a password or token in the address", hint)
    return url


def _explain(text: str, error: InvalidRequirement) -> _Refused:
    """Return the refusal with the most likely mistake as a hint."""
    first = str(error).splitlines()[0].rstrip(".:")
    hint = "Write one package, for example numpy>=1.26,<3."
    single = re.match(r"([A-Za-z0-9._-]+)\s*=\s*([^=\s].*)$", text)
    if re.match(r"(python3? -m )?pip3? install ", text):
        hint = "Leave out “pip install”: write only the package."
    elif single:
        hint = f"Versions are written with two equals signs: {single[1]}=={single[2][:40]}"
    elif text[:1] in "\"'" and text[-1:] == text[:1]:
        hint = "Leave out the quotes."
    elif re.fullmatch(r"[A-Za-z0-9._\[\]-]+( +[A-Za-z0-9._\[\]-]+)+", text):
        hint = "Write one package in each line."
    return _Refused(f"it is not a requirement: {shorten(first, 160)}", hint)
