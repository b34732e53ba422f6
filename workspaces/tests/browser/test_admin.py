"""An admin gives a student more, and stops a container of somebody else."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from workspaces.tests.browser import data, pages
from workspaces.tests.browser.conftest import Visit
from workspaces.tests.browser.site import Site

pytestmark = pytest.mark.browser


def test_a_quota_is_previewed_saved_and_seen_by_the_student(visit: Visit) -> None:
    student, admin = visit("lea").new_page(), visit("ada").new_page()
    student.goto("/limits/")
    expect(student.locator("main")).to_contain_text("of 3")

    admin.goto("/admin/ds01portal/quota/add/")
    admin.locator(".field-person .select2-selection").click()
    admin.locator(".select2-search__field").fill("lea")
    admin.locator(".select2-results__option").filter(has_text="lea").first.click()
    admin.locator("#id_reason").fill("Thesis until summer")
    admin.locator("#id_containers").fill("5")
    admin.locator("input[name=_save]").click()
    row = admin.locator("#content-main tr").filter(has_text="lea")
    expect(row).to_contain_text("3")
    expect(row).to_contain_text("5")
    student.reload()
    expect(student.locator("main")).to_contain_text("of 3")  # a preview saves nothing
    admin.locator("input[name=_confirmed]").click()
    expect(admin.locator(".messagelist .success")).to_be_visible()

    student.reload()
    expect(student.locator("main")).to_contain_text("of 5")
    expect(student.locator("main")).to_contain_text("Set for you")


def test_an_action_stops_containers_and_says_so_for_each(site: Site, visit: Visit) -> None:
    page = visit("ada").new_page()
    ids = {name: site.call(data.ask_for, "nora", name) for name in ("one", "two")}
    for pk in ids.values():
        site.await_state(pk, "running")
    site.call(data.ask_verb, ids["two"], "stop")
    site.await_state(ids["two"], "stopped")

    page.goto("/admin/workspaces/container/?q=nora")
    for pk in ids.values():
        page.locator(f"input[name=_selected_action][value='{pk}']").check()
    page.locator("select[name=action]").select_option("stop_containers")
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()

    messages = page.locator(".messagelist li")
    expect(messages).to_have_count(2)
    expect(messages.filter(has_text="one._.")).to_contain_text("stopping")
    expect(page.locator(".messagelist .error")).to_contain_text("two")
    site.await_state(ids["one"], "stopped")
    student = visit("nora").new_page()
    student.goto(f"/containers/{ids['one']}/")
    pages.expect_state(student, "Stopped")
    expect(student.locator(".story")).to_contain_text("ada")
    for pk in ids.values():
        site.call(data.ask_verb, pk, "remove")
