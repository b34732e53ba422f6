"""Requirements texts, names and files with dependencies: what survives, and what is said."""

from __future__ import annotations

import pytest

from catalog.recipes.dependency_files import read_dependency_file
from catalog.recipes.names import canonical_name, check_image_name, suggest_image_name
from catalog.recipes.projects import read_project
from catalog.recipes.requirements import (
    PERMISSIVE,
    LineProblem,
    RequirementsPolicy,
    check_package,
    parse_requirements,
)
from ds01portal.exceptions import InvalidInput

DIGEST = "0123456789abcdef" * 4
PIP_COMPILE = f"""\ufeff# made by pip-compile\r
--require-hashes\r
numpy==1.26.4 \\\r
    --hash=sha256:{DIGEST} \\\r
    --hash=sha256:{DIGEST[::-1]}\r
    # via pandas\r
pandas[excel,plot] >=2.0, <3 ; python_version >= "3.9"  # tables\r
\r
torch==2.7.1+cu126\r
weird === 1.0-custom\r
epoch==1!2.*\r
"""


def test_what_pip_compile_writes_survives():
    parsed = parse_requirements(PIP_COMPILE)

    assert not parsed.problems
    assert [(line.number, line.text) for line in parsed.lines] == [
        (1, "# made by pip-compile"),
        (2, "--require-hashes"),
        (3, f"numpy==1.26.4 --hash=sha256:{DIGEST} --hash=sha256:{DIGEST[::-1]}"),
        (6, "# via pandas"),
        (7, 'pandas[excel,plot] >=2.0, <3 ; python_version >= "3.9"  # tables'),
        (9, "torch==2.7.1+cu126"),
        (10, "weird === 1.0-custom"),
        (11, "epoch==1!2.*"),
    ]
    assert [line.name for line in parsed.packages] == ["numpy", "pandas", "torch", "weird", "epoch"]
    assert parsed.packages[1].specifier == "<3,>=2.0"
    assert parsed.blank == (8, 12)


def test_a_line_twice_is_kept_once_and_different_ones_are_refused():
    parsed = parse_requirements("Foo_Bar>=1\nfoo.bar >= 1\nfoo-bar<3\n")

    assert [line.number for line in parsed.lines] == [1]
    assert [(note.number, note.reason) for note in parsed.notes] == [
        (2, "foo-bar is already in line 1")
    ]
    assert [(p.number, p.reason) for p in parsed.problems] == [
        (3, "foo-bar is asked for differently in line 1")
    ]


def test_lines_for_different_environments_stand_side_by_side():
    parsed = parse_requirements(
        "numpy<2; python_version < '3.12'\nnumpy>=2; python_version >= '3.12'\n"
    )

    assert len(parsed.packages) == 2
    assert not parsed.problems


def test_an_admin_may_allow_what_is_refused_otherwise():
    text = (
        "--index-url https://example.org/simple\n"
        "-e git+https://example.org/x.git#egg=x\n"
        "wheel @ https://example.org/wheel-1.0-py3-none-any.whl ; os_name == 'posix'\n"
        "tool @ git+https://example.org/tool.git@v1\n"
    )

    assert len(parse_requirements(text).problems) == 4
    assert not parse_requirements(text, policy=PERMISSIVE).problems
    only_urls = parse_requirements(text, policy=RequirementsPolicy(allow_urls=True))
    assert [problem.number for problem in only_urls.problems] == [1, 2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x @ http://example.org/x.whl", "only git+https or https"),
        ("x @ file:///x.whl", "only git+https or https"),
        ("x @ https://me:token@example.org/x.whl", "password or token"),
        ("--index-url http://example.org/simple", "only https"),
        ("--index-url https://me:token@example.org/", "password or token"),
        ("-e .", "only git+https"),
        ("-e git+ssh://example.org/x", "only git+https"),
        ("-r other.txt", "reads another file"),
    ],
)
def test_even_then_nothing_unencrypted_or_secret_passes(line, reason):
    (problem,) = parse_requirements(line, policy=PERMISSIVE).problems

    assert reason in problem.reason


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("numpy=1.26", "numpy==1.26"),
        ("pip install numpy", "Leave out"),
        ("numpy pandas", "one package in each line"),
        ("'numpy'", "quotes"),
        ("-r base.txt", "Paste the lines"),
        ("numpy==${V}", "Write the value"),
    ],
)
def test_usual_mistakes_are_told_how_to_mend(line, hint):
    (problem,) = parse_requirements(line).problems

    assert hint in problem.hint


def test_one_entry_of_a_list_is_a_requirement_without_options():
    line = check_package(" torch>=2.0,<3 ")
    assert not isinstance(line, LineProblem)
    assert (line.name, line.text) == ("torch", "torch>=2.0,<3")

    for text in (f"numpy --hash=sha256:{DIGEST}", "--pre", "", "x" * 501):
        assert isinstance(check_package(text), LineProblem)


def test_names_are_suggested_and_folded():
    assert suggest_image_name("Mein Bild!") == "mein-bild"
    assert suggest_image_name("Übung 1") == "ubung-1"
    assert suggest_image_name("ds01-Thesis") == "thesis"
    assert suggest_image_name("latest") == ""
    assert suggest_image_name("!!!") == ""
    assert check_image_name("my_image.v2-a__b") == "my_image.v2-a__b"
    assert canonical_name("Foo_Bar..x") == "foo-bar-x"
    with pytest.raises(InvalidInput) as refused:
        check_image_name("My Thesis")
    assert "Try “my-thesis”." in refused.value.hint


ENVIRONMENT = b"""\
name: thesis
channels: [conda-forge]
dependencies:
  - python=3.10
  - cudatoolkit=11.8
  - numpy=1.26
  - conda-forge::scipy=1.11.4=py310hb13e2d6_0
  - pandas>=2,<3
  - scikit-learn 1.3.*
  - pytorch
  - ffmpeg
  - pip:
      - transformers[torch]==4.40.0
      - ./local
variables: {A: b}
"""


def test_a_conda_environment_becomes_requirements():
    imported = read_dependency_file("environment.yml", ENVIRONMENT)

    assert imported.requirements == (
        "numpy==1.26.*",
        "scipy==1.11.4",
        "pandas>=2,<3",
        "scikit-learn==1.3.*",
        "torch",
        "transformers[torch]==4.40.0",
    )
    assert [(p.number, p.text) for p in imported.problems] == [(11, "ffmpeg"), (14, "./local")]
    assert "Add ffmpeg to the system packages." in imported.problems[0].hint
    notes = "\n".join(imported.notes)
    assert "python=3.10: comes with the base" in notes
    assert "cudatoolkit=11.8: comes with the base" in notes
    assert "torch by pip" in notes
    assert "Variables are not taken over" in notes


def test_a_project_brings_its_dependencies_and_the_chosen_groups():
    text = """
[project]
dependencies = ["numpy>=1.26", "torch ; sys_platform == 'linux'"]
requires-python = ">=3.9"
[project.optional-dependencies]
Plot_it = ["matplotlib"]
dev = ["pytest"]
"""
    imported = read_project(text, extras=["plot-it"])

    assert imported.requirements == (
        "numpy>=1.26",
        "torch ; sys_platform == 'linux'",
        "matplotlib",
    )
    assert "Optional groups that are not taken over: dev." in imported.notes
    missing = read_project(text, extras=["gpu"])
    assert missing.problems[0].hint == "There are: dev, plot-it."


def test_poetrys_carets_and_tildes_are_translated():
    imported = read_project("""
[tool.poetry.dependencies]
python = "^3.10"
a = "^1.2.3"
b = "^0.2.3"
c = "~1.4"
d = "*"
e = {version = ">=1,<2", extras = ["x"], markers = "os_name == 'posix'"}
f = {version = "1.0", optional = true}
g = "1.2.*"
h = "^0.0"
""")

    assert not imported.problems
    assert imported.requirements == (
        "a>=1.2.3,<2",
        "b>=0.2.3,<0.3",
        "c>=1.4,<1.5",
        "d",
        "e[x]>=1,<2; os_name == 'posix'",
        "g==1.2.*",
        "h>=0.0,<0.1",
    )


def test_a_requirements_file_comes_back_as_typed_with_its_problems():
    imported = read_dependency_file("requirements.txt", b"# mine\nnumpy\n\n-r x.txt\nnumpy\n")

    assert imported.text == "# mine\nnumpy\n\n-r x.txt\nnumpy\n"
    assert [problem.number for problem in imported.problems] == [4]
    assert imported.notes == ("Line 5: numpy is already in line 2.",)


def test_a_conda_file_is_known_by_its_content_too():
    imported = read_dependency_file("deps.txt", b"name: x\ndependencies:\n  - numpy=1.26\n")

    assert imported.requirements == ("numpy==1.26.*",)
