"""Hostile and broken inputs of recipes: each is refused, at its field, with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.recipes.content import RecipeContent, content_problems
from catalog.recipes.dependency_files import read_dependency_file
from catalog.recipes.names import check_image_name
from catalog.recipes.requirements import parse_requirements
from ds01portal.exceptions import InvalidInput

BASE = {"kind": "catalog", "framework": "pytorch"}
PYTORCH = {"base": BASE}
REFERENCE = {"kind": "reference"}
CUSTOM = {"kind": "custom"}

# (what is sent, the field that is named, a part of the reason)
CONTENTS: list[tuple[dict[str, Any], str, str]] = [
    # Dockerfile: other bases, frontends, mounts
    ({"base": {**REFERENCE, "reference": "alpine\nFROM evil"}}, "base.reference", "cannot be seen"),
    ({"base": {**REFERENCE, "reference": "alpine AS x"}}, "base.reference", "spaces"),
    ({"base": {**REFERENCE, "reference": "$(id)"}}, "base.reference", "not a valid part"),
    ({"base": {**REFERENCE, "reference": "# syntax=evil/front"}}, "base.reference", "spaces"),
    ({"base": {**REFERENCE, "reference": "--platform=x"}}, "base.reference", "not a valid part"),
    ({"base": {**REFERENCE, "reference": "https://example.org/x"}}, "base.reference", "scheme"),
    ({"base": {**REFERENCE, "reference": "a" * 64}}, "base.reference", "image id"),
    ({"base": {**REFERENCE, "reference": ""}}, "base.reference", "empty"),
    ({"base": {**REFERENCE, "reference": "аlpine"}}, "base.reference", "non-ASCII"),
    ({"base": {**CUSTOM, "image": "alice/../bob"}}, "base.image", "not a custom image"),
    ({"base": {**CUSTOM, "image": "alice/thesis:0"}}, "base.image", "not a version"),
    ({"base": {**CUSTOM, "image": "thesis"}}, "base.image", "not a custom image"),
    ({"base": {**CUSTOM, "image": "alice/thesis", "reference": "x"}}, "base.reference", "not go"),
    ({"base": {"kind": "scratch"}}, "base.kind", "no choice"),
    ({"base": {**BASE, "framework": "pytorch\nRUN x"}}, "base.framework", "cannot be seen"),
    ({"base": {**BASE, "framework": ""}}, "base.framework", "cannot be a framework"),
    ({"base": {**BASE, "version": "1 AS x"}}, "base.version", "cannot be a version"),
    ({"base": {**BASE, "mount": "type=secret"}}, "base.mount", "not known"),
    ({"base": "pytorch"}, "base", "must be a section"),
    ({}, "base", "no base"),
    ({**PYTORCH, "syntax": "docker/dockerfile"}, "syntax", "not known"),
    ({**PYTORCH, "privileged": True}, "privileged", "not known"),
    ({**PYTORCH, "fresh": "yes"}, "fresh", "must be true or false"),
    # package lists: shell, options, paths, look-alikes
    ({**PYTORCH, "jupyter": {"choice": "own", "packages": ["a; touch /x"]}}, "jupyter.packages",
     "not a requirement"),
    ({**PYTORCH, "jupyter": {"choice": "own", "packages": ["$(id)"]}}, "jupyter.packages",
     "not a requirement"),
    ({**PYTORCH, "jupyter": {"choice": "own", "packages": ["a && b"]}}, "jupyter.packages",
     "not a requirement"),
    ({**PYTORCH, "jupyter": {"choice": "own", "packages": ["-r /etc/passwd"]}},
     "jupyter.packages", "reads another file"),
    ({**PYTORCH, "jupyter": {"choice": "own", "packages": ["numpy # hm"]}}, "jupyter.packages",
     "comment"),
    ({**PYTORCH, "jupyter": {"choice": "own", "packages": ["numpy\nevil"]}}, "jupyter.packages",
     "cannot be seen"),
    ({**PYTORCH, "jupyter": {"choice": "own", "packages": [{"name": "numpy"}]}},
     "jupyter.packages", "not a text"),
    ({**PYTORCH, "jupyter": {"choice": "own", "packages": "numpy"}}, "jupyter.packages",
     "must be a list"),
    ({**PYTORCH, "jupyter": {"choice": "own", "packages": ["a"] * 201}}, "jupyter.packages",
     "more than 200"),
    ({**PYTORCH, "jupyter": {"choice": "default", "packages": ["numpy"]}}, "jupyter.packages",
     "only"),
    ({**PYTORCH, "data_science": {"choice": "own", "packages": ["pаndas"]}},
     "data_science.packages", "CYRILLIC SMALL LETTER A"),
    ({**PYTORCH, "data_science": {"choice": "own", "packages": ["pandas", "Pandas<3"]}},
     "data_science.packages", "twice"),
    ({**PYTORCH, "use_case": "ml; rm"}, "use_case", "not known"),
    ({**PYTORCH, "use_case": "ml", "use_case_packages": ["a"]}, "use_case_packages", "only"),
    # apt
    ({**PYTORCH, "apt": ["git;reboot"]}, "apt", "small letters"),
    ({**PYTORCH, "apt": ["-o", "APT::Update::Pre-Invoke::=sh"]}, "apt", "small letters"),
    ({**PYTORCH, "apt": ["--allow-unauthenticated"]}, "apt", "small letters"),
    ({**PYTORCH, "apt": ["python3-"]}, "apt", "remove"),
    ({**PYTORCH, "apt": ["a.+"]}, "apt", "pattern"),
    ({**PYTORCH, "apt": ["./evil.deb"]}, "apt", "small letters"),
    ({**PYTORCH, "apt": ["wine:i386"]}, "apt", "architectures"),
    ({**PYTORCH, "apt": ["git=$(id)"]}, "apt", "not a version"),
    ({**PYTORCH, "apt": ["git\u202ekcid"]}, "apt", "cannot be seen"),
    ({**PYTORCH, "apt": ["gіt"]}, "apt", "CYRILLIC"),
    ({**PYTORCH, "apt": ["a" * 101]}, "apt", "longer than 100"),
    ({**PYTORCH, "apt": [""]}, "apt", "empty"),
    # variables
    ({**PYTORCH, "environment": {"LD_PRELOAD": "/x.so"}}, "environment.LD_PRELOAD", "loaded"),
    ({**PYTORCH, "environment": {"LD_LIBRARY_PATH": "/x"}}, "environment.LD_LIBRARY_PATH",
     "loaded"),
    ({**PYTORCH, "environment": {"GLIBC_TUNABLES": "x"}}, "environment.GLIBC_TUNABLES", "loaded"),
    ({**PYTORCH, "environment": {"NVIDIA_VISIBLE_DEVICES": "all"}},
     "environment.NVIDIA_VISIBLE_DEVICES", "GPUs"),
    ({**PYTORCH, "environment": {"CUDA_VISIBLE_DEVICES": "0"}},
     "environment.CUDA_VISIBLE_DEVICES", "GPUs"),
    ({**PYTORCH, "environment": {"PATH": "/x"}}, "environment.PATH", "container starts"),
    ({**PYTORCH, "environment": {"BASH_ENV": "/x"}}, "environment.BASH_ENV", "unseen"),
    ({**PYTORCH, "environment": {"https_proxy": "x"}}, "environment.https_proxy", "packages come"),
    ({**PYTORCH, "environment": {"PIP_INDEX_URL": "x"}}, "environment.PIP_INDEX_URL",
     "packages come"),
    ({**PYTORCH, "environment": {"DS01_APT_MIRROR": "x"}}, "environment.DS01_APT_MIRROR",
     "portal"),
    ({**PYTORCH, "environment": {"BUILDKIT_SYNTAX": "x"}}, "environment.BUILDKIT_SYNTAX",
     "engine"),
    ({**PYTORCH, "environment": {"A B": "x"}}, "environment.A B", "letters, digits"),
    ({**PYTORCH, "environment": {"А": "x"}}, "environment.А", "ASCII"),
    ({**PYTORCH, "environment": {"A": "x\nRUN id"}}, "environment.A", "one line"),
    ({**PYTORCH, "environment": {"A": "x\0"}}, "environment.A", "one line"),
    ({**PYTORCH, "environment": {"A": "\ud800"}}, "environment.A", "one line"),
    ({**PYTORCH, "environment": {"A": "x" * 1001}}, "environment.A", "longer than 1000"),
    ({**PYTORCH, "environment": {"A": 1}}, "environment.A", "not a text"),
    ({**PYTORCH, "environment": [["A", "x"]]}, "environment", "must be a section"),
    ({**PYTORCH, "environment": {f"A{i}": "" for i in range(51)}}, "environment", "more than 50"),
    # post-install
    ({**PYTORCH, "post_install": ["echo a\nUSER 0"]}, "post_install", "cannot be seen"),
    ({**PYTORCH, "post_install": ["-c id"]}, "post_install", "begin with '-'"),
    ({**PYTORCH, "post_install": ["x" * 1001]}, "post_install", "longer than 1000"),
    ({**PYTORCH, "post_install": ["x"] * 51}, "post_install", "more than 50"),
    ({**PYTORCH, "requirements": ["numpy"]}, "requirements", "must be a text"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "field", "reason"), CONTENTS)
def test_a_hostile_recipe_is_refused_at_its_field(content, field, reason):
    problems = content_problems(content)

    assert [p for p in problems if p.fields["field"] == field and reason in p.message], [
        (p.fields["field"], p.message) for p in problems
    ]
    assert all(problem.hint for problem in problems)
    with pytest.raises(InvalidInput) as refused:
        RecipeContent.from_dict(content)
    assert refused.value.message == problems[0].message


# (the requirements text, the line that is refused, a part of the reason)
REQUIREMENTS = [
    ("numpy\n-r other.txt", 2, "reads another file"),
    ("-rother.txt", 1, "reads another file"),
    ("--requirement=/etc/passwd", 1, "reads another file"),
    ("-c constraints.txt", 1, "reads another file"),
    ("-e .", 1, "editable"),
    ("-i https://example.org/simple", 1, "another package index"),
    ("--extra-index-url https://example.org", 1, "another package index"),
    ("--index-url=https://example.org", 1, "another package index"),
    ("--extra-i https://example.org", 1, "not allowed"),
    ("-f .", 1, "another place"),
    ("--find-links /tmp", 1, "another place"),
    ("--no-index", 1, "nothing can be installed"),
    ("--trusted-host example.org", 1, "certificates"),
    ("--use-feature=fast-deps", 1, "pip's own switches"),
    ("--pre --index-url https://example.org", 1, "another package index"),
    ("--only-binary $(id)", 1, "not allowed"),
    ("numpy --config-settings x=y", 1, "own build"),
    ("numpy --global-option=x", 1, "own build"),
    ("numpy -r other.txt", 1, "reads another file"),
    ("numpy --hash=md5:" + "0" * 32, 1, "not a hash"),
    ("numpy --hash=sha256:12", 1, "not a hash"),
    ("--hash=sha256:" + "0" * 64, 1, "belongs to a package"),
    ("numpy @ https://example.org/numpy.whl", 1, "from an address"),
    ("numpy @ file:///etc/passwd", 1, "from an address"),
    ("https://example.org/numpy.whl", 1, "address alone"),
    ("git+https://example.org/numpy.git", 1, "address alone"),
    ("file:evil", 1, "address alone"),
    ("./numpy", 1, "path"),
    ("../../etc", 1, "path"),
    ("/etc/passwd", 1, "path"),
    ("~/numpy", 1, "path"),
    ("numpy-1.26-py3-none-any.whl", 1, "name of a file"),
    ("numpy.zip", 1, "name of a file"),
    ("numpy==${VERSION}", 1, "variable"),
    ("numpy==$(id)", 1, "not a requirement"),
    ("numpy`id`", 1, "not a requirement"),
    ("numpy; os.system('x')", 1, "not a requirement"),
    ("numpy | sh", 1, "not a requirement"),
    ("numpy > /etc/x", 1, "path"),
    ("numpy=1.26", 1, "not a requirement"),
    ("pip install numpy", 1, "not a requirement"),
    ('"numpy"', 1, "not a requirement"),
    ("numpy pandas", 1, "not a requirement"),
    ("numрy", 1, "CYRILLIC SMALL LETTER ER"),
    ("ｎumpy", 1, "FULLWIDTH"),
    ("numpy==１.0", 1, "FULLWIDTH"),
    ("# fine\u2028evil", 1, "cannot be seen"),
    ("# fine\x0cevil", 1, "cannot be seen"),
    ("# fine\x85evil", 1, "cannot be seen"),
    ("num\u200bpy", 1, "cannot be seen"),
    ("# \u202e gnp", 1, "cannot be seen"),
    ("numpy\0", 1, "cannot be seen"),
    ("# -*- coding: utf-7 -*-\n# +AAo-evil", 1, "in the encoding"),
    ("numpy # pinned \\\npandas", 1, "take the next line"),
    ("numpy # pinned \\", 1, "take the next line"),
    ("numpy \\ \npandas", 1, "backslash"),
    ("numpy===1\\ ", 1, "backslash"),
    ('numpy; os_name == " -r x"', 1, "reads another file"),
    ("a" * 101, 1, "longer than 100"),
    ("numpy\nNumPy<2", 2, "differently in line 1"),
    ("a" * 13_000, 1, "longer than 12000"),
    ("numpy\n" * 20_000, 1, "larger than 64 KB"),
    ("x" * 10 * 1024 * 1024, 1, "larger than 64 KB"),
    ("\n".join(f"p{i}" for i in range(501)), 501, "more than 500"),
]


@pytest.mark.parametrize(("text", "line", "reason"), REQUIREMENTS)
def test_a_hostile_line_is_refused_with_its_number(text, line, reason):
    problems = parse_requirements(text).problems

    assert any(p.number == line and reason in p.reason for p in problems), problems
    assert all(problem.hint for problem in problems)
    found = content_problems({**PYTORCH, "requirements": text})
    assert found[0].fields["field"] == "requirements"
    assert found[0].fields["line"] == problems[0].number


FILES = [
    ("../../etc/cron.d/x", b"numpy", "another folder"),
    ("..\\x.txt", b"numpy", "another folder"),
    ("/etc/passwd", b"numpy", "another folder"),
    ("C:x.txt", b"numpy", "another folder"),
    ("a\0.txt", b"numpy", "not usable"),
    ("requirements\u202etxt.exe", b"numpy", "not usable"),
    ("", b"numpy", "not usable"),
    ("x" * 256, b"numpy", "not usable"),
    ("requirements.zip", b"PK\x03\x04", "archives"),
    ("requirements.tar.gz", b"\x1f\x8b", "archives"),
    ("requirements.txt", b"PK\x03\x04....", "archive or a program"),
    ("requirements.txt", b"\x7fELF...", "archive or a program"),
    ("requirements.txt", b"x" * 10 * 1024 * 1024, "larger than 64 KB"),
    ("requirements.txt", b"numpy\0", "NUL"),
    ("requirements.txt", b"numpy\n\xff\xfa", "line 2 is not UTF-8"),
    ("requirements.txt", "numpy".encode("utf-16"), "UTF-16"),
    ("setup.py", b"import os", "kind of file"),
    ("Dockerfile.exe", b"FROM x", "kind of file"),
]


@pytest.mark.parametrize(("name", "data", "reason"), FILES)
def test_a_hostile_file_is_refused_unread(name, data, reason):
    with pytest.raises(InvalidInput) as refused:
        read_dependency_file(name, data)

    assert reason in refused.value.message
    assert refused.value.fields["field"] == "file"
    assert refused.value.hint


BOMB = b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\ndependencies: *c\n"
BROKEN_FILES = [
    ("environment.yml", BOMB, 1, "anchors and aliases"),
    ("environment.yml", b"dependencies: " + b"[" * 2000, 1, "nested"),
    ("environment.yml", b"dependencies:\n  - !!python/object:os.system x", 2, "tag"),
    ("environment.yml", b"dependencies:\n  - pip:\n    - -r other.txt", 3, "reads another file"),
    (
        "environment.yml",
        b"dependencies:\n  - pip:\n    - evil @ https://example.org/x",
        3,
        "address",
    ),
    ("environment.yml", b"dependencies:\n  - numpy=$(id)", 2, "version is not understood"),
    ("environment.yml", b"dependencies:\n  - numpy; touch x", 2, "not understood"),
    ("environment.yml", b"dependencies: numpy", 1, "not a list"),
    ("environment.yml", b"dependencies:\n  - 1.5", 2, "not a package"),
    ("environment.yml", b"dependencies:\n  - conda: [x]", 2, "not understood"),
    ("environment.yml", b"dependencies:\n  - a[version='>1']", 2, "not understood"),
    ("environment.yml", b"name: x", 1, "no list"),
    ("environment.yml", b"", 1, "empty"),
    ("pyproject.toml", b"[project]\ndynamic = ['dependencies']", 2, "made when the project"),
    ("pyproject.toml", b"[project]\ndependencies = ['x; $(id)']", 2, "not a requirement"),
    ("pyproject.toml", b"[project]\ndependencies = [1]", 0, "not a text"),
    ("pyproject.toml", b"[project]\ndependencies = 'x'", 2, "not a list"),
    ("pyproject.toml", b"[project]\noptional-dependencies = []", 2, "not a table"),
    ("pyproject.toml", b"[project\n", 1, "not TOML"),
    ("pyproject.toml", b"a = " + b"[" * 3000, 1, "not TOML"),
    ("pyproject.toml", b"[tool.black]\n", 0, "no dependencies"),
    ("pyproject.toml", b"[tool.poetry.dependencies]\nx = {git = 'https://e'}", 2, "address"),
    ("pyproject.toml", b"[tool.poetry.dependencies]\nx = '^1 || ^2'", 2, "not understood"),
]


@pytest.mark.parametrize(("name", "data", "line", "reason"), BROKEN_FILES)
def test_a_broken_file_says_where(name, data, line, reason):
    imported = read_dependency_file(name, data)

    assert [p for p in imported.problems if p.number == line and reason in p.reason], (
        imported.problems
    )
    assert not imported.requirements


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("latest", "reserved"),
        ("ds01-thesis", "portal's own"),
        ("Thesis", "capital"),
        ("a--b", "separators"),
        ("a/b", "not allowed"),
        ("..", "separators"),
        ("a:1", "not allowed"),
        ("-a", "separators"),
        ("a\n", "not allowed"),
        ("thеsis", "not allowed"),
        ("x" * 61, "longer than 60"),
    ],
)
def test_a_hostile_name_is_refused(name, reason):
    with pytest.raises(InvalidInput) as refused:
        check_image_name(name)

    assert reason in refused.value.message
