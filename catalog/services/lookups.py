"""Which image a framework, a version and an architecture mean.

Rules (a version that is not there is an error that lists what is, never a silent other one;
the fallback never changes the framework) and known answers are those of the catalogue's
contract. Not in charge of: whether the person may launch it, whether it is on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from catalog.architectures import KNOWN, Judgement, judge_image
from catalog.frameworks import display_framework, normalise_framework
from catalog.models import Image
from catalog.references import parse_reference
from catalog.services.hosts import read_host_architecture
from ds01portal.exceptions import ImageRefused

__all__ = ["LookupResult", "lookup_image"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LookupResult:
    """The answer. `image` is None for a fallback: it comes from the settings, not a row."""

    framework: str
    version: str
    architecture: str
    reference: str
    image: Image | None
    is_fallback: bool
    judgement: Judgement

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "framework": self.framework,
            "version": self.version,
            "architecture": self.architecture,
            "image": self.reference,
            "id": self.image.pk if self.image else None,
            "is_fallback": self.is_fallback,
            "fit": str(self.judgement.fit),
            "fit_reason": self.judgement.reason,
        }


def lookup_image(*, framework: str, version: str = "", architecture: str = "") -> LookupResult:
    """Return the image; without a version the first row for the architecture.

    `architecture` empty means this machine's. Raise ImageRefused with what there is:
    `frameworks`, `architectures` or `available` (versions) in its fields.
    """
    slug = normalise_framework(framework)
    rows = list(Image.objects.catalogue().active().in_order())
    fallback = settings.DS01_CATALOG_FALLBACKS.get(slug, "")
    _check_framework(framework, slug, rows, fallback)
    arch = _choose_architecture(architecture, rows)
    mine = [row for row in rows if row.framework_slug == slug]
    matching = [row for row in mine if arch in row.architecture_list]
    wanted = version.strip().lower()
    if wanted:
        matching_version = [row for row in matching if row.version.lower() == wanted]
        if matching_version:
            return _found(matching_version[0], arch)
        raise _unknown_version(framework, version.strip(), arch, matching, mine)
    if matching:
        return _found(matching[0], arch)
    if fallback:
        return _fall_back(slug, fallback, arch)
    raise _not_for_architecture(framework, arch, mine)


def _choose_architecture(explicit: str, rows: list[Image]) -> str:
    host = read_host_architecture(explicit=explicit)
    known = sorted({name for row in rows for name in row.architecture_list} | set(KNOWN))
    if host.arch is None:
        raise ImageRefused(
            f"Nothing says which GPUs this machine has: {host.message}.",
            hint=f"Name an architecture, or let an admin set MLC_ARCH. Known: {', '.join(known)}.",
            architectures=known,
            reason="no-architecture",
        )
    if host.arch not in known:
        prefix = host.arch[:4]
        alike = [name for name in known if name.startswith(prefix)] or known
        raise ImageRefused(
            f"There is no architecture {host.arch}.",
            hint=f"Known: {', '.join(alike)}.",
            architecture=host.arch,
            architectures=alike,
            reason="unknown-architecture",
        )
    return host.arch


def _check_framework(framework: str, slug: str, rows: list[Image], fallback: str) -> None:
    known = list(dict.fromkeys(row.framework_slug for row in rows))
    if slug in known or fallback:
        return
    raise ImageRefused(
        f"There is no framework '{framework.strip()}' in the catalogue.",
        hint=f"Available: {', '.join(known)}."
        if known
        else "The catalogue is empty; an admin loads it with sync_catalog.",
        framework=framework.strip(),
        frameworks=known,
        reason="unknown-framework",
    )


def _unknown_version(
    framework: str, version: str, arch: str, matching: list[Image], mine: list[Image]
) -> ImageRefused:
    available = [row.version for row in matching]
    elsewhere = sorted(
        {
            name
            for row in mine
            if row.version.lower() == version.lower()
            for name in row.architecture_list
        }
    )
    hints = [f"Available: {', '.join(available)}." if available else f"There is none for {arch}."]
    if elsewhere:
        hints.append(f"{version} is made for {', '.join(elsewhere)}.")
    return ImageRefused(
        f"There is no {_name(framework, mine)} {version} for {arch}.",
        hint=" ".join(hints),
        framework=normalise_framework(framework),
        version=version,
        architecture=arch,
        available=available,
        architectures=elsewhere,
        reason="unknown-version",
    )


def _not_for_architecture(framework: str, arch: str, mine: list[Image]) -> ImageRefused:
    elsewhere = sorted({name for row in mine for name in row.architecture_list})
    return ImageRefused(
        f"There is no {_name(framework, mine)} for {arch}.",
        hint=f"It is made for {', '.join(elsewhere)}." if elsewhere else "Choose another one.",
        framework=normalise_framework(framework),
        architecture=arch,
        available=[],
        architectures=elsewhere,
        reason="not-for-architecture",
    )


def _name(framework: str, mine: list[Image]) -> str:
    return mine[0].display_framework if mine else display_framework(framework)


def _found(row: Image, arch: str) -> LookupResult:
    return LookupResult(
        framework=row.framework,
        version=row.version,
        architecture=arch,
        reference=row.reference,
        image=row,
        is_fallback=False,
        judgement=judge_image(
            architectures=row.architecture_list,
            reference=row.reference,
            host=read_host_architecture(),
        ),
    )


def _fall_back(slug: str, reference: str, arch: str) -> LookupResult:
    parsed = parse_reference(reference)
    return LookupResult(
        framework=slug.capitalize(),
        version=parsed.tag.partition("-")[0] or "latest",
        architecture=arch,
        reference=str(parsed),
        image=None,
        is_fallback=True,
        judgement=judge_image(
            architectures=[arch], reference=reference, host=read_host_architecture()
        ),
    )
