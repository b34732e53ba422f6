"""Images of one's own, in the browser alone: a recipe, its build, its use; and who sees what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from workspaces.tests.browser import data, pages
from workspaces.tests.browser.conftest import Visit
from workspaces.tests.browser.site import Site
from workspaces.tests.browser.watch import Watch

pytestmark = pytest.mark.browser


def open_builder(page: Page, name: str) -> None:
    """Open the form from the images page, name the image and stand on the demo image."""
    page.goto("/images/")
    page.get_by_role("link", name=re.compile("Build an image|New image")).first.click()
    expect(page.get_by_role("heading", name="Build an image")).to_be_visible()
    page.get_by_role("textbox", name="Name", exact=True).fill(name)
    base = page.locator("label.image-item").filter(has_text="Python").first
    base.scroll_into_view_if_needed()
    base.click()


def test_a_student_builds_an_image_sees_the_log_and_uses_it(
    site: Site, visit: Visit, watch: Watch, artifacts: Path
) -> None:
    page = visit("eva").new_page()
    open_builder(page, "thesis")
    page.locator("#id_requirements").fill("thesis-tools>=1.0,<2  # mine\n-r other.txt")

    side = page.locator("[data-preview]")
    expect(side).to_contain_text("line 2", ignore_case=True)
    page.locator("#id_requirements").fill("thesis-tools>=1.0,<2  # mine")
    expect(side).not_to_contain_text("other.txt")
    expect(side).to_contain_text("'thesis-tools>=1.0,<2  # mine'")
    page.screenshot(path=artifacts / "image-builder.png", full_page=True)
    page.get_by_role("button", name="Save and build").click()

    expect(page.get_by_role("heading", name="thesis:1", level=1)).to_be_visible()
    expect(page.locator("#build-log")).to_contain_text("Successfully installed", timeout=60_000)
    expect(page.locator("#build-head .pill").first).to_have_text("Built", timeout=60_000)
    expect(page.locator("#build-log")).to_contain_text("tiny-math-1.9")
    page.screenshot(path=artifacts / "image-built.png", full_page=True)

    page.get_by_role("link", name="Launch", exact=True).first.click()
    expect(page.get_by_role("heading", name="Launch a container")).to_be_visible()
    page.get_by_role("textbox", name="Name", exact=True).fill("with-tools")
    pages.expect_ready(page)
    page.get_by_role("button", name="Launch", exact=True).click()
    pages.expect_state(page, "Running")
    page.locator("#c-head").get_by_role("link", name="Terminal", exact=True).click()
    shell = pages.Shell(page)
    shell.await_ready()
    shell.run(
        'python3 -c "import thesis_tools, tiny_math; print(tiny_math.__version__, 6 * 7)"',
        until=r"1\.9 42",
    )
    page.screenshot(path=artifacts / "image-terminal.png")
    (reference,) = site.call(data.images_of, "eva")
    assert re.fullmatch(r"ds01-\d+/thesis:1", reference)


def test_a_list_in_the_workspace_is_taken_into_the_form(
    site: Site, visit: Visit, watch: Watch
) -> None:
    site.call(data.write_in_workspace, "eva", "requirements.txt", "tiny-math<2  # old\n-e .\n")
    page = visit("eva").new_page()
    open_builder(page, "from-file")

    page.get_by_role("button", name="From your workspace").click()
    page.locator("dialog[open]").get_by_role("button", name="requirements.txt").click()

    expect(page.locator("#id_requirements")).to_have_value(re.compile(r"tiny-math<2  # old"))
    expect(page.locator("[data-import-notes]")).to_contain_text("-e")
    expect(page.locator("dialog[open]")).to_have_count(0)


def test_a_build_that_fails_says_why_and_a_cancelled_one_leaves_nothing(
    site: Site, visit: Visit, watch: Watch, artifacts: Path
) -> None:
    page = visit("eva").new_page()
    open_builder(page, "broken")
    page.locator("#id_requirements").fill("no-such-package==9")
    page.get_by_role("button", name="Save and build").click()
    trouble = page.locator(".error-box")
    expect(trouble).to_contain_text("no-such-package", timeout=60_000)
    expect(trouble).to_contain_text("Check the spelling")
    expect(trouble).to_contain_text("step 1")
    page.screenshot(path=artifacts / "image-failed.png", full_page=True)

    page.get_by_role("link", name="Edit recipe").click()
    page.locator("#id_requirements").fill("slow-package")
    page.get_by_role("button", name="Save and build").click()
    expect(page.locator("#build-log")).to_contain_text("slow-package", timeout=60_000)
    page.reload()
    expect(page.locator("#build-log")).to_contain_text("Step 1 of 1")
    page.screenshot(path=artifacts / "image-building.png", full_page=True)
    page.get_by_role("button", name="Cancel", exact=True).click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_role("button", name="Cancel the build").click()
    expect(page.locator("#build-head .pill").first).to_have_text("Cancelled", timeout=10_000)
    assert not any("broken" in one for one in site.call(data.images_of, "eva"))


def test_a_stranger_finds_nothing_and_a_shared_image_can_be_used_not_changed(
    site: Site, visit: Visit, watch: Watch
) -> None:
    private = site.await_build(site.call(data.ask_for_image, "ben", "private"), "done")
    shared_pk = site.call(data.ask_for_image, "ben", "shared", "tiny-math", "everybody")
    shared = site.await_build(shared_pk, "done")
    context = visit("bob")
    page = context.new_page()
    page.goto("/images/")
    assert "private" not in page.locator("main").inner_text()
    expect(page.locator("main")).to_contain_text("shared")
    token = page.locator("meta[name=csrf-token]").get_attribute("content") or ""
    headers = {"Referer": site.url}

    hidden = f"/images/mine/{private['recipe']}/"
    seen = {
        path: context.request.get(path).status
        for path in (
            hidden,
            f"{hidden}edit/",
            f"{hidden}Dockerfile",
            f"/images/{private['image']}/",
            f"/builds/{shared_pk}/",
            f"/builds/{shared_pk}/output/",
            f"/builds/{shared_pk}/log.txt",
        )
    }
    assert set(seen.values()) == {404}, seen
    verbs = ("build", "rebuild", "share", "rename", "fork", "delete")
    told = {
        verb: context.request.post(
            f"{hidden}do/{verb}/", form={"csrfmiddlewaretoken": token}, headers=headers
        ).status
        for verb in verbs
    }
    assert set(told.values()) == {404}, told

    page.goto(f"/images/mine/{shared['recipe']}/")
    expect(page.get_by_role("heading", name="shared", level=1)).to_be_visible()
    for verb in ("Delete", "Rename", "Rebuild", "Edit"):
        expect(page.get_by_role("button", name=verb, exact=True)).to_have_count(0)
        expect(page.get_by_role("link", name=verb, exact=True)).to_have_count(0)
    page.goto(f"/launch/?image={shared['image']}")
    expect(page.locator("[data-summary='image']")).to_contain_text("shared")
    assert all("404" in line for line in watch.take())
