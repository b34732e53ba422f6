"""Steps that several stories take, in the words of the pages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic")
SLOW_MS = 30_000
expect.set_options(timeout=15_000)  # a machine that runs other things beside is slow, not wrong


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start the Chromium of the machine."""
    path = os.environ.get("DS01_TEST_CHROMIUM") or "/usr/bin/chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Page, url: str, username: str, password: str) -> None:
    """Sign in by the form."""
    page.goto(url)
    expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    page.locator("input[name=login]").fill(username)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="My containers")).to_be_visible()


def tab_to(page: Page, target: Locator, most: int = 400) -> None:
    """Press Tab until the target has the focus, as somebody without a mouse does."""
    for _press in range(most):
        if target.evaluate("(node) => node === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{most} times Tab on {page.url} did not come to {target}")


def carry_session(context: BrowserContext, url: str, key: str) -> None:
    """Be signed in without the form."""
    context.add_cookies([{"name": "sessionid", "value": key, "url": url}])


def pill(page: Page) -> Locator:
    """Return the state beside the title of a container's page."""
    return page.locator("#c-head .page-header .pill")


def expect_state(page: Page, word: str) -> None:
    """Wait for the container's page to show a state, without loading it again."""
    expect(pill(page)).to_have_text(word, timeout=SLOW_MS)


def choose_image_here(page: Page) -> None:
    """Choose the first image that is on the machine and needs no pull."""
    here = page.locator("label.image-item").filter(has_text="on this machine")
    here.first.scroll_into_view_if_needed()
    here.first.click()
    expect(here.first.locator("input")).to_be_checked()


def expect_ready(page: Page) -> None:
    """Wait for the pre-flight list to find nothing in the way."""
    expect(page.locator("[data-preflight]")).to_contain_text("Ready to launch.", timeout=SLOW_MS)


class Shell:
    """The terminal that is open on a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.rows = page.locator(".terminal-panel:not([hidden]) .xterm-rows")

    def await_ready(self) -> None:
        """Wait until the server has opened the shell."""
        status = self.page.locator("[data-terminal-status]")
        expect(status).to_have_text("Connected", timeout=SLOW_MS)
        expect(self.rows).to_contain_text(re.compile(r"[$#]"), timeout=SLOW_MS)

    def text(self) -> str:
        """Return what is on the screen."""
        return "\n".join(self.rows.locator("> div").all_inner_texts()).replace("\xa0", " ")

    def run(self, command: str, *, until: str) -> str:
        """Type a command and wait for a pattern on the screen; return the screen."""
        self.page.locator(".terminal-panel:not([hidden]) .xterm-helper-textarea").focus()
        self.page.keyboard.type(f"{command}\n")
        expect(self.rows).to_contain_text(re.compile(until), timeout=SLOW_MS)
        return self.text()


def watch_progress(page: Page) -> None:
    """Note every state and step that the page shows from now on, until it is loaded anew."""
    page.evaluate(
        """() => {
          window.ds01Seen = [];
          const look = () => {
            const pill = document.querySelector("#c-head .pill");
            const step = document.querySelector(".phase-now");
            const words = [pill, step].filter(Boolean).map((node) => node.textContent);
            const line = words.join(" / ").replace(/\\s+/g, " ").trim();
            if (line && line !== window.ds01Seen.at(-1)) {
              window.ds01Seen.push(line);
            }
          };
          look();
          new MutationObserver(look).observe(document.body, {
            childList: true, subtree: true, characterData: true,
          });
        }"""
    )


def seen_progress(page: Page) -> list[str]:
    """Return what `watch_progress` noted; fails when the page was loaded anew."""
    seen: list[str] = page.evaluate("() => window.ds01Seen")
    return seen


def overflow(page: Page) -> list[str]:
    """Return what is wider than the window and not inside something that scrolls."""
    found: list[str] = page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= width) {
            return [];
          }
          const wide = [...document.body.querySelectorAll("*")].filter(
            (node) => node.getBoundingClientRect().right > width + 1);
          return [`page ${document.documentElement.scrollWidth} > ${width}`,
            ...wide.slice(0, 8).map((node) =>
              `${node.tagName}#${node.id}.${node.getAttribute("class")} ` +
              Math.round(node.getBoundingClientRect().right))];
        }"""
    )
    return found
