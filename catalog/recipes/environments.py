"""A conda environment.yml as requirements for pip, as far as the two mean the same. Pure.

conda's `numpy=1.26` is pip's `numpy==1.26.*`. Python, CUDA and the channels come with the base and
become remarks; what has no counterpart is refused with its line. Source of the notation: conda's
documentation of match specifications.
"""

from __future__ import annotations

import re

from catalog.recipes.imported import Imported
from catalog.recipes.names import canonical_name
from catalog.recipes.requirements import (
    STRICT,
    LineProblem,
    RequirementLine,
    RequirementsPolicy,
    check_package,
)
from catalog.recipes.texts import shorten
from ds01portal.exceptions import InvalidInput
from ds01portal.strict_yaml import Branch, read_yaml

MAX_CHARACTERS = 64 * 1024

_SPEC = re.compile(
    r"(?:[A-Za-z0-9._/-]+::)?(?P<name>[A-Za-z0-9._-]+?)\s*"
    r"(?P<rest>(?:[=<>!~ ].*)?)"
)
_CLAUSE = re.compile(
    r"(?P<operator>===?|=|>=|<=|!=|~=|>|<|)\s*(?P<version>[0-9][A-Za-z0-9._+!-]*\*?)"
)
_BASE = re.compile(r"cuda(toolkit|nn)?|cuda-.*|cudnn|nccl|pytorch-cuda|pytorch-mutex|cpuonly|mkl")
_PYTHON = frozenset({"python", "pip", "setuptools", "wheel", "conda", "mamba"})
_RENAMED = {
    "pytorch": "torch",
    "pytorch-gpu": "torch",
    "tensorflow-gpu": "tensorflow",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "matplotlib-base": "matplotlib",
    "dask-core": "dask",
    "pytables": "tables",
    "msgpack-python": "msgpack",
    "seaborn-base": "seaborn",
    "py-xgboost": "xgboost",
    "py-xgboost-gpu": "xgboost",
    "ruamel-yaml": "ruamel.yaml",
}
# conda packages that are programs or libraries, and where apt has them.
_SYSTEM = {
    "ffmpeg": "ffmpeg",
    "git": "git",
    "gcc": "build-essential",
    "gxx": "build-essential",
    "compilers": "build-essential",
    "cxx-compiler": "build-essential",
    "c-compiler": "build-essential",
    "make": "make",
    "nodejs": "nodejs",
    "openjdk": "default-jre-headless",
    "graphviz": "graphviz",
    "libsndfile": "libsndfile1",
    "openmpi": "libopenmpi-dev",
    "r-base": "r-base",
    "wget": "wget",
    "curl": "curl",
}
_IGNORED = frozenset({"name", "prefix", "platforms"})


class _Reading:
    """Lines, remarks and problems found so far."""

    def __init__(self, policy: RequirementsPolicy) -> None:
        self.policy = policy
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.problems: list[LineProblem] = []

    def refuse(self, line: int, text: str, reason: str, hint: str) -> None:
        self.problems.append(LineProblem(line, shorten(text), reason, hint))

    def add(self, line: int, text: str) -> None:
        found = check_package(text, policy=self.policy)
        if isinstance(found, RequirementLine):
            self.lines.append(found.text)
        else:
            self.refuse(line, text, found.reason, found.hint)

    def done(self) -> Imported:
        notes = tuple(dict.fromkeys(self.notes))
        lines = tuple(dict.fromkeys(self.lines))
        return Imported(requirements=lines, notes=notes, problems=tuple(self.problems))


def read_environment(text: str, *, policy: RequirementsPolicy = STRICT) -> Imported:
    """Return the packages of an environment.yml; a file that is none is a single problem."""
    reading = _Reading(policy)
    if len(text) > MAX_CHARACTERS:
        reading.refuse(1, "", "the file is larger than 64 KB", "Keep only what you import.")
        return reading.done()
    try:
        tree = read_yaml(text)
    except InvalidInput as error:
        reason = error.message.partition(": ")[2].rstrip(".")
        reading.refuse(int(error.fields["line"]), "", reason, error.hint)
        return reading.done()
    if "dependencies" not in tree.fields:
        hint = "Export it with: conda env export --from-history"
        reading.refuse(1, "", "there is no list “dependencies”", hint)
        return reading.done()
    for key, branch in tree.fields.items():
        _read_section(reading, key, branch)
    return reading.done()


def _read_section(reading: _Reading, key: str, branch: Branch) -> None:
    if key == "dependencies":
        for item in _items(reading, branch, "dependencies"):
            _read_dependency(reading, item)
    elif key == "channels":
        reading.notes.append("conda's channels do not matter: packages come from the site's index.")
    elif key == "variables":
        reading.notes.append("Variables are not taken over: add them below Environment.")
    elif key not in _IGNORED:
        reading.notes.append(f"“{shorten(key)}” is not taken over.")


def _items(reading: _Reading, branch: Branch, name: str) -> list[Branch]:
    if branch.value is None:
        return []
    if isinstance(branch.value, list):
        return branch.value
    reading.refuse(branch.line, name, f"“{name}” is not a list", "Begin every entry with “- ”.")
    return []


def _read_dependency(reading: _Reading, item: Branch) -> None:
    if isinstance(item.value, dict):
        for key, packages in item.value.items():
            if key != "pip":
                hint = "Only “pip:” may have a list of its own."
                reading.refuse(packages.line, key, "it is not understood", hint)
                continue
            for package in _items(reading, packages, "pip"):
                _read_text(reading, package, reading.add)
        return
    _read_text(reading, item, lambda line, text: _read_spec(reading, line, text))


def _read_text(reading: _Reading, item: Branch, read: object) -> None:
    if isinstance(item.value, str) and callable(read):
        read(item.line, item.value.strip())
    else:
        reading.refuse(item.line, str(item.plain()), "it is not a package", "Write name=version.")


def _read_spec(reading: _Reading, line: int, text: str) -> None:
    match = _SPEC.fullmatch(text)
    if not match:
        hint = "Write it as name=version, or below “pip:”."
        reading.refuse(line, text, "it is not understood", hint)
        return
    name, rest = match["name"].lower(), match["rest"].strip()
    folded = canonical_name(name)
    if name in _PYTHON or _BASE.fullmatch(name):
        reading.notes.append(f"{shorten(text)}: comes with the base, not taken over.")
    elif name in _SYSTEM or name.startswith(("_", "lib", "gcc_", "gxx_", "r-")):
        apt = _SYSTEM.get(name)
        hint = f"Add {apt} to the system packages." if apt else "Look for it among system packages."
        reading.refuse(line, text, "it is no Python package", hint)
    else:
        specifier = _read_versions(rest)
        if specifier is None:
            reading.refuse(line, text, "the version is not understood", "Write name=version.")
            return
        if folded in _RENAMED:
            reading.notes.append(f"{name} is called {_RENAMED[folded]} by pip.")
        reading.add(line, f"{_RENAMED.get(folded, name)}{specifier}")


def _read_versions(rest: str) -> str | None:
    """Return conda's versions as pip's, None when pip cannot say the same."""
    if not rest or rest in ("*", "=*"):
        return ""
    # A third part names one build for one platform: `=1.26.4=py310_0` or ` 1.26.4 py310_0`.
    rest = re.sub(r"^=?=?([0-9][^=\s,]*)(?:=|\s+)[A-Za-z0-9_.*]+$", r"==\1", rest)
    parts = []
    for clause in rest.split(","):
        match = _CLAUSE.fullmatch(clause.strip())
        if not match:
            return None
        operator, version = match["operator"], match["version"]
        bare = version.removesuffix("*").removesuffix(".")
        if operator in ("", "=", "==") and (version.endswith("*") or operator == "="):
            parts.append(f"=={bare}.*")
        else:
            parts.append(f"{operator or '=='}{version}")
    return ",".join(parts)
