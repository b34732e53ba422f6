"""Much and long: two hundred containers, names of sixty signs, magnified twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from workspaces.tests.browser import data, pages
from workspaces.tests.browser.conftest import Visit
from workspaces.tests.browser.site import Site

pytestmark = pytest.mark.browser


def test_two_hundred_containers_with_long_names_are_quick_and_fit(
    site: Site, visit: Visit, artifacts: Path
) -> None:
    page = visit("max").new_page()
    with site.paused_worker():  # which would find that the engine has none of them
        site.call(data.make_rows, "max", 200, "an-experiment-with-a-name-that-goes-on-and-on")
        page.goto("/machine/")  # what every page needs is loaded
        begun = time.monotonic()
        page.goto("/", wait_until="load")
        took = time.monotonic() - begun
        assert took < 2, f"{took:.2f} s"
        expect(page.locator("article.card")).to_have_count(30)
        for width in (1280, 640, 380):
            page.set_viewport_size({"width": width, "height": 900})
            assert pages.overflow(page) == [], width
            page.screenshot(path=artifacts / f"two-hundred-{width}.png")
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_text("Page 2 of 7, 200 containers")).to_be_visible()
        page.locator("article.card .name").first.click()
        expect(page.locator("#c-head h1")).to_contain_text("an-experiment-with-a-name")
        assert pages.overflow(page) == []
        page.screenshot(path=artifacts / "long-name-380.png", full_page=True)


@pytest.mark.parametrize("path", ["/", "/launch/", "/images/", "/machine/", "/limits/"])
def test_magnified_twice_nothing_is_lost(visit: Visit, path: str, artifacts: Path) -> None:
    page = visit("nora", width=640).new_page()
    page.goto(path)
    expect(page.locator("h1")).to_be_visible()
    assert pages.overflow(page) == []
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("link", name="Limits", exact=True)).to_be_visible()
    page.screenshot(path=artifacts / f"magnified{path.replace('/', '-')}.png")
