"""What a person wrote for one custom image, checked and in one order.

The JSON form (`as_dict`) is what rows keep and scripts send. Not in charge of: whether the base
exists or may be used, the admin's apt pattern, who may have post-install lines (`plan` and the
services). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from catalog.recipes import apt, variables
from catalog.recipes.fields import FieldReader
from catalog.recipes.names import check_image_name
from catalog.recipes.requirements import (
    PERMISSIVE,
    STRICT,
    LineProblem,
    RequirementsPolicy,
    check_package,
    parse_requirements,
)
from catalog.recipes.texts import bad_characters, shorten
from catalog.references import parse_reference
from ds01portal.exceptions import InvalidInput

BaseKind = Literal["catalog", "custom", "reference"]
Choice = Literal["none", "default", "own"]

MAX_LIST = 200  # entries of one package list
MAX_POST_INSTALL = 50
MAX_POST_INSTALL_LINE = 1000
CUSTOM = "custom"  # the use case with packages of one's own

_FIELDS = (
    *("base", "jupyter", "data_science", "use_case", "use_case_packages"),
    *("requirements", "apt", "environment", "post_install", "fresh"),
)
_BASE_FIELDS: dict[BaseKind, tuple[str, ...]] = {
    "catalog": ("framework", "version", "architecture"),
    "custom": ("image",),
    "reference": ("reference",),
}
_FRAMEWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,59}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}|")
_USE_CASE = re.compile(r"[a-z][a-z0-9_-]{0,29}|")
_PERSON = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,149}")
_IMAGE_VERSION = re.compile(r"latest|[1-9][0-9]{0,8}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What the image stands on; only the fields of its kind are filled."""

    kind: BaseKind = "catalog"
    framework: str = ""
    version: str = ""  # "" means the catalogue's newest
    architecture: str = ""  # "" means the machine's
    image: str = ""  # owner/name, with :number or :latest
    reference: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the JSON form, the fields of its kind only."""
        names = ("kind", *_BASE_FIELDS[self.kind])
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A ready-made group of packages: left out, as the admins have it, or one's own."""

    choice: Choice = "none"
    packages: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"choice": self.choice, "packages": list(self.packages)}


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeContent:
    """A checked recipe. Make it with `from_dict` (what people send) or `from_stored` (rows)."""

    base: Base = field(default_factory=lambda: Base(framework="pytorch"))
    jupyter: Layer = Layer()
    data_science: Layer = Layer()
    use_case: str = ""
    use_case_packages: tuple[str, ...] = ()
    requirements: str = ""
    apt: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    post_install: tuple[str, ...] = ()
    fresh: bool = False

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, policy: RequirementsPolicy = STRICT
    ) -> RecipeContent:
        """Return the content; raise InvalidInput for the first problem.

        `fields["field"]` is the dotted path, with `index` in lists and `line` in requirements.
        """
        content, problems = _read(data, policy)
        if problems:
            raise problems[0]
        return content

    @classmethod
    def from_stored(cls, data: Mapping[str, Any]) -> RecipeContent:
        """Return the content of a row; it may be older than the policy, which `make_plan` asks."""
        return cls.from_dict(data, policy=PERMISSIVE)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; equal contents give equal texts."""
        return {
            "base": self.base.as_dict(),
            "jupyter": self.jupyter.as_dict(),
            "data_science": self.data_science.as_dict(),
            "use_case": self.use_case,
            "use_case_packages": list(self.use_case_packages),
            "requirements": self.requirements,
            "apt": list(self.apt),
            "environment": dict(self.environment),
            "post_install": list(self.post_install),
            "fresh": self.fresh,
        }


EMPTY_CONTENT = RecipeContent()


def content_problems(
    data: Mapping[str, Any], *, policy: RequirementsPolicy = STRICT
) -> list[InvalidInput]:
    """Return all that is wrong with what a person sent, in the order of the form."""
    return _read(data, policy)[1]


def requirement_error(problem: LineProblem) -> InvalidInput:
    """Return the refusal of one line of the requirements text."""
    return InvalidInput(
        f"Line {problem.number} of the requirements (“{problem.text}”): {problem.reason}.",
        hint=problem.hint,
        field="requirements",
        line=problem.number,
        reason=problem.reason,
    )


def _read(
    data: Mapping[str, Any], policy: RequirementsPolicy
) -> tuple[RecipeContent, list[InvalidInput]]:
    reader = FieldReader()
    if not isinstance(data, Mapping):
        reader.refuse("", "A recipe is a section of fields.", "Send a JSON object.")
        return EMPTY_CONTENT, reader.problems
    known = reader.only_known(data, _FIELDS)
    content = RecipeContent(
        base=_read_base(reader, known),
        jupyter=_read_layer(reader, known, "jupyter"),
        data_science=_read_layer(reader, known, "data_science"),
        use_case=_read_word(reader, known, "use_case", _USE_CASE),
        use_case_packages=_read_packages(reader, known, "use_case_packages"),
        requirements=_read_requirements(reader, known, policy),
        apt=_read_apt(reader, known),
        environment=_read_environment(reader, known),
        post_install=_read_post_install(reader, known),
        fresh=reader.flag(known, "fresh"),
    )
    if content.use_case_packages and content.use_case != CUSTOM:
        message = "Packages of one's own go with the use case “custom” only."
        reader.refuse("use_case_packages", message, "Choose “custom”, or remove them.")
    return content, reader.problems


def _read_base(reader: FieldReader, data: Mapping[str, Any]) -> Base:
    if "base" not in data:
        reader.refuse("base", "The recipe has no base.", "Choose what the image stands on.")
    every = ("kind", "framework", "version", "architecture", "image", "reference")
    found = reader.section(data, "base", every)
    kind: BaseKind = reader.choice(found, "base.kind", get_args(BaseKind))  # type: ignore[assignment]
    texts = {name: reader.text(found, f"base.{name}") for name in every[1:]}
    mine = _BASE_FIELDS[kind]
    for name, value in texts.items():
        if value and name not in mine:
            message = f"“{name}” does not go with a base of the kind “{kind}”."
            reader.refuse(f"base.{name}", message, "Remove it, or choose the other kind.")
    _check_base(reader, kind, texts)
    return Base(kind=kind, **{name: texts[name] for name in mine})


def _check_base(reader: FieldReader, kind: BaseKind, texts: dict[str, str]) -> None:
    if kind == "catalog":
        patterns = {"framework": _FRAMEWORK, "version": _WORD, "architecture": _WORD}
        for name, pattern in patterns.items():
            if not pattern.fullmatch(texts[name]):
                message = f"“{shorten(texts[name])}” cannot be a {name}."
                reader.refuse(f"base.{name}", message, "Choose one of the catalogue.")
    elif kind == "reference":
        try:
            texts["reference"] = str(parse_reference(texts["reference"]))
        except InvalidInput as error:
            reader.refuse("base.reference", error.message, error.hint)
    else:
        owner, _, rest = texts["image"].partition("/")
        name, colon, version = rest.partition(":")
        if not _PERSON.fullmatch(owner) or not _is_image_name(name):
            message = f"“{shorten(texts['image'])}” is not a custom image."
            reader.refuse("base.image", message, "Write owner/name or owner/name:number.")
        elif colon and not _IMAGE_VERSION.fullmatch(version):
            message = f"“{shorten(version)}” is not a version."
            reader.refuse("base.image", message, "Write a number, or latest.")


def _is_image_name(name: str) -> bool:
    try:
        return bool(check_image_name(name))
    except InvalidInput:
        return False


def _read_layer(reader: FieldReader, data: Mapping[str, Any], name: str) -> Layer:
    found = reader.section(data, name, ("choice", "packages"))
    choice: Choice = reader.choice(found, f"{name}.choice", get_args(Choice))  # type: ignore[assignment]
    packages = _read_packages(reader, found, f"{name}.packages")
    if packages and choice != "own":
        message = "Packages of one's own go with the choice “own” only."
        reader.refuse(f"{name}.packages", message, "Choose “own”, or remove them.")
    return Layer(choice=choice, packages=packages)


def _read_word(
    reader: FieldReader, data: Mapping[str, Any], name: str, pattern: re.Pattern[str]
) -> str:
    found = reader.text(data, name)
    if pattern.fullmatch(found):
        return found
    reader.refuse(name, f"“{shorten(found)}” is not known.", "Choose one of the list.")
    return ""


def _read_packages(reader: FieldReader, data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    kept: dict[str, int] = {}
    names: dict[str, str] = {}
    for index, text in enumerate(reader.texts(data, name, most=MAX_LIST)):
        line = check_package(text, policy=STRICT)
        if isinstance(line, LineProblem):
            message = f"“{line.text}” cannot be installed: {line.reason}."
            reader.refuse(name, message, line.hint, index=index, reason=line.reason)
        elif names.setdefault(line.name, line.text) != line.text:
            message = f"{line.name} is there twice: “{names[line.name]}” and “{line.text}”."
            reader.refuse(name, message, "Keep one of them.", index=index)
        else:
            kept.setdefault(line.text, index)
    return tuple(kept)


def _read_requirements(
    reader: FieldReader, data: Mapping[str, Any], policy: RequirementsPolicy
) -> str:
    text = reader.long_text(data, "requirements")
    problems = parse_requirements(text, policy=policy).problems
    reader.problems += [requirement_error(problem) for problem in problems]
    return text


def _read_apt(reader: FieldReader, data: Mapping[str, Any]) -> tuple[str, ...]:
    found = reader.texts(data, "apt", most=apt.MAX_PACKAGES)
    reader.problems += apt.check_apt_packages(found)
    return tuple(dict.fromkeys(found))


def _read_environment(reader: FieldReader, data: Mapping[str, Any]) -> dict[str, str]:
    found = reader.pairs(data, "environment")
    reader.problems += variables.variable_problems(found)
    return dict(sorted(found.items()))


def _read_post_install(reader: FieldReader, data: Mapping[str, Any]) -> tuple[str, ...]:
    kept = []
    for index, typed in enumerate(reader.texts(data, "post_install", most=MAX_POST_INSTALL)):
        line = typed.strip(" ")
        reason = bad_characters(line[: MAX_POST_INSTALL_LINE + 1])
        if len(line) > MAX_POST_INSTALL_LINE:
            reason = f"it is longer than {MAX_POST_INSTALL_LINE} characters"
        elif line.startswith("-"):
            reason = "a command does not begin with '-'"
        if reason:
            message = f"“{shorten(line)}” cannot be run: {reason}."
            reader.refuse("post_install", message, "Write one shell line.", index=index)
        elif line:
            kept.append(line)
    return tuple(kept)
