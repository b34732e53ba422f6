"""Nothing a person types escapes its place: in the file for pip, the shell, the Dockerfile.

Whatever Hypothesis writes is either refused or arrives byte by byte where it belongs. Docker's and
pip's rules are written anew here, so that one mistake does not hide the other; the shell is real.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.recipes import shell
from catalog.recipes.content import RecipeContent, content_problems
from catalog.recipes.dockerfile import write_dockerfile
from catalog.recipes.environments import read_environment
from catalog.recipes.masking import MAX_LINE, Masker
from catalog.recipes.names import canonical_name, check_image_name, suggest_image_name
from catalog.recipes.plan import BaseFacts, PackageLists, Plan, PlanPolicy, Step, make_plan
from catalog.recipes.projects import read_project
from catalog.recipes.requirements import parse_requirements
from catalog.recipes.texts import split_lines
from catalog.references import parse_reference
from catalog.tests import docker_rules
from catalog.tests import recipe_writers as write
from ds01portal.exceptions import InvalidInput

CALL = "\x1d"  # before every call of a stub; no accepted text has it
FACTS = BaseFacts(reference="lab/base:1", packages={"numpy": "1.26.4"}, framework="A, B")


def many(examples: int) -> settings:
    """Return settings for a number of examples, the same ones at every run."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def mend(content: dict[str, Any]) -> RecipeContent:
    """Take out what is refused until the rest is accepted."""
    content = {**content, "requirements": accepted_part(content["requirements"])}
    for _ in range(40):
        problems = content_problems(content)
        if not problems:
            return RecipeContent.from_dict(content)
        for problem in problems:
            content = without(content, problem)
    raise AssertionError(problems)


def without(content: dict[str, Any], problem: InvalidInput) -> dict[str, Any]:
    field = problem.fields["field"]
    if field.startswith("environment."):
        kept = {
            name: value
            for name, value in content["environment"].items()
            if not content_problems_of(name, value)
        }
        return {**content, "environment": kept}
    if field == "jupyter.packages":
        packages = list(content["jupyter"]["packages"])
        packages.pop(min(problem.fields["index"], len(packages) - 1))
        return {**content, "jupyter": {"choice": "own", "packages": packages}}
    items = list(content[field])
    items.pop(min(problem.fields["index"], len(items) - 1))
    return {**content, field: items}


def content_problems_of(name: str, value: str) -> list[InvalidInput]:
    return content_problems({"base": {"framework": "pytorch"}, "environment": {name: value}})


def accepted_part(text: str) -> str:
    """Return the lines of a requirements text without those that are refused."""
    for _ in range(20):
        problems = parse_requirements(text).problems
        if not problems:
            return text
        gone = {n for p in problems for n in range(p.number, max(p.number, p.last_number) + 1)}
        rows = split_lines(text)
        text = "\n".join(row for number, row in enumerate(rows, start=1) if number not in gone)
    raise AssertionError(problems)


def plan_of(content: RecipeContent) -> Plan:
    return make_plan(
        content,
        name="thesis",
        owner_uid=200001,
        base=FACTS,
        lists=PackageLists(),
        policy=PlanPolicy(allow_post_install=True),
    )


def pip_reads(text: str) -> list[str]:
    """Return the lines that pip makes of a file: splitlines, join, drop comments and blanks."""
    logical: list[str] = []
    parts: list[str] = []
    for line in text.splitlines():
        is_comment = re.match(r"(^|\s+)#.*$", line)
        if line.endswith("\\") and not is_comment:
            parts.append(line.strip("\\"))
            continue
        logical.append("".join([*parts, f" {line}" if is_comment else line]))
        parts = []
    if parts:
        logical.append("".join(parts))
    stripped = (re.sub(r"(^|\s+)#.*$", "", line).strip() for line in logical)
    return [line for line in stripped if line]


def bare(line: str) -> str:
    return "".join(line.split()).lower()


@many(700)
@given(write.requirement_documents)
def test_every_line_of_a_requirements_text_is_accounted_for_once(text):
    parsed = parse_requirements(text)

    covered = [n for line in parsed.lines for n in range(line.number, line.last_number + 1)]
    covered += [n for note in parsed.notes for n in range(note.number, note.last_number + 1)]
    covered += parsed.blank
    refused = {n for p in parsed.problems for n in range(p.number, p.last_number + 1)}
    assert sorted([*covered, *refused]) == list(range(1, len(split_lines(text)) + 1))
    assert all(problem.hint for problem in parsed.problems)


@many(350)
@given(write.requirement_documents)
def test_pip_reads_from_the_file_exactly_what_was_accepted(text):
    accepted = accepted_part(text)
    parsed = parse_requirements(accepted)

    written = "\n".join(line.text for line in parsed.lines)
    expected = []
    for line in parsed.lines:
        if line.requirement is not None:
            code = re.sub(r"(^|\s+)#.*$", "", line.text).strip()
            expected.append(code)
            words = code.split(" ")
            options = next((i for i, w in enumerate(words) if w.startswith("-")), len(words))
            assert canonical_name(line.requirement.name) == line.name
            assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", w) for w in words[options:])
        elif not line.is_comment:
            assert line.text in ("--pre", "--only-binary :all:", "--prefer-binary")
            expected.append(line.text)
    assert pip_reads(written) == expected
    if not parsed.notes:  # pip would have read the typed text in the same way
        typed = pip_reads(accepted.removeprefix("\ufeff"))
        assert [bare(line) for line in typed] == [bare(line) for line in expected]
    # Read again it means the same.
    assert [x.text for x in parse_requirements(written).lines] == [x.text for x in parsed.lines]


@many(600)
@given(write.contents)
def test_a_dockerfile_has_the_expected_instructions_and_no_others(data):
    content = mend(data)
    plan = plan_of(content)

    text = write_dockerfile(plan)

    assert docker_rules.read_directives(text) == {}
    assert text.startswith("# DS01 Portal")
    assert "," not in "".join(plan.labels.values())
    found = docker_rules.read_instructions(text)
    continued = "     "  # the blank before the backslash, and the indent
    assert found == [
        ("FROM", "lab/base:1"),
        ("USER", "0"),
        ("WORKDIR", "/workspace"),
        *(("RUN", continued.join(step.parts)) for step in plan.steps),
        *(("ENV", rest) for word, rest in found if word == "ENV"),
        *(("LABEL", rest) for word, rest in found if word == "LABEL"),
        ("HEALTHCHECK", "NONE"),
        ("ENTRYPOINT", "[]"),
        ("CMD", '["/bin/bash"]'),
    ]
    environment = dict(docker_rules.read_pair(rest) for word, rest in found if word == "ENV")
    assert environment == dict(plan.environment)
    assert content.environment.items() <= environment.items()
    labels = dict(docker_rules.read_pair(rest) for word, rest in found if word == "LABEL")
    assert labels == dict(plan.labels)


@many(100)
@given(write.contents)
def test_the_same_recipe_gives_the_same_bytes(data):
    content = mend(data)

    again = RecipeContent.from_dict(content.as_dict())

    assert again == content
    assert again.as_dict() == content.as_dict()
    assert write_dockerfile(plan_of(again)).encode() == write_dockerfile(plan_of(content)).encode()


@many(400)
@given(
    st.dictionaries(
        st.from_regex(r"X[A-Z_]{0,5}", fullmatch=True), write.printable_text, max_size=3
    )
)
def test_values_come_out_of_docker_as_they_were_typed(environment):
    plan = Plan(name="x", base_reference="a", environment=environment, labels=environment)

    found = docker_rules.read_instructions(write_dockerfile(plan))

    for kind in ("ENV", "LABEL"):
        pairs = [docker_rules.read_pair(rest) for word, rest in found if word == kind]
        assert dict(pairs) == environment


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that only write down how they were called; nothing else can be found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("python3", "apt-get", "rm", "stub-sh", "touch", "id"):
        stub = folder / name
        stub.write_text(f"#!/bin/sh\nprintf '%s\\0' '{CALL}' {name} \"$@\" >> {tmp_path}/calls\n")
        stub.chmod(0o755)
    (tmp_path / "cwd").mkdir()
    monkeypatch.setattr(shell, "REQUIREMENTS_FILE", str(tmp_path / "requirements.txt"))
    return tmp_path


def run_step(step: Step, stubs: Path) -> list[list[str]]:
    """Run a step under the real shell; return the calls of the stubs."""
    calls = stubs / "calls"
    calls.unlink(missing_ok=True)
    # A person's own lines are shell by purpose: here they are only looked at.
    command = "; ".join(
        part.replace("/bin/sh -ec", "stub-sh -ec", 1).removesuffix(";") for part in step.parts
    )
    ended = subprocess.run(
        ["/bin/sh", "-c", command if step.kind == "post_install" else step.command],
        cwd=stubs / "cwd",
        env={"PATH": str(stubs / "bin")},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert list((stubs / "cwd").iterdir()) == []
    called: list[list[str]] = []
    for word in calls.read_bytes().decode().split("\0")[:-1]:
        if word == CALL:
            called.append([])
        else:
            called[-1].append(word)
    return called


def test_a_real_shell_does_nothing_but_the_steps(stubs):
    @many(200)
    @given(write.contents)
    def check(data):
        content = mend(data)
        for step in plan_of(content).steps:
            called = run_step(step, stubs)
            if step.kind == "apt":
                install = ["install", "-y", "--no-install-recommends", *content.apt]
                assert called[:2] == [["apt-get", "update"], ["apt-get", *install]]
                assert [call[0] for call in called[2:]] == ["rm"]
            elif step.kind == "post_install":
                assert called == [["stub-sh", "-ec", line] for line in content.post_install]
            else:
                check_pip_step(step, called, content)

    def check_pip_step(step, called, content):
        path = shell.REQUIREMENTS_FILE
        assert [call[0] for call in called] == ["python3", "rm"]
        assert called[0][1:4] == ["-m", "pip", "install"]
        assert called[0][-2:] == ["-r", path]
        assert called[1][1:] in (["-f", path], ["-f", path, shell.CONSTRAINTS_FILE])
        written = Path(path).read_bytes().decode().split("\n")[:-1]
        if step.kind == "requirements":
            allowed = [line.text for line in parse_requirements(content.requirements).lines]
        else:
            allowed = [" ".join(text.split()) if "'" not in text and '"' not in text
                       else text.strip() for text in content.jupyter.packages]  # fmt: skip
        missing = [text for text in allowed if text not in written]
        assert [text for text in allowed if text in written] == written
        assert len(missing) <= len(plan_of(content).left_out)

    check()


def test_words_for_the_shell_arrive_whole(stubs):
    @many(100)
    @given(st.lists(write.printable_text, min_size=1, max_size=40))
    def check(lines):
        step = Step(title="x", parts=shell.pip_step(lines))
        run_step(step, stubs)
        assert (
            Path(shell.REQUIREMENTS_FILE).read_bytes()
            == "".join(f"{line}\n" for line in lines).encode()
        )

    check()


@many(250)
@given(st.one_of(write.json_values, st.dictionaries(
    st.sampled_from(["base", "jupyter", "apt", "environment", "requirements", "post_install",
                     "use_case", "use_case_packages", "fresh", "data_science"]),
    write.json_values, max_size=4)))  # fmt: skip
def test_any_json_is_read_or_refused_with_fields(data):
    problems = content_problems(data)

    assert problems, "no such data names a base"
    for problem in problems:
        assert isinstance(problem, InvalidInput)
        assert isinstance(problem.fields["field"], str)
        assert problem.message.isprintable()
    with pytest.raises(InvalidInput):
        RecipeContent.from_dict(data)


@many(250)
@given(write.nasty_text)
def test_a_suggested_name_is_always_a_good_one(text):
    suggestion = suggest_image_name(text)

    if suggestion:
        assert check_image_name(suggestion) == suggestion
        assert suggest_image_name(suggestion) == suggestion
        assert str(parse_reference(f"ds01-200001/{suggestion}:3")).endswith(f"/{suggestion}:3")


@many(250)
@given(
    st.text("ab'\"$ \\;=:/@\x1b[0m\n", min_size=4, max_size=12), write.nasty_text, write.nasty_text
)
def test_no_secret_is_left_in_a_log(secret, before, after):
    masked = Masker([secret]).mask(f"{before}{secret}{after}")

    for part in (secret.strip(), *(line.strip() for line in secret.splitlines())):
        if len(part) >= 4 and part.isprintable():
            assert part not in masked
    assert not re.search(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]", masked)
    assert all(len(line) <= MAX_LINE for line in masked.split("\n"))


@many(200)
@given(
    write.nasty_text,
    st.sampled_from(["dependencies:\n  - ", "", "dependencies:\n  - pip:\n    - "]),
)
def test_any_file_is_imported_or_refused(text, start):
    for imported in (
        read_environment(start + text),
        read_project(text),
        read_project(f"[project]\ndependencies = ['''{text}''']"),
    ):
        for line in imported.requirements:
            assert not parse_requirements(line).problems
