"""A look at a recipe: everything at once, with its place; bases that are what they say."""

from __future__ import annotations

import pytest
from django.utils import timezone

from catalog.models import BuildPolicy, Image, ImagePackages, PackageList, Recipe
from catalog.recipes.content import Base
from catalog.services.engine_facts import record_engine_facts
from catalog.services.recipe_checks import check_recipe, ensure_buildable, resolve_base
from catalog.services.recipe_findings import RecipeCheck
from catalog.tests.recipe_players import (
    BASE_REFERENCE,
    MIB,
    make_recipe,
    make_version,
    on_custom,
    on_reference,
    write_content,
)
from ds01portal.exceptions import (
    EngineUnreachable,
    ImageRefused,
    InvalidInput,
    NotFound,
    PolicyRefused,
    QuotaExceeded,
    RefusedError,
)
from ds01portal.models import Quota
from ds01portal.services.quotas import set_limits

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def machine(settings, catalogue, fake_engine):
    settings.MLC_ARCH = "CUDA_ADA"


def set_policy(**values) -> None:
    BuildPolicy.objects.update_or_create(pk=1, defaults=values)


def look(owner, content, name="thesis", recipe=None) -> RecipeCheck:
    return check_recipe(content=content, name=name, owner=owner, recipe=recipe)


def refused(check: RecipeCheck) -> list[tuple[str, int]]:
    return [(one.field, one.line) for one in check.findings if one.level == "refused"]


def warned(check: RecipeCheck) -> dict[str, str]:
    return {one.field: one.message for one in check.findings if one.level == "warning"}


def test_a_good_recipe_has_a_plan_and_a_dockerfile_and_nothing_against_it(alice):
    check = look(alice, write_content(requirements="einops>=0.7,<1\n", apt=["git"]))

    assert check.refusals == []
    assert [step.kind for step in check.plan.steps] == ["apt", "requirements"]
    assert f"FROM {BASE_REFERENCE}\n" in check.dockerfile
    assert "einops>=0.7,<1" in check.dockerfile
    assert check.as_dict()["allowed"] is True
    assert check.dockerfile == look(alice, check.content.as_dict()).dockerfile


def test_everything_wrong_is_said_at_once_with_field_and_line(alice):
    content = {
        "base": {"kind": "catalog", "framework": "alpha", "version": "9.9"},
        "requirements": "# mine\nnumpy\n-e .\ntorch=2\n",
        "apt": ["git", "rm -rf"],
        "environment": {"LD_PRELOAD": "x"},
        "use_case": "",
    }

    check = look(alice, content, name="Thesis!")

    assert refused(check) == [
        ("name", 0),
        ("base", 0),
        ("requirements", 3),
        ("requirements", 4),
        ("apt", 0),
        ("environment.LD_PRELOAD", 0),
    ]
    assert check.content is None
    assert check.plan is None
    assert check.dockerfile == ""


def test_what_policy_forbids_is_said_beside_a_base_that_is_wrong(alice):
    content = write_content(post_install=["make"], use_case="alchemy")
    content["base"]["version"] = "9.9"

    check = look(alice, content)

    assert refused(check) == [("base", 0), ("post_install", 0), ("use_case", 0)]
    assert "2.1.0-extra, 2.1.0" in check.findings[1].hint
    assert isinstance(check.refusals[1], PolicyRefused)


@pytest.mark.parametrize("content", [{}, {"base": None}, {"base": "x"}, [], "text", None])
def test_a_recipe_that_is_none_is_refused_and_does_not_break(alice, content):
    check = look(alice, content)

    assert check.refusals
    assert check.plan is None


def test_the_admins_pattern_for_system_packages_holds(alice):
    set_policy(apt_pattern="git|lib.*")

    check = look(alice, write_content(apt=["git", "libgl1", "nmap", "gitk"]))

    assert [one.message.split("”")[0][1:] for one in check.findings if one.error] == [
        "nmap",
        "gitk",
    ]


def test_a_broken_pattern_allows_no_system_package(alice):
    set_policy(apt_pattern="(")

    assert refused(look(alice, write_content(apt=["git"]))) == [("apt", 0)]
    assert refused(look(alice, write_content())) == []


def test_what_is_allowed_by_policy_passes(alice):
    set_policy(allow_urls=True, post_install="everybody")
    content = write_content(
        requirements="x @ https://example.org/x-1-py3-none-any.whl", post_install=["echo hello"]
    )

    check = look(alice, content)

    assert check.refusals == []
    assert [step.kind for step in check.plan.steps] == ["requirements", "post_install"]


def test_a_kept_recipe_is_looked_at_by_the_rules_of_today(alice):
    content = write_content(requirements="x @ https://example.org/x-1-py3-none-any.whl")
    recipe = make_recipe(alice, content=content)

    with pytest.raises(InvalidInput) as error:
        ensure_buildable(recipe=recipe)

    assert error.value.fields["line"] == 1


def test_only_admins_write_shell_lines_unless_told_otherwise(alice, admin_person):
    content = write_content(post_install=["echo hello"])

    assert refused(look(alice, content)) == [("post_install", 0)]
    assert look(admin_person, content).refusals == []


def test_a_name_that_is_taken_or_malformed_is_refused(alice, bob):
    make_recipe(alice)
    make_recipe(alice, "gone", deleted_at=timezone.now())
    make_recipe(bob, "bobs")

    assert refused(look(alice, write_content())) == [("name", 0)]
    assert refused(look(alice, write_content(), name="bobs")) == []
    assert refused(look(alice, write_content(), name="gone")) == []
    assert refused(look(alice, write_content(), name="thеsis")) == [("name", 0)]  # Cyrillic
    assert refused(look(alice, write_content(), name="latest")) == [("name", 0)]


def test_a_recipes_own_name_is_free_for_itself(alice):
    recipe = make_recipe(alice)

    assert look(alice, write_content(), recipe=recipe).refusals == []


def test_the_number_of_images_is_limited_but_not_for_a_change(alice):
    recipe = make_recipe(alice)
    make_recipe(alice, "gone", deleted_at=timezone.now())
    set_limits(subject=alice, values={"images": 1}, actor=None)

    one_more = look(alice, write_content(), name="other")

    assert isinstance(one_more.refusals[0], QuotaExceeded)
    assert one_more.refusals[0].fields["used"] == 1
    assert look(alice, write_content(), recipe=recipe).refusals == []


def test_no_room_is_a_warning_not_a_fault_of_the_recipe(alice):
    recipe = make_recipe(alice)
    make_version(recipe)
    set_limits(subject=alice, values={"disk": 50 * MIB}, actor=None)

    check = look(alice, write_content(), recipe=recipe)

    assert check.refusals == []
    assert "50 MB" in warned(check)["disk"]


def test_what_the_base_has_is_left_out_when_it_is_known(alice, fake_engine):
    image_id = fake_engine.add_image(BASE_REFERENCE, 7 * 1024 * MIB)
    ImagePackages.objects.create(
        pk=image_id, pip={"scikit-learn": "1.5", "numpy": "1.26"}, read_at=timezone.now()
    )

    check = look(alice, write_content(requirements="Scikit_Learn\neinops\nnumpy<1\n"))

    assert [left.name for left in check.plan.left_out] == ["scikit-learn"]
    assert "replaces numpy 1.26" in warned(check)["requirements"]
    assert next(one.line for one in check.findings if one.level == "warning") == 3
    assert check.base.engine_image_id == image_id


def test_a_variable_that_looks_secret_is_warned_about_and_its_value_not_repeated(alice):
    check = look(alice, write_content(environment={"HF_TOKEN": "hf_abcdef"}))

    assert check.refusals == []
    assert "hf_abcdef" not in str([one.as_dict() for one in check.findings])
    assert "environment.HF_TOKEN" in warned(check)


# Estimates


def test_the_estimate_adds_base_lists_and_own_packages(alice, fake_engine):
    fake_engine.add_image(BASE_REFERENCE, 1000 * MIB)
    PackageList.objects.filter(key="rl").update(
        packages="gymnasium\nstable-baselines3", estimate_bytes=60 * MIB
    )
    content = write_content(
        use_case="rl",
        jupyter={"choice": "own", "packages": ["jupyterlab"]},
        requirements="# two\neinops\nrich\n",
        apt=["git", "vim"],
    )

    check = look(alice, content)

    assert check.estimate_bytes == (1000 + 60 + 3 * 30 + 2 * 15) * MIB
    words = next(one.message for one in check.findings if one.field == "estimate")
    assert "180 MB on top" in words
    assert "an estimate" in words


def test_what_is_left_out_is_not_estimated(alice, fake_engine):
    image_id = fake_engine.add_image(BASE_REFERENCE, 1000 * MIB)
    ImagePackages.objects.create(
        pk=image_id, pip={"gymnasium": "1", "rich": "13"}, read_at=timezone.now()
    )
    PackageList.objects.filter(key="rl").update(
        packages="gymnasium\nstable-baselines3", estimate_bytes=60 * MIB
    )

    check = look(alice, write_content(use_case="rl", requirements="einops\nrich\n"))

    assert check.estimate_bytes == (1000 + 30 + 30) * MIB


def test_a_base_that_is_not_here_has_an_unknown_size(alice):
    check = look(alice, write_content(requirements="einops"))

    assert check.estimate_bytes == 30 * MIB
    assert any("not known yet" in one.message for one in check.findings)


# Bases


def test_a_base_of_the_catalogue_is_that_of_a_launch(alice):
    newest = resolve_base(base=Base(framework="Alpha"), person=alice)
    other = resolve_base(base=Base(framework="ALPHA", architecture="CUDA_AMPERE"), person=alice)
    fallback = resolve_base(base=Base(framework="torch"), person=alice)

    assert newest.reference == "lab/alpha-2.1.0-extra-cuda12.6.3"
    assert (newest.framework, newest.version) == ("Alpha", "2.1.0-extra")
    assert other.reference == BASE_REFERENCE
    assert fallback.reference == "pytorch/pytorch:2.5.1-cuda12.1-runtime"
    assert fallback.image is None
    assert "The catalogue has none" in fallback.note


def test_a_base_that_vanished_from_the_catalogue_is_refused_with_what_there_is(alice):
    Image.objects.filter(reference=BASE_REFERENCE).update(
        retired_at=timezone.now(), retired_cause="vanished"
    )

    with pytest.raises(ImageRefused) as error:
        resolve_base(base=Base(framework="alpha", version="2.1.0"), person=alice)

    assert error.value.fields["available"] == ["2.1.0-extra"]


def test_a_custom_base_is_one_that_may_be_seen_and_is_here(alice, bob, fake_engine):
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)
    newest = make_version(recipe, fake_engine)

    own = resolve_base(base=Base(kind="custom", image="alice/thesis"), person=alice)
    older = resolve_base(base=Base(kind="custom", image="alice/thesis:1"), person=alice)
    with pytest.raises(NotFound):
        resolve_base(base=Base(kind="custom", image="alice/thesis"), person=bob)
    recipe.sharing = Recipe.Sharing.EVERYBODY
    recipe.save()
    shared = resolve_base(base=Base(kind="custom", image="alice/thesis:latest"), person=bob)

    assert own.image == newest
    assert own.engine_image_id == newest.engine_image_id
    assert older.reference == "ds01-200001/thesis:1"
    assert shared.reference == "ds01-200001/thesis:2"


def test_a_custom_base_that_has_no_version_or_is_gone_is_refused(alice, fake_engine):
    recipe = make_recipe(alice)
    base = Base(kind="custom", image="alice/thesis")

    with pytest.raises(NotFound, match="has no version yet"):
        resolve_base(base=base, person=alice)
    make_version(recipe)
    with pytest.raises(ImageRefused, match="not on this machine"):
        resolve_base(base=base, person=alice)
    image = make_version(recipe, fake_engine)
    fake_engine.remove_image("ds01-200001/thesis:latest")
    fake_engine.remove_image(image.reference)
    with pytest.raises(ImageRefused, match="not on this machine any more"):
        resolve_base(base=base, person=alice)
    with pytest.raises(NotFound) as missing:
        resolve_base(base=Base(kind="custom", image="alice/thesis:7"), person=alice)
    assert missing.value.hint == "There is: 2, 1."


PRIVATE_SPELLINGS = [
    "ds01-200001/thesis:1",
    "docker.io/ds01-200001/thesis:1",
    "index.docker.io/ds01-200001/thesis",
    "registry-1.docker.io/ds01-200001/thesis:latest",
    "ds01-200001/thesis:_unfinished",
    f"ds01-200001/thesis@sha256:{'0' * 64}",
]


@pytest.mark.parametrize("reference", PRIVATE_SPELLINGS)
def test_anothers_image_is_no_base_however_it_is_spelled(alice, bob, fake_engine, reference):
    set_policy(registries="*")
    make_version(make_recipe(alice), fake_engine)

    with pytest.raises(RefusedError) as error:
        resolve_base(base=Base(kind="reference", reference=reference), person=bob)

    assert isinstance(error.value, NotFound)


def test_a_reference_is_asked_for_by_tag_never_as_the_beginning_of_an_id(alice, fake_engine):
    set_policy(registries="*")
    image = make_version(make_recipe(alice), fake_engine)
    beginning = image.engine_image_id.removeprefix("sha256:")[:12]

    found = resolve_base(base=Base(kind="reference", reference=beginning), person=alice)

    assert found.reference == f"{beginning}:latest"
    assert found.engine_image_id == ""


def test_a_reference_needs_a_pattern_or_an_image_that_is_offered(alice, fake_engine):
    base = Base(kind="reference", reference="nvcr.io/nvidia/pytorch:24.05")
    with pytest.raises(PolicyRefused):
        resolve_base(base=base, person=alice)
    set_policy(registries="nvcr.io/nvidia/*")

    allowed = resolve_base(base=base, person=alice)

    assert allowed.reference == "nvcr.io/nvidia/pytorch:24.05"
    assert allowed.image is None
    assert allowed.size_bytes is None


def test_a_local_image_is_a_base_while_it_is_offered(alice, fake_engine, demo_image):
    base = Base(kind="reference", reference="ds01/demo-python:1")

    assert resolve_base(base=base, person=alice).image == demo_image
    Image.objects.filter(pk=demo_image.pk).update(visible=False)
    with pytest.raises(PolicyRefused):
        resolve_base(base=base, person=alice)


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_AUDIT"])
def test_a_base_that_loads_code_into_every_program_is_refused(alice, fake_engine, name):
    fake_engine.add_image(BASE_REFERENCE, environment={name: "/tmp/x.so", "PATH": "/bin"})

    check = look(alice, write_content())

    assert refused(check) == [("base", 0)]
    assert name in check.refusals[0].message


def test_an_engine_that_does_not_answer_is_a_warning(alice, fake_engine):
    fake_engine.faults.fail_next("inspect_image", EngineUnreachable("The engine is away."))
    recipe = make_recipe(alice, "below")
    Image.objects.filter(reference=BASE_REFERENCE).update(
        engine_image_id="sha256:known", size_bytes=5 * MIB
    )

    check = look(alice, write_content(), recipe=recipe, name="below")

    assert check.refusals == []
    assert "does not answer" in warned(check)["base"]
    assert (check.base.engine_image_id, check.base.size_bytes) == ("sha256:known", 5 * MIB)


# Circles


def test_a_recipe_cannot_stand_on_itself(alice, fake_engine):
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)

    for base in ("alice/thesis", "alice/thesis:1", "ds01-200001/thesis:1"):
        check = look(alice, on_custom(base), recipe=recipe)
        assert refused(check) == [("base", 0)]
        assert "itself" in check.refusals[0].message
    assert refused(look(alice, on_reference("ds01-200001/thesis:1"), recipe=recipe))
    assert look(alice, on_custom("alice/thesis"), name="other").refusals == []


def test_a_circle_through_others_is_refused_by_what_was_built_and_by_what_is_written(
    alice, bob, fake_engine
):
    thesis = make_recipe(alice, sharing=Recipe.Sharing.EVERYBODY)
    first = make_version(thesis, fake_engine)
    fork = make_recipe(
        bob, "fork", content=on_custom("alice/thesis"), sharing=Recipe.Sharing.EVERYBODY
    )
    make_version(fork, fake_engine, base_reference=first.reference)
    third = make_recipe(alice, "third", content=on_custom("bob/fork"))
    make_version(third, fake_engine)

    assert refused(look(alice, on_custom("bob/fork:1"), recipe=thesis)) == [("base", 0)]
    assert refused(look(alice, on_custom("alice/third"), recipe=thesis)) == [("base", 0)]
    # Written otherwise now, but the version that exists was built on it.
    fork.content = write_content()
    fork.save()
    assert refused(look(alice, on_custom("bob/fork"), recipe=thesis)) == [("base", 0)]


def test_images_that_stand_on_each_other_for_long_are_followed_to_the_end(alice, fake_engine):
    bottom = make_recipe(alice, "n0")
    below = make_version(bottom, fake_engine)
    for number in range(1, 12):
        recipe = make_recipe(alice, f"n{number}", content=on_custom(f"alice/n{number - 1}"))
        below = make_version(recipe, fake_engine, base_reference=below.reference)

    assert refused(look(alice, on_custom("alice/n11"), name="n0", recipe=bottom)) == [("base", 0)]
    assert look(alice, on_custom("alice/n11"), name="top").refusals == []


def test_without_limits_set_nothing_is_granted(alice):
    Quota.objects.all().update(images=None)

    assert isinstance(look(alice, write_content()).refusals[0], QuotaExceeded)


def test_admins_are_warned_of_known_ways_out_and_students_are_not(alice, admin_person, catalogue):
    record_engine_facts(root="/var/lib/docker", runc_version="1.1.5", toolkit_version="1.17.6")

    told = {
        person.username: [
            finding.message
            for finding in check_recipe(content=write_content(), name="x", owner=person).findings
            if finding.field == "machine"
        ]
        for person in (alice, admin_person)
    }

    assert told["alice"] == []
    assert any("CVE-2024-21626" in line for line in told["ada"])
    assert any("CVE-2025-23266" in line for line in told["ada"])
