"""From a command line to a recipe's content.

What is named replaces that part of an existing recipe, the rest stays. Not in charge of: what
is allowed (`recipe_checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from catalog.models import BuildPolicy, Recipe
from catalog.recipes.content import CUSTOM, requirement_error
from catalog.recipes.dependency_files import read_dependency_file
from catalog.recipes.requirements import parse_requirements
from catalog.services.policies import requirements_policy
from catalog.services.recipes import find_recipe
from ds01portal.exceptions import InvalidInput, NotFound
from ds01portal.management.base import read_input
from ds01portal.models import Person

LISTS = ("pip", "apt", "env", "post_install")
CHOICES = ("default", "none")


def add_content_options(parser: CommandParser) -> None:
    """Add one option for each part of a recipe. A list without a value empties that part."""
    add = parser.add_argument
    add("--framework", default="", help="base: such as pytorch, from the catalogue")
    add("--version", default="", help="its exact version (default: the newest that fits)")
    add("--arch", default="", help="its architecture (default: this machine's)")
    add("--base", default="", metavar="REF", help="base: OWNER/IMAGE[:N], or another reference")
    layer = "default, none, or packages"
    add("--jupyter", nargs="+", default=None, metavar="PKG", help=f"Jupyter: {layer}")
    add("--data-science", nargs="+", default=None, metavar="PKG", help=f"data science: {layer}")
    add(
        "--use-case",
        nargs="+",
        default=None,
        metavar="K",
        help="key of a list of packages, none, or: custom PKG…",
    )
    add("--pip", nargs="*", default=None, metavar="REQ", help="own packages, such as 'torch>=2'")
    add("--requirements", default="", metavar="FILE", help="a requirements file, before --pip")
    add("--apt", nargs="*", default=None, metavar="PKG", help="system packages")
    add("--env", nargs="*", default=None, metavar="NAME=VALUE", help="environment variables")
    add("--post-install", nargs="*", default=None, metavar="LINE", help="shell lines, at the end")


def read_content(
    person: Person, options: Mapping[str, Any], recipe: Recipe | None, notes: list[str]
) -> dict[str, Any]:
    """Return the content that a command line asks for, on top of the recipe's own.

    Remarks about a file that was read are added to `notes`.

    Raise InvalidInput for options that contradict each other and files that cannot be read.
    """
    content: dict[str, Any] = dict(recipe.content) if recipe else {}
    base = read_base(person, options)
    if base is not None:
        content["base"] = base
    elif recipe is None:
        raise InvalidInput(
            "A new image needs a base.",
            hint="--framework pytorch [--version V], or --base REF.",
            field="base",
        )
    for name in ("jupyter", "data_science"):
        if options[name] is not None:
            content[name] = read_layer(options[name], name)
    if options["use_case"] is not None:
        content |= read_use_case(options["use_case"])
    if options["pip"] is not None or options["requirements"]:
        content["requirements"] = read_requirements(options, notes)
    if options["env"] is not None:
        content["environment"] = read_variables(options["env"])
    for name in ("apt", "post_install"):
        if options[name] is not None:
            content[name] = list(options[name])
    return content


def is_anything_asked(options: Mapping[str, Any]) -> bool:
    """Say whether the command line names any part of a recipe."""
    lists = (*LISTS, "jupyter", "data_science", "use_case")
    texts = ("framework", "version", "arch", "base", "requirements")
    return any(options[name] is not None for name in lists) or any(options[name] for name in texts)


def read_base(person: Person, options: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the base, None when none is named."""
    framework, reference = options["framework"], options["base"]
    version, architecture = options["version"], options["arch"]
    if framework and reference:
        raise InvalidInput(
            "Name either a framework or a base.",
            hint="--framework pytorch [--version V] [--arch A], or --base REF.",
            field="base",
        )
    if framework:
        return {
            "kind": "catalog",
            "framework": framework,
            "version": version,
            "architecture": architecture,
        }
    if version or architecture:
        raise InvalidInput(
            "--version and --arch go with --framework.",
            hint="Name the framework, too.",
            field="version" if version else "arch",
        )
    if not reference:
        return None
    try:
        recipe = find_recipe(person=person, name=reference)
    except NotFound:
        return {"kind": "reference", "reference": reference}
    _name, colon, number = reference.rpartition("/")[2].partition(":")
    return {"kind": "custom", "image": f"{recipe.owner.username}/{recipe.name}{colon}{number}"}


def read_layer(words: list[str], name: str) -> dict[str, Any]:
    """Return a ready-made layer: as the admins have it, none, or own packages."""
    if len(words) == 1 and words[0] in CHOICES:
        return {"choice": words[0], "packages": []}
    if mixed := [word for word in words if word in CHOICES]:
        raise InvalidInput(
            f"“{mixed[0]}” stands beside packages.",
            hint="Write default, none, or packages.",
            field=name,
        )
    return {"choice": "own", "packages": words}


def read_use_case(words: list[str]) -> dict[str, Any]:
    """Return the use case with the packages of one's own."""
    key, *packages = words
    if packages and key != CUSTOM:
        raise InvalidInput(
            f"The use case {key[:30]} has its own packages.",
            hint="Write --use-case custom PKG… for a list of your own.",
            field="use_case",
        )
    return {"use_case": "" if key == "none" else key, "use_case_packages": packages}


def read_requirements(options: Mapping[str, Any], notes: list[str]) -> str:
    """Return the requirements text: the file's lines as they are, then those of --pip.

    The file may also be an environment.yml or a pyproject.toml; what was left out of it is noted.
    """
    text = ""
    if path := options["requirements"]:
        policy = requirements_policy(policy=BuildPolicy.current())
        imported = read_dependency_file(Path(path).name, read_input(path), policy=policy)
        text = imported.text
        # The lines of a requirements file are looked at with the rest of the recipe.
        if imported.problems and not parse_requirements(text, policy=policy).problems:
            raise requirement_error(imported.problems[0])
        notes += imported.notes
    return text + "\n".join(options["pip"] or ())


def read_variables(pairs: list[str]) -> dict[str, str]:
    """Return the variables. Raise InvalidInput for a pair without `=` or a name given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name in found:
            raise InvalidInput(
                f"“{name[:60]}” is named twice." if equals else f"“{pair[:60]}” has no value.",
                hint="Write NAME=VALUE, each once.",
                field="environment",
            )
        found[name] = value
    return found
