"""From the sign-in to a shell with Tab, Enter and Space alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from workspaces.tests.browser import data, pages
from workspaces.tests.browser.conftest import Visit
from workspaces.tests.browser.site import Site

pytestmark = pytest.mark.browser


def test_keyboard_alone_leads_from_the_sign_in_to_a_shell(site: Site, visit: Visit) -> None:
    page = visit().new_page()
    keys = page.keyboard
    page.goto("/")
    pages.tab_to(page, page.locator("input[name=login]"))
    keys.type("kim")
    pages.tab_to(page, page.locator("input[name=password]"))
    keys.type(data.PASSWORD)
    keys.press("Enter")

    expect(page.get_by_role("heading", name="Your first container")).to_be_visible()
    pages.tab_to(page, page.locator(".empty .btn-primary"))
    keys.press("Enter")

    image = page.locator("label.image-item").filter(has_text="on this machine").first
    pages.tab_to(page, page.locator("input[name=image]:focus, input[name=image]:checked").first)
    for _press in range(200):
        if image.locator("input").is_checked():
            break
        keys.press("ArrowDown")
    expect(image.locator("input")).to_be_checked()
    pages.tab_to(page, page.get_by_role("button", name="1 GPU", exact=True))
    keys.press("Space")
    pages.expect_ready(page)
    pages.tab_to(page, page.get_by_role("button", name="Launch", exact=True))
    keys.press("Enter")

    pages.expect_state(page, "Running")
    pages.tab_to(page, page.locator("#c-head").get_by_role("link", name="Terminal", exact=True))
    keys.press("Enter")
    shell = pages.Shell(page)
    shell.await_ready()
    keys.type("whoami\n")  # the terminal takes the focus by itself
    _uid, login = site.call(data.identity_of, "kim")
    expect(shell.rows.get_by_text(login, exact=True)).to_be_visible()
    keys.press("Control+F6")  # and gives it back
    expect(page.locator(".terminal-tab[aria-selected=true]")).to_be_focused()
    for pk in site.call(data.ids_of, "kim"):
        site.call(data.ask_verb, pk, "remove")


def test_skip_link_comes_first_and_leads_to_the_content(visit: Visit) -> None:
    page = visit("nora").new_page()
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.locator(".skip-link")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
