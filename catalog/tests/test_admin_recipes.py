"""Admin of recipes, builds, package lists and the build policy: verbs, rules, history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from catalog.models import Build, BuildPolicy, Image, PackageList, Recipe
from catalog.services.builds import request_build
from catalog.tests.test_services_building import make_recipe
from ds01portal.engine.fake import FakeEngine
from ds01portal.models import Event, Operation, Person

POLICY = "/admin/catalog/buildpolicy/1/change/"
LISTS = "/admin/catalog/packagelist/"
RECIPES = "/admin/catalog/recipe/"
BUILDS = "/admin/catalog/build/"


@pytest.fixture
def recipe(alice: Person, fake_engine: FakeEngine, demo_image: Image) -> Recipe:
    """Alice's recipe on the demo image."""
    return make_recipe(alice)


def act(client: Client, page: str, action: str, *rows: Any) -> list[tuple[str, str]]:
    """Choose an action for rows; return the messages."""
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    response = client.post(page, data, follow=True)
    assert response.status_code == 200
    return [(message.level_tag, message.message) for message in response.context["messages"]]


def policy_form(client: Client, **changes: str) -> dict[str, Any]:
    """Return the policy's form as it is shown, with changes."""
    form = client.get(POLICY).context["adminform"].form
    shown = {name: form[name].value() for name in form.fields}
    return {name: value for name, value in {**shown, **changes}.items() if value not in (False,)}


def test_an_admin_builds_unshares_and_deletes(ada_client: Client, recipe: Recipe) -> None:
    Recipe.objects.filter(pk=recipe.pk).update(sharing=Recipe.Sharing.EVERYBODY)

    assert act(ada_client, RECIPES, "build_recipes", recipe) == [
        ("success", "thesis:1 will be built.")
    ]
    assert Operation.objects.filter(kind="build", actor__username="ada").count() == 1
    act(ada_client, RECIPES, "unshare_recipes", recipe)
    recipe.refresh_from_db()
    assert recipe.sharing == Recipe.Sharing.PRIVATE

    (told,) = act(ada_client, RECIPES, "delete_images", recipe)
    assert told[0] == "error"  # it is being built
    recipe.refresh_from_db()
    assert recipe.deleted_at is None


def test_an_admin_cancels_a_build_and_hears_when_it_has_ended(
    ada_client: Client, recipe: Recipe, run_due: Callable[[], int]
) -> None:
    build = request_build(recipe=recipe, actor=recipe.owner)

    assert act(ada_client, BUILDS, "cancel_builds", build)[0][0] == "success"
    run_due()

    build.refresh_from_db()
    assert build.state == Build.State.CANCELLED
    assert "has ended already" in act(ada_client, BUILDS, "cancel_builds", build)[0][1]


@pytest.mark.parametrize("page", [RECIPES, BUILDS])
def test_recipes_and_builds_are_not_edited_here(
    ada_client: Client, recipe: Recipe, page: str
) -> None:
    row = request_build(recipe=recipe, actor=recipe.owner) if page == BUILDS else recipe

    shown = ada_client.get(f"{page}{row.pk}/change/").content.decode()

    assert "thesis" in shown
    assert 'name="_save"' not in shown
    assert ada_client.get(f"{page}add/").status_code == 403
    assert "delete_selected" not in ada_client.get(page).content.decode()


def test_the_policy_is_one_page_with_sizes_as_people_write_them(ada_client: Client) -> None:
    listing = ada_client.get("/admin/catalog/buildpolicy/")
    assert listing.url == POLICY  # type: ignore[attr-defined]
    data = policy_form(ada_client, memory_bytes="16 GB", timeout_seconds="45m")

    response = ada_client.post(POLICY, data)

    assert response.status_code == 302
    policy = BuildPolicy.current()
    assert (policy.memory_bytes, policy.timeout_seconds) == (16 * 1024**3, 2700)
    event = Event.objects.get(subject_kind="build policy")
    assert event.after == {"memory_bytes": 16 * 1024**3, "timeout_seconds": 2700}
    assert (event.actor and event.actor.username) == "ada"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("memory_bytes", "1k", "At least"),
        ("memory_bytes", "unlimited", "A number is needed"),
        ("memory_bytes", "plenty", "plenty"),
        ("timeout_seconds", "1s", "At least"),
        ("apt_pattern", "[a-z", "not a regular expression"),
        ("registries", "*", "too wide"),
        ("registries", "nvcr.io/nvidia/*, evil", "too wide or no pattern"),
        ("builds_in_all", "0", "greater than or equal to 1"),
        ("builds_in_all", "99", "less than or equal to 8"),
        ("versions_kept", "0", "greater than or equal to 1"),
        ("cpus", "0", "greater than or equal to 0.1"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_its_reason(
    ada_client: Client, field: str, value: str, said: str
) -> None:
    before = BuildPolicy.objects.values().get()

    response = ada_client.post(POLICY, policy_form(ada_client, **{field: value}))

    assert response.status_code == 200
    assert said in str(response.context["adminform"].form.errors[field])
    assert BuildPolicy.objects.values().get() == before
    assert not Event.objects.exists()


def test_a_package_list_is_edited_and_its_bad_lines_are_refused(ada_client: Client) -> None:
    row = PackageList.objects.get(kind="use_case", key="rl")
    page = f"{LISTS}{row.pk}/change/"
    data = {
        "kind": "use_case",
        "key": "rl",
        "label": "Reinforcement learning",
        "packages": "gymnasium>=1\n-r evil.txt\ntorchrl; rm -rf /",
        "estimate_bytes": "1000",
        "position": "7",
        "active": "on",
    }

    refused = ada_client.post(page, data)
    assert refused.status_code == 200
    errors = str(refused.context["adminform"].form.errors["packages"])
    assert "line 2" in errors.lower() or "2" in errors
    row.refresh_from_db()
    assert "gymnasium>=1" not in row.packages

    accepted = ada_client.post(page, {**data, "packages": "gymnasium>=1\ntorchrl"})
    assert accepted.status_code == 302
    row.refresh_from_db()
    assert row.names == ("gymnasium>=1", "torchrl")
    assert Event.objects.filter(subject_kind="package list", verb="change").count() == 1


def test_a_removed_list_leaves_a_line_in_the_history(ada_client: Client) -> None:
    row = PackageList.objects.get(kind="use_case", key="rl")

    ada_client.post(f"{LISTS}{row.pk}/delete/", {"post": "yes"})

    assert not PackageList.objects.filter(pk=row.pk).exists()
    assert Event.objects.filter(subject_kind="package list", verb="remove").count() == 1


def test_a_student_gets_none_of_it(alice_client: Client, recipe: Recipe) -> None:
    for page in (RECIPES, BUILDS, LISTS, POLICY):
        assert alice_client.get(page).status_code == 302
