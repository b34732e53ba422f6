"""Docker image references: parse, check, write, and put behind a mirror. Pure.

The grammar is that of the distribution project (`[registry/]path[:tag][@digest]`). Not in
charge of: whether an image exists, or who may use it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ds01portal.exceptions import InvalidInput

MAX_LENGTH = 255
HUB = "docker.io"
HUB_ALIASES = frozenset({HUB, "index.docker.io", "registry-1.docker.io"})

_DOMAIN_PART = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*(?::[0-9]{{1,5}})?")
_PATH_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-f]{32,128}")
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageReference:
    """A checked reference. `registry` is empty for Docker Hub, `tag` empty when not written."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    @property
    def name(self) -> str:
        """Return registry and path, without tag and digest."""
        return f"{self.registry}/{self.path}" if self.registry else self.path

    @property
    def hub_path(self) -> str:
        """Return the path as Docker Hub stores it: official images live in `library/`."""
        return self.path if self.registry or "/" in self.path else f"library/{self.path}"

    @property
    def canonical(self) -> str:
        """Return the one spelling of all equal references, tag `latest` filled in."""
        tag = self.tag or ("" if self.digest else "latest")
        full = f"{self.registry or HUB}/{self.hub_path}"
        return str(replace(self, registry="", path=full, tag=tag))

    def with_tag(self, tag: str) -> ImageReference:
        """Return the same image under another tag, without a digest."""
        if not _TAG.fullmatch(tag):
            raise _refuse(tag, "the tag may only have letters, digits, '_', '.' and '-' (128)")
        return replace(self, tag=tag, digest="")


def parse_reference(text: str) -> ImageReference:
    """Return the parts of an image reference; raise InvalidInput with the reason otherwise."""
    _check_whole(text)
    rest, _, digest = text.partition("@")
    if "@" in text and not _DIGEST.fullmatch(digest):
        raise _refuse(text, "the part after '@' is not a digest such as sha256:<64 hex digits>")
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _refuse(text, "the part after ':' is not a tag")
    registry, path = _split_registry(f"{head}{slash}{last}")
    if registry and not _DOMAIN.fullmatch(registry):
        raise _refuse(text, f"'{registry}' is not a registry's host name")
    _check_path(text, path)
    if registry in HUB_ALIASES:
        registry, path = "", path.removeprefix("library/")
    return ImageReference(registry=registry, path=path, tag=tag, digest=digest)


def canonical_reference(text: str) -> str:
    """Return the comparable spelling, or the text itself when it is no valid reference."""
    try:
        return parse_reference(text).canonical
    except InvalidInput:
        return text


def apply_mirror(reference: str, *, mirror: str) -> str:
    """Return where to pull from: Docker Hub images through the mirror, others as they are.

    `mirror` is a registry with an optional path, such as `registry.example.org/hub`; empty
    means no mirror. Official images are asked for below `library/`, as proxies expect.
    """
    parsed = parse_reference(reference)
    prefix = mirror.strip().strip("/")
    if not prefix or parsed.registry:
        return str(parsed)
    if not is_mirror(prefix):
        raise InvalidInput(
            f"'{mirror}' is not a registry prefix.",
            hint="Write DS01_REGISTRY_MIRROR as host[:port][/path], without a scheme.",
            field="registry_mirror",
        )
    return str(replace(parsed, registry="", path=f"{prefix}/{parsed.hub_path}"))


def is_mirror(prefix: str) -> bool:
    """Say whether the text is a registry host with an optional path."""
    registry, _, path = prefix.partition("/")
    host_like = "." in registry or ":" in registry or registry == "localhost"
    parts = path.split("/") if path else []
    return bool(
        host_like
        and _DOMAIN.fullmatch(registry)
        and all(_PATH_PART.fullmatch(part) for part in parts)
    )


def _split_registry(name: str) -> tuple[str, str]:
    # Docker's own rule: the first part is a host only when it looks like one.
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "", name


def _check_whole(text: str) -> None:
    if not text:
        raise _refuse(text, "it is empty")
    if len(text) > MAX_LENGTH:
        raise _refuse(text[:40] + "…", f"it is longer than {MAX_LENGTH} characters")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _refuse(text, "spaces, control and non-ASCII characters are not allowed")
    if "://" in text:
        raise _refuse(text, "it is an address; write it without the scheme")
    if _IMAGE_ID.fullmatch(text):
        raise _refuse(text, "it is an image id; write the image's name")


def _check_path(text: str, path: str) -> None:
    if not path:
        raise _refuse(text, "the image's name is missing")
    for part in path.split("/"):
        if _PATH_PART.fullmatch(part):
            continue
        if _PATH_PART.fullmatch(part.lower()):
            raise _refuse(text, "names are lower case (only the tag may have capitals)")
        raise _refuse(text, f"'{part}' is not a valid part of a name")


def _refuse(text: str, reason: str) -> InvalidInput:
    return InvalidInput(
        f"'{text}' is not an image reference: {reason}.",
        hint="Write it as [registry/]name[:tag], for example pytorch/pytorch:2.5.1.",
        field="image",
        value=text,
        reason=reason,
    )
