"""From a recipe to the steps that build it: what is installed, in which order, what is left out.

Packages the base already has are recognised by PEP 503 names and left out; a package that two
layers want is installed once. Not in charge of: who may build, whether the base is allowed, the
admin's apt pattern, carrying the steps out. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from catalog.recipes import shell
from catalog.recipes.content import CUSTOM, Layer, RecipeContent, requirement_error
from catalog.recipes.requirements import (
    STRICT,
    LineProblem,
    RequirementLine,
    RequirementsPolicy,
    check_package,
    parse_requirements,
)
from catalog.recipes.texts import shorten
from catalog.recipes.variables import looks_secret
from catalog.recipes.wishes import (
    LeftOut,
    Note,
    Wish,
    hold_versions,
    without_known,
    without_repeats,
)
from ds01portal.exceptions import InvalidInput

__all__ = [
    "BaseFacts",
    "LeftOut",
    "Note",
    "PackageLists",
    "Plan",
    "PlanPolicy",
    "Step",
    "make_plan",
]

StepKind = Literal["apt", "jupyter", "data_science", "use_case", "requirements", "post_install", ""]

LABEL_PREFIX = "aime.mlc.DS01_"
DEFAULT_ENVIRONMENT = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PYTHONUNBUFFERED": "1"}
# Linux takes at most 128 KiB in one argument (MAX_ARG_STRLEN), and a step is one.
MAX_COMMAND = 120_000


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseFacts:
    """What is known of the base: `packages` canonical name → version ("" unknown), None unknown."""

    reference: str
    image_id: str = ""
    packages: Mapping[str, str] | None = None
    framework: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageLists:
    """The admins' package lists. `base` is what catalogue images are taken to have."""

    jupyter: tuple[str, ...] = ()
    data_science: tuple[str, ...] = ()
    use_cases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    base: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanPolicy:
    """What an admin allows in a plan."""

    requirements: RequirementsPolicy = STRICT
    allow_post_install: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One layer. `parts` joined by blanks are the shell command, a line for `/bin/sh -c`."""

    title: str
    parts: tuple[str, ...]
    kind: StepKind = ""

    @property
    def command(self) -> str:
        """Return the command as one line."""
        return " ".join(self.parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that decides about an image, besides the site's own variables."""

    name: str
    base_reference: str
    steps: tuple[Step, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[Note, ...] = ()
    fresh: bool = False


def make_plan(
    content: RecipeContent,
    *,
    name: str,
    owner_uid: int,
    base: BaseFacts,
    lists: PackageLists,
    policy: PlanPolicy,
) -> Plan:
    """Return the plan of a recipe.

    Raise InvalidInput when the policy does not allow a line, a list does not exist, or a step
    would be too long for one command. `notes` are warnings: nothing in them stops a build.
    """
    _check_policy(content, policy)
    wishes = _collect_wishes(content, lists, policy)
    known, is_guess = _known_packages(content, base, lists)
    single, repeated, repeat_notes = without_repeats(wishes)
    wanted, present, base_notes = without_known(single, known, is_guess=is_guess)
    return Plan(
        name=name,
        base_reference=base.reference,
        steps=_make_steps(content, wanted, hold_versions(single, wanted)),
        environment=dict(sorted({**DEFAULT_ENVIRONMENT, **content.environment}.items())),
        labels=_labels(content, name=name, owner_uid=owner_uid, base=base),
        left_out=(*present, *repeated),
        notes=(*repeat_notes, *base_notes, *_secret_notes(content)),
        fresh=content.fresh,
    )


def _check_policy(content: RecipeContent, policy: PlanPolicy) -> None:
    if content.post_install and not policy.allow_post_install:
        raise InvalidInput(
            "Post-install lines are not allowed for you on this site.",
            hint="Remove them, or ask an admin.",
            field="post_install",
        )


def _collect_wishes(content: RecipeContent, lists: PackageLists, policy: PlanPolicy) -> list[Wish]:
    """Return all lines of all pip layers, in the order of installation."""
    use_case: tuple[str, ...] = content.use_case_packages
    own_use_case = content.use_case == CUSTOM
    if content.use_case and not own_use_case:
        if content.use_case not in lists.use_cases:
            raise InvalidInput(
                f"There is no use case “{content.use_case}”.",
                hint=f"Choose one of: {', '.join(sorted(lists.use_cases))}, {CUSTOM}.",
                field="use_case",
            )
        use_case = lists.use_cases[content.use_case]
    return [
        *_layer_wishes("jupyter", content.jupyter, lists.jupyter),
        *_layer_wishes("data_science", content.data_science, lists.data_science),
        *_wishes("use_case", use_case, is_own=own_use_case),
        *_requirement_wishes(content.requirements, policy.requirements),
    ]


def _layer_wishes(step: StepKind, layer: Layer, default: tuple[str, ...]) -> list[Wish]:
    if layer.choice == "none":
        return []
    is_own = layer.choice == "own"
    return _wishes(step, layer.packages if is_own else default, is_own=is_own)


def _wishes(step: StepKind, packages: tuple[str, ...], *, is_own: bool) -> list[Wish]:
    wishes = []
    for index, package in enumerate(packages):
        line = check_package(package)
        if isinstance(line, LineProblem):
            raise InvalidInput(
                f"“{line.text}” cannot be installed: {line.reason}.",
                hint=line.hint if is_own else "Ask an admin to correct the package list.",
                field=step if step == "use_case" else f"{step}.packages",
                index=index,
            )
        wishes.append(Wish(step=step, line=line, is_own=is_own))
    return wishes


def _requirement_wishes(text: str, policy: RequirementsPolicy) -> list[Wish]:
    parsed = parse_requirements(text, policy=policy)
    if parsed.problems:
        raise requirement_error(parsed.problems[0])
    return [Wish(step="requirements", line=line, is_own=True) for line in parsed.lines]


def _known_packages(
    content: RecipeContent, base: BaseFacts, lists: PackageLists
) -> tuple[Mapping[str, str], bool]:
    """Return what the base has, and whether this is only what such images usually have."""
    if base.packages is not None:
        return base.packages, False
    if content.base.kind != "catalog":
        return {}, True  # an unknown image may lack anything; installing twice does no harm
    lines = (check_package(package) for package in lists.base)
    return {line.name: "" for line in lines if isinstance(line, RequirementLine)}, True


def _make_steps(
    content: RecipeContent, wanted: list[Wish], held: dict[str, list[str]]
) -> tuple[Step, ...]:
    titles: dict[StepKind, str] = {
        "jupyter": "Jupyter",
        "data_science": "Data science",
        "use_case": f"Use case {content.use_case}",
        "requirements": "Own packages",
    }
    steps = []
    if content.apt:
        title = "System packages"
        steps.append(Step(title=title, kind="apt", parts=shell.apt_step(content.apt)))
    for kind, title in titles.items():
        lines = [wish.line for wish in wanted if wish.step == kind]
        if any(line.name or line.text.startswith("-e") for line in lines):
            # pip takes hashes for all or for none, constraints included.
            hashed = any(line.hashes for line in lines)
            parts = shell.pip_step([line.text for line in lines], () if hashed else held[kind])
            steps.append(Step(title=title, kind=kind, parts=parts))
    if content.post_install:
        parts = shell.post_install_step(content.post_install)
        steps.append(Step(title="Post-install", kind="post_install", parts=parts))
    for step in steps:
        _check_length(step)
    return tuple(steps)


def _check_length(step: Step) -> None:
    size = len(step.command.encode("utf-8", "surrogatepass"))
    if size > MAX_COMMAND:
        raise InvalidInput(
            f"The step “{step.title}” is too long: {size} bytes, of {MAX_COMMAND} possible.",
            hint="Remove lines or comments; quotes count several times.",
            field="requirements" if step.kind == "requirements" else step.kind,
            limit=MAX_COMMAND,
            requested=size,
        )


def _labels(
    content: RecipeContent, *, name: str, owner_uid: int, base: BaseFacts
) -> dict[str, str]:
    """Return the labels; no value has a comma, which AIME's `mlc` would split at."""
    labels = {
        "RECIPE": name,
        "OWNER_UID": str(owner_uid),
        "BASE": base.reference,
        "FRAMEWORK": base.framework,
        "FRAMEWORK_VERSION": base.version,
        "USE_CASE": content.use_case,
    }
    return {
        f"{LABEL_PREFIX}{key}": value.replace(",", ";") for key, value in labels.items() if value
    }


def _secret_notes(content: RecipeContent) -> list[Note]:
    return [
        Note(
            text=f"{name}: everybody who may use the image can read this value.",
            field=f"environment.{shorten(name)}",
        )
        for name in content.environment
        if looks_secret(name)
    ]
