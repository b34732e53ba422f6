"""What did I install? In a browser: a look, a tick, and a recipe that has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from workspaces.tests.browser import data
from workspaces.tests.browser.conftest import Visit
from workspaces.tests.browser.site import Site
from workspaces.tests.browser.test_pages import judge_page
from workspaces.tests.browser.watch import Watch

pytestmark = pytest.mark.browser


def install(pk: str) -> None:
    """Put files in a container as pip does; it has no index to fetch from."""
    from ds01portal.engine import get_engine
    from workspaces.models import Container

    script = (
        "d=$(python3 -c 'import site; print(site.getusersitepackages())') && "
        'for one in alpha beta; do mkdir -p "$d/$one-2.0.dist-info" && '
        "printf 'Metadata-Version: 2.1\\nName: %s\\nVersion: 2.0\\n' $one "
        '> "$d/$one-2.0.dist-info/METADATA"; done; touch "$d/alpha-2.0.dist-info/REQUESTED"'
    )
    name = Container.objects.get(pk=pk).engine_name
    code, said = get_engine().run_command(name, ("sh", "-c", script))
    assert code == 0, said


def allow_snapshots() -> None:
    """Let people keep containers, as an admin does."""
    from catalog.models import BuildPolicy

    BuildPolicy.objects.update_or_create(pk=1, defaults={"snapshots": True})


def requirements_of(username: str, name: str) -> str:
    """Return what a recipe asks for."""
    from catalog.models import Recipe

    recipe = Recipe.objects.get(owner__username=username, name=name, deleted_at=None)
    return str(recipe.content["requirements"])


def test_what_was_installed_becomes_a_recipe(
    site: Site, visit: Visit, watch: Watch, artifacts: Path
) -> None:
    site.call(allow_snapshots)
    pk = site.call(data.ask_for, "alice", "trying-out")
    site.await_state(pk, "running")
    site.call(install, pk)
    page = visit("alice").new_page()
    page.goto(f"/containers/{pk}/settings/")

    page.get_by_role("link", name="Look what I installed").click()

    expect(page.get_by_role("checkbox", name="alpha")).to_be_checked()
    expect(page.get_by_role("checkbox", name="beta")).not_to_be_checked()
    assert page.url.endswith("/settings/")
    # The same as a page of its own, for whom the part is not fetched.
    whole = page.context.new_page()
    whole.goto(f"/containers/{pk}/installed/")
    problems = judge_page(whole, "installed", artifacts)
    whole.close()
    page.get_by_label("Name of the new image").fill("Not a name")
    page.get_by_role("button", name="Make a recipe from it").click()
    expect(page.locator("#installed .notice-error")).to_contain_text("cannot be an image's name")
    # The browser itself notes the answer's status.
    watch.complaints[:] = [line for line in watch.complaints if "422" not in line]
    page.get_by_label("Name of the new image").fill("tried-out")
    page.get_by_role("button", name="Make a recipe from it").click()

    expect(page.locator("#messages")).to_contain_text("1 package was added to tried-out")
    assert site.call(requirements_of, "alice", "tried-out") == "alpha==2.0\n"
    site.call(data.ask_verb, pk, "remove")
    assert not problems, "\n".join(problems)
