"""Pages that keep up: two tabs, double clicks, a portal that goes away and comes back."""

from __future__ import annotations

import signal

import pytest
from playwright.sync_api import expect

from workspaces.tests.browser import data, pages
from workspaces.tests.browser.conftest import Visit
from workspaces.tests.browser.site import Site
from workspaces.tests.browser.watch import Watch

pytestmark = pytest.mark.browser


def test_two_tabs_a_double_click_and_an_outage_tell_the_truth(
    site: Site, visit: Visit, watch: Watch
) -> None:
    context = visit("tom")
    first, second = context.new_page(), context.new_page()

    # A double click launches once.
    first.goto("/launch/")
    pages.choose_image_here(first)
    first.get_by_label("Name", exact=True).fill("twice")
    pages.expect_ready(first)
    first.get_by_role("button", name="Launch", exact=True).dblclick(no_wait_after=True)
    expect(first.get_by_role("heading", name="twice", level=1)).to_be_visible()
    pages.expect_state(first, "Running")
    (pk,) = site.call(data.ids_of, "tom")

    # What is done in one tab is seen in the other.
    second.goto("/")
    card = second.locator(f"#c-{pk}")
    expect(card.locator(".pill")).to_have_text("Running")
    first.locator("#c-head").get_by_role("button", name="Stop twice").click()
    first.locator("dialog[open]").get_by_role("button", name="Stop", exact=True).click()
    expect(card.locator(".pill")).to_have_text("Stopped", timeout=pages.SLOW_MS)

    # A tab that is behind asks for what is no longer possible, and is told so.
    first.close()
    assert watch.take() == []

    # The portal goes away: the page says so, and nothing else of it changes.
    site.portal.stop(number=signal.SIGQUIT)
    bar = second.locator("#connection-bar")
    expect(bar).to_be_visible(timeout=pages.SLOW_MS)
    expect(bar).to_contain_text("Connection lost")
    expect(card.locator(".pill")).to_have_text("Stopped")
    site.call(data.ask_verb, pk, "start")
    site.await_state(pk, "running")
    site.portal.start()

    # It comes back, and with it what happened meanwhile.
    expect(bar).to_be_hidden(timeout=pages.SLOW_MS)
    expect(card.locator(".pill")).to_have_text("Running", timeout=pages.SLOW_MS)
    # The browser and htmx note the requests that were not answered meanwhile.
    known = ("net::ERR_", "error: htmx:afterRequest", "error: htmx:sendError")
    assert [line for line in watch.take() if not any(one in line for one in known)] == []
    site.call(data.ask_verb, pk, "remove")
    expect(card).to_have_count(0, timeout=pages.SLOW_MS)
