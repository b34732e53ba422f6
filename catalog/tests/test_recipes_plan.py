"""From a recipe to its plan: order, what the base has, what two layers want, the Dockerfile."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from catalog.recipes.apt import check_apt_packages
from catalog.recipes.content import (
    EMPTY_CONTENT,
    Base,
    Layer,
    RecipeContent,
    content_problems,
)
from catalog.recipes.differences import compare_contents, compare_packages
from catalog.recipes.dockerfile import write_dockerfile
from catalog.recipes.plan import BaseFacts, PackageLists, Plan, PlanPolicy, make_plan
from catalog.recipes.requirements import PERMISSIVE
from catalog.recipes.variables import looks_secret
from ds01portal.exceptions import InvalidInput

LISTS = PackageLists(
    jupyter=("jupyterlab", "ipykernel"),
    data_science=("pandas", "scikit-learn"),
    use_cases={"ml": ("xgboost", "pandas"), "cv": ("timm",)},
    base=("numpy", "Torch"),
)
FACTS = BaseFacts(
    reference="aimehub/pytorch-2.7.1-cuda12.6.3",
    packages={"torch": "2.7.1+cu126", "numpy": "1.26.4", "scikit-learn": "", "ipykernel": "6.29"},
    framework="PyTorch",
    version="2.7.1",
)


def plan_for(facts: BaseFacts = FACTS, allow: bool = True, **fields: Any) -> Plan:
    content = RecipeContent.from_dict({"base": {"framework": "pytorch"}, **fields})
    return make_plan(
        content,
        name="thesis",
        owner_uid=200001,
        base=facts,
        lists=LISTS,
        policy=PlanPolicy(allow_post_install=allow),
    )


def wanted(plan: Plan, kind: str) -> list[str]:
    (step,) = [step for step in plan.steps if step.kind == kind]
    end = next(place for place, part in enumerate(step.parts) if part.startswith("> "))
    return [part.strip("'") for part in step.parts[2:end]]


def test_steps_come_in_the_order_that_keeps_the_cache():
    plan = plan_for(
        apt=["git"],
        jupyter={"choice": "default"},
        data_science={"choice": "own", "packages": ["polars"]},
        use_case="cv",
        requirements="requests\n",
        post_install=["echo hello"],
    )

    assert [step.title for step in plan.steps] == [
        "System packages",
        "Jupyter",
        "Data science",
        "Use case cv",
        "Own packages",
        "Post-install",
    ]
    assert plan.base_reference == FACTS.reference
    assert all("\n" not in step.command for step in plan.steps)


def test_an_empty_recipe_has_no_steps_and_still_an_image():
    plan = make_plan(
        EMPTY_CONTENT, name="x", owner_uid=1, base=FACTS, lists=LISTS, policy=PlanPolicy()
    )

    assert plan.steps == ()
    assert write_dockerfile(plan).count("FROM ") == 1


def test_what_the_base_has_is_left_out_when_it_will_do():
    plan = plan_for(
        jupyter={"choice": "default"},
        data_science={"choice": "default"},
        requirements="torch>=2.0,<3\nNumPy\nnumpydoc\n",
    )

    reasons = {left.name: left.reason for left in plan.left_out}
    assert reasons == {
        "ipykernel": "the base has ipykernel 6.29",
        "scikit-learn": "the base has it",
        "torch": "the base has torch 2.7.1+cu126",
        "numpy": "the base has numpy 1.26.4",
    }
    assert wanted(plan, "jupyter") == ["jupyterlab"]
    assert wanted(plan, "requirements") == ["numpydoc"]


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("torch<2.5", "“torch<2.5” replaces torch 2.7.1+cu126 of the base."),
        ("scikit-learn>=1.4", "“scikit-learn>=1.4” may replace scikit-learn of the base."),
        ("numpy[extra]<2", ""),
        ("numpy[extra]>=2", "“numpy[extra]>=2” replaces numpy 1.26.4 of the base."),
    ],
)
def test_what_replaces_the_bases_version_is_kept_with_a_warning(line, note):
    plan = plan_for(requirements=f"# mine\n{line}\n")

    assert wanted(plan, "requirements") == ["# mine", line]
    assert [(n.text, n.line) for n in plan.notes] == ([(note, 2)] if note else [])


def test_an_odd_version_of_the_base_satisfies_nothing():
    facts = BaseFacts(reference="lab/x:1", packages={"odd": "1.0-ubuntu~3"})

    plan = plan_for(facts, requirements="odd[a]>=1\n")

    assert wanted(plan, "requirements") == ["odd[a]>=1"]
    assert plan.notes[0].text == "“odd[a]>=1” replaces odd 1.0-ubuntu~3 of the base."
    assert plan_for(facts, requirements="odd>=1\n").left_out == ()
    assert plan_for(facts, requirements="odd\n").left_out[0].name == "odd"


def test_an_admins_pattern_decides_about_system_packages():
    problems = check_apt_packages(["git=1:2.39", "nmap"], pattern="git|lib.*")

    assert [(p.fields["index"], "does not allow" in p.message) for p in problems] == [(1, True)]
    assert len(check_apt_packages(["git"] * 201)) == 1
    with pytest.raises(re.error):
        check_apt_packages(["git"], pattern="(")


def test_without_facts_the_admins_list_of_a_catalogue_base_counts():
    unknown = BaseFacts(reference="aimehub/x")

    guess = plan_for(unknown, requirements="torch\nrequests\n")
    assert [left.reason for left in guess.left_out] == ["such a base usually has it"]
    other = {"kind": "reference", "reference": "lab/x:1"}
    assert plan_for(unknown, base=other, requirements="torch\n").left_out == ()


def test_one_package_is_installed_once_and_ones_own_words_count():
    plan = plan_for(
        data_science={"choice": "default"}, use_case="ml", requirements="pandas<3  # old tables\n"
    )

    assert wanted(plan, "use_case") == ["xgboost"]
    assert wanted(plan, "requirements") == ["pandas<3  # old tables"]
    assert {(left.name, left.step, left.kept_by) for left in plan.left_out} == {
        ("pandas", "data_science", "requirements"),
        ("pandas", "use_case", "requirements"),
        ("scikit-learn", "data_science", ""),
    }
    assert "data_science" not in {step.kind for step in plan.steps}


def test_two_of_ones_own_wishes_that_differ_are_warned_about():
    plan = plan_for(
        jupyter={"choice": "own", "packages": ["notebook<7"]}, requirements="notebook>=7\n"
    )

    assert [step.kind for step in plan.steps] == ["requirements"]
    assert plan.notes[0].text == (
        "Jupyter asks for “notebook<7”, Own packages for “notebook>=7”: the latter counts."
    )


def test_a_line_for_some_environments_does_not_replace_a_list():
    plan = plan_for(use_case="cv", requirements="timm<1; python_version < '3.8'\n")

    assert [step.kind for step in plan.steps] == ["use_case", "requirements"]


def test_labels_have_no_comma_and_variables_their_defaults():
    facts = BaseFacts(reference="lab/x:1", framework="Torch, really", version="1,2")
    plan = plan_for(facts, environment={"PYTHONUNBUFFERED": "0", "API_TOKEN": "x"})

    assert plan.labels == {
        "aime.mlc.DS01_RECIPE": "thesis",
        "aime.mlc.DS01_OWNER_UID": "200001",
        "aime.mlc.DS01_BASE": "lab/x:1",
        "aime.mlc.DS01_FRAMEWORK": "Torch; really",
        "aime.mlc.DS01_FRAMEWORK_VERSION": "1;2",
    }
    assert list(plan.environment.items()) == [
        ("API_TOKEN", "x"),
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
        ("PYTHONUNBUFFERED", "0"),
    ]
    assert [note.field for note in plan.notes] == ["environment.API_TOKEN"]
    assert not looks_secret("KEYBOARD") and looks_secret("openaiApiKey")


def test_the_policy_decides_about_lines_of_shell_and_addresses():
    with pytest.raises(InvalidInput, match="not allowed for you"):
        plan_for(allow=False, post_install=["echo"])

    stored = {"base": {"framework": "x"}, "requirements": "a\nb @ https://example.org/b.whl\n"}
    with pytest.raises(InvalidInput) as refused:
        make_plan(
            RecipeContent.from_stored(stored),
            name="x",
            owner_uid=1,
            base=FACTS,
            lists=LISTS,
            policy=PlanPolicy(),
        )
    assert refused.value.fields["line"] == 2
    assert not content_problems(stored, policy=PERMISSIVE)


def test_an_unknown_use_case_and_a_bad_list_are_refused():
    with pytest.raises(InvalidInput, match="no use case “nlp”"):
        plan_for(use_case="nlp")
    with pytest.raises(InvalidInput) as refused:
        make_plan(
            RecipeContent(use_case="x"),
            name="x",
            owner_uid=1,
            base=FACTS,
            lists=PackageLists(use_cases={"x": ("a; b",)}),
            policy=PlanPolicy(),
        )
    assert "Ask an admin" in refused.value.hint


def test_a_step_that_no_shell_could_take_is_refused():
    with pytest.raises(InvalidInput, match="too long"):
        plan_for(requirements="numpydoc\n" + ("# " + "'" * 998 + "\n") * 60)


def test_the_dockerfile_reads_like_one():
    text = write_dockerfile(
        plan_for(
            requirements="torch>=2.0,<3\nrequests>=2,<3\n", apt=["git"], environment={"A": 'x $B "'}
        )
    )

    assert text.startswith(
        "# DS01 Portal: custom image “thesis”\n"
        "# Written from a recipe: change the recipe, not this file.\n"
        "\n"
        "FROM aimehub/pytorch-2.7.1-cuda12.6.3\n"
        "USER 0\n"
        "WORKDIR /workspace\n"
        "\n"
        "# Left out, the base has them: torch\n"
    )
    assert "    printf '%s\\n' \\\n    'requests>=2,<3' \\\n    > /tmp/ds01-requirements" in text
    assert 'ENV A="x \\$B \\""\n' in text
    assert text.endswith('HEALTHCHECK NONE\nENTRYPOINT []\nCMD ["/bin/bash"]\n')
    for name in ("PIP_INDEX_URL", "PROXY", "token", "jupyter lab"):
        assert name not in text


def test_all_problems_are_told_at_once_in_the_order_of_the_form():
    problems = content_problems(
        {
            "base": {"kind": "reference", "reference": "A"},
            "jupyter": {"choice": "own", "packages": ["ok", "not ok"]},
            "requirements": "fine\n-r x\n./y\n",
            "apt": ["GIT"],
            "environment": {"PATH": "/"},
            "post_install": ["a\nb"],
        }
    )

    assert [(p.fields["field"], p.fields.get("index"), p.fields.get("line")) for p in problems] == [
        ("base.reference", None, None),
        ("jupyter.packages", 1, None),
        ("requirements", None, 2),
        ("requirements", None, 3),
        ("apt", 0, None),
        ("environment.PATH", None, None),
        ("post_install", 0, None),
    ]


def test_a_content_is_stored_in_one_form():
    content = RecipeContent.from_dict(
        {
            "base": {"kind": "custom", "image": "alice/thesis:3", "reference": ""},
            "apt": ["git", "git"],
            "environment": {"B": "2", "A": "1"},
            "post_install": ["  echo a", ""],
            "fresh": True,
        }
    )

    assert content.as_dict() == {
        "base": {"kind": "custom", "image": "alice/thesis:3"},
        "jupyter": {"choice": "none", "packages": []},
        "data_science": {"choice": "none", "packages": []},
        "use_case": "",
        "use_case_packages": [],
        "requirements": "",
        "apt": ["git"],
        "environment": {"A": "1", "B": "2"},
        "post_install": ["echo a"],
        "fresh": True,
    }
    assert RecipeContent.from_dict(EMPTY_CONTENT.as_dict()) == EMPTY_CONTENT


def test_packages_are_compared_by_folded_names():
    difference = compare_packages(
        {"Foo_Bar": "1", "gone": "1", "same": "2", "unknown": ""},
        {"foo-bar": "2", "new": "3", "same": "2", "unknown": "4"},
    )

    assert difference.added == {"new": "3"}
    assert difference.removed == {"gone": "1"}
    assert difference.changed == {"foo-bar": ("1", "2")}
    assert compare_packages({}, {}).is_empty


def test_what_changed_between_two_recipes_reads_in_lines():
    before = RecipeContent(requirements="a\nb\n", apt=("git",), environment={"A": "secret"})
    after = RecipeContent(
        base=Base(kind="reference", reference="lab/x:1"),
        jupyter=Layer(choice="own", packages=("notebook",)),
        use_case="ml",
        requirements="a\nc\n",
        environment={"A": "other", "B": "1"},
        post_install=("echo",),
        fresh=True,
    )

    assert compare_contents(before, after) == (
        "Base: pytorch newest → lab/x:1",
        "Jupyter: none → own",
        "Jupyter packages: + notebook",
        "Use case: none → ml",
        "Requirements: − b",
        "Requirements: + c",
        "System packages: − git",
        "Variables: + B",
        "Variables: A changed",
        "Post-install: + echo",
        "Built without the cache",
    )
    assert compare_contents(after, after) == ()


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    """A distribution's sources in both notations, and an apt-get that shows how it was called."""
    parts = tmp_path / "etc" / "sources.list.d"
    parts.mkdir(parents=True)
    (tmp_path / "etc" / "sources.list").write_text(
        "deb http://archive.example.org/ubuntu/ jammy main\n"
        "deb [arch=amd64] https://security.example.org/ubuntu jammy-security main\n"
        "deb https://other.example.org/ubuntu/22.04/prod jammy main\n"
        "deb https://vendor.example.org/compute/cuda/repos/ubuntu2204/x86_64 /\n"
    )
    (parts / "debian.sources").write_text(
        "Types: deb\nURIs: http://deb.example.org/debian-security\nSuites: bookworm-security\n"
    )
    stub = '#!/bin/sh\nprintf "%s " "$0" "$@" >> calls\necho >> calls\n'
    (tmp_path / "bin").mkdir()
    for name in ("apt-get", "rm"):
        (tmp_path / "bin" / name).write_text(stub)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def run_apt_step(root: Path, mirror: str) -> list[str]:
    """Run the step of one package with its folders moved below `root`; return the calls."""
    (step,) = plan_for(apt=["git"]).steps
    command = step.command.replace("/etc/apt", f"{root}/etc").replace("/tmp/ds01-apt", f"{root}/c")
    ended = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=root,
        env={"PATH": f"{root}/bin:/usr/bin:/bin", "DS01_APT_MIRROR": mirror},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    return [line.split("/bin/")[-1] for line in (root / "calls").read_text().splitlines()]


def test_system_packages_come_from_the_sites_mirror(distribution):
    calls = run_apt_step(distribution, "https://mirror.example.net/all/")

    where = (
        f"-o Dir::Etc::SourceList={distribution}/c/main.list"
        f" -o Dir::Etc::SourceParts={distribution}/c/parts"
    )
    assert calls[0].strip() == f"apt-get {where} update"
    assert calls[1].strip() == f"apt-get {where} install -y --no-install-recommends git"
    assert calls[2].startswith("rm -rf")
    assert (distribution / "c" / "main.list").read_text() == (
        "deb https://mirror.example.net/all/ubuntu/ jammy main\n"
        "deb [arch=amd64] https://mirror.example.net/all/ubuntu/ jammy-security main\n"
        "deb https://other.example.org/ubuntu/22.04/prod jammy main\n"
        "deb https://vendor.example.org/compute/cuda/repos/ubuntu2204/x86_64 /\n"
    )
    assert "URIs: https://mirror.example.net/all/debian-security/\n" in (
        (distribution / "c" / "parts" / "debian.sources").read_text()
    )
    # The image's own sources stay as they are.
    assert "archive.example.org" in (distribution / "etc" / "sources.list").read_text()


def test_without_a_mirror_the_bases_sources_are_used(distribution):
    calls = run_apt_step(distribution, "")

    assert calls[0].strip() == "apt-get update"
    assert not (distribution / "c").exists()


def test_later_steps_move_nothing_that_was_asked_for_before():
    """A dependency would otherwise take another version of what is there already."""
    facts = BaseFacts(
        reference="lab/base:1", image_id="", packages={"torch": "2.7.1"}, framework="", version=""
    )
    plan = plan_for(
        facts,
        jupyter={"choice": "own", "packages": ["notebook<7", "ipykernel"]},
        requirements="torch>=2,<3\nmytools\n",
    )

    jupyter, own = plan.steps
    assert "-c " not in jupyter.command
    assert "'notebook<7' 'torch<3,>=2' > /tmp/ds01-constraints.txt" in own.command
    assert "-c /tmp/ds01-constraints.txt -r /tmp/ds01-requirements.txt" in own.command
    assert own.command.endswith("rm -f /tmp/ds01-requirements.txt /tmp/ds01-constraints.txt")


def test_hashes_go_without_constraints():
    digest = "a" * 64
    plan = plan_for(
        jupyter={"choice": "own", "packages": ["notebook<7"]},
        requirements=f"mytools==1 --hash=sha256:{digest}\n",
    )

    assert "-c " not in plan.steps[-1].command
