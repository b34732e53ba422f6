"""What the build policy means for one recipe: bases, requirements, own shell lines, lists.

Reads the admin's rows and turns them into the plain values that the recipes package works with.
Not in charge of: whether a base exists or may be seen (`recipe_bases`), and the limits of a
running build (`building`).
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from catalog.models import BuildPolicy, PackageList
from catalog.recipes.plan import PackageLists, PlanPolicy
from catalog.recipes.requirements import RequirementsPolicy
from catalog.references import HUB, ImageReference, parse_reference
from ds01portal.exceptions import PolicyRefused
from ds01portal.models import Person

__all__ = [
    "allowed_bases",
    "check_base_reference",
    "load_package_lists",
    "may_post_install",
    "plan_policy",
    "requirements_policy",
]

Kind = PackageList.Kind


def requirements_policy(*, policy: BuildPolicy) -> RequirementsPolicy:
    """Return what lines of a requirements text may be beside packages of the site's index."""
    return RequirementsPolicy(
        allow_urls=policy.allow_urls,
        allow_index_options=policy.allow_index_options,
        allow_editable=policy.allow_editable,
    )


def may_post_install(*, policy: BuildPolicy, person: Person) -> bool:
    """Say whether a person's recipes may have shell lines of their own."""
    if policy.post_install == BuildPolicy.PostInstall.ADMINS:
        return person.is_staff
    return policy.post_install == BuildPolicy.PostInstall.EVERYBODY


def plan_policy(*, policy: BuildPolicy, person: Person) -> PlanPolicy:
    """Return the rules that a plan of this person's recipe is made under."""
    return PlanPolicy(
        requirements=requirements_policy(policy=policy),
        allow_post_install=may_post_install(policy=policy, person=person),
    )


def allowed_bases(*, policy: BuildPolicy) -> tuple[str, ...]:
    """Return the patterns of bases outside of the catalogue, comments and blank lines left out."""
    lines = (line.split("#", 1)[0].strip() for line in policy.registries.splitlines())
    return tuple(line for line in lines if line)


def check_base_reference(*, policy: BuildPolicy, reference: str) -> ImageReference:
    """Return the parsed reference when an admin's pattern allows it as a base.

    Patterns are shell patterns that must fit the whole name, registry included (docker.io for
    Docker Hub, which may be left out); one with a tag or digest must fit that too. Raise
    InvalidInput for what is no reference, PolicyRefused for what no pattern allows.
    """
    parsed = parse_reference(reference)
    patterns = allowed_bases(policy=policy)
    if any(_fits(parsed, pattern) for pattern in patterns):
        return parsed
    raise PolicyRefused(
        f"The base {reference} is not one that is allowed here.",
        hint=(f"Allowed: {', '.join(patterns)}. " if patterns else "")
        + "Choose an image of the catalogue or one of your own, or ask an admin.",
        field="base",
        value=reference,
        allowed=list(patterns),
    )


def _fits(parsed: ImageReference, pattern: str) -> bool:
    name = f"{parsed.registry or HUB}/{parsed.hub_path}"
    names = [name] if parsed.registry else [name, parsed.hub_path, parsed.path]
    if ":" in pattern.rpartition("/")[2] or "@" in pattern:
        version = parsed.canonical.removeprefix(name)
        names = [one + version for one in names]
    return any(fnmatchcase(one, pattern) for one in names)


def load_package_lists() -> PackageLists:
    """Return the lists that are offered now. One query."""
    rows = list(PackageList.objects.filter(active=True))
    single = {row.kind: row.names for row in rows if row.kind != Kind.USE_CASE}
    return PackageLists(
        jupyter=single.get(Kind.JUPYTER, ()),
        data_science=single.get(Kind.DATA_SCIENCE, ()),
        use_cases={row.key: row.names for row in rows if row.kind == Kind.USE_CASE},
        base=single.get(Kind.BASE, ()),
    )
