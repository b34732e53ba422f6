"""What must hold of the source itself: nothing untested, nothing undocumented, nothing leaked.

Needs no database, so `make check` can run it alone.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import environ
import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = ("ds01portal", "catalog", "workspaces")
COMMANDS = sorted(
    path for app in APPS for path in (ROOT / app / "management" / "commands").glob("[!_]*.py")
)
SETTINGS = sorted(
    set(
        re.findall(
            r"\benv\.\w+\(\s*\"([A-Z0-9_]+)\"", (ROOT / "ds01portal" / "settings.py").read_text()
        )
    )
)
EXAMPLE = ROOT / ".env.example"
EXAMPLE_LINE = re.compile(r"#?(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)")


def documentation() -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))


def options_of(path: Path) -> list[str]:
    """Return the long options and positional names that a command's own source adds."""
    tree = ast.parse(path.read_text())
    return [
        str(call.args[0].value)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in ("parser.add_argument", "add")
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and str(call.args[0].value).startswith("--")
    ]


def example_lines() -> list[str]:
    return EXAMPLE.read_text().splitlines()


def test_the_source_was_found():
    assert len(COMMANDS) >= 15
    assert {"DEBUG", "SECRET_KEY", "DATABASE_URL", "DS01_GPUS"} <= set(SETTINGS)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_every_command_has_a_test(path: Path):
    tests = (ROOT / path.relative_to(ROOT).parts[0] / "tests").rglob("test_*.py")

    assert any(f'"{path.stem}"' in test.read_text() for test in tests), (
        f"{path.stem} is run by no test of its app"
    )


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_every_command_and_option_is_documented(path: Path):
    text = documentation()

    assert re.search(rf"\b{path.stem}\b", text), f"docs/ does not mention {path.stem}"
    missing = [option for option in options_of(path) if option not in text]
    assert missing == [], f"docs/ does not mention options of {path.stem}"


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_every_command_has_help_and_json_and_asks_nothing(path: Path):
    source = path.read_text()

    assert re.search(r"^    help = ", source, re.M)
    assert "input(" not in source.replace("read_input(", "")
    assert "getpass" not in source
    assert re.search(r"class Command\((Portal|Container|Verb)Command\)", source)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_explained_in_the_example(name: str):
    lines = example_lines()
    places = [n for n, line in enumerate(lines) if re.match(rf"#?{name}=", line)]

    assert len(places) == 1, f"{name} stands {len(places)} times in .env.example"
    above = places[0] - 1
    while EXAMPLE_LINE.fullmatch(lines[above]):
        above -= 1  # settings that are explained together
    assert lines[above].startswith("# "), f"{name} is not explained"


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_documented(name: str):
    assert re.search(rf"\b{name}\b", documentation()), f"docs/ does not mention {name}"


def test_the_example_names_no_setting_that_does_not_exist():
    named = {match["name"] for line in example_lines() if (match := EXAMPLE_LINE.fullmatch(line))}

    assert named == set(SETTINGS)


def test_the_example_as_it_is_sets_nothing_and_can_be_read(tmp_path, monkeypatch):
    values: dict[str, str] = {}
    monkeypatch.setattr(environ.Env, "ENVIRON", values)
    whole = tmp_path / "env"
    whole.write_text(EXAMPLE.read_text())
    environ.Env.read_env(whole)
    assert values == {}

    whole.write_text(re.sub(r"^#(?=[A-Z][A-Z0-9_]*=)", "", EXAMPLE.read_text(), flags=re.M))
    environ.Env.read_env(whole)
    assert set(values) == set(SETTINGS)


@pytest.mark.parametrize("app", APPS)
def test_docker_and_nvml_have_one_door_each(app: str):
    doors = {"docker": "ds01portal/engine/dockerd", "pynvml": "workspaces/gpus/nvml.py"}
    for path in (ROOT / app).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if "/tests/" in name:
            continue
        for module in imported_modules(path):
            door = doors.get(module.partition(".")[0])
            assert door is None or name.startswith(door), f"{name} imports {module}"


def imported_modules(path: Path) -> list[str]:
    """Return the modules imported absolutely anywhere in a file."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append(node.module)
    return found


def own_modules() -> list[Path]:
    """Return the modules that run in production."""
    found = [path for app in APPS for path in (ROOT / app).rglob("*.py")]
    return [path for path in found if not {"tests", "migrations"} & set(path.parts)]


def test_no_module_is_longer_than_300_lines():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for path in own_modules()
    }

    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_functions_are_short():
    lengths = {
        f"{path.relative_to(ROOT).as_posix()}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in own_modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: length for name, length in lengths.items() if length > 60} == {}
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) * 9 // 10] <= 30


@pytest.mark.parametrize("app", APPS)
def test_every_module_says_what_it_is(app: str):
    for path in (ROOT / app).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text())
        if tree.body and "/migrations/" not in name:
            assert ast.get_docstring(tree), f"{name} has no docstring"
