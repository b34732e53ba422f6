"""One portal and one browser for all browser tests; a context of its own for each visitor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext

from workspaces.tests.browser.pages import carry_session, open_browser
from workspaces.tests.browser.site import Site, running_site
from workspaces.tests.browser.watch import Watch
from workspaces.tests.servers import ROOT
from workspaces.tests.servers import sign_in as make_session

Visit = Callable[..., BrowserContext]


@pytest.fixture(autouse=True)
def own_folders() -> None:
    """Nothing is set in this process: the portal has a process and folders of its own."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A portal with people, GPUs, images and a worker, on the private test engine."""
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of the machine."""
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Folder in which screenshots are kept."""
    folder = Path(os.environ.get("DS01_TEST_ARTIFACTS") or ROOT / "var/test/screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def watch() -> Watch:
    """What the browser complains about."""
    return Watch()


@pytest.fixture
def visit(
    site: Site, browser: Browser, watch: Watch, artifacts: Path, request: pytest.FixtureRequest
) -> Iterator[Visit]:
    """Open a browser window, signed in when a name is given; complaints fail the test."""
    opened: list[BrowserContext] = []

    def open_window(username: str = "", width: int = 1280, **options: Any) -> BrowserContext:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            locale="en-GB",
            reduced_motion="reduce",
            base_url=site.url,
            **options,
        )
        context.set_default_timeout(15_000)
        watch.follow(context)
        if username:
            carry_session(context, site.url, site.call(make_session, username))
        opened.append(context)
        return context

    yield open_window
    for context in opened:
        for number, page in enumerate(context.pages):
            if request.node.stash.get(FAILED, False):
                page.screenshot(path=artifacts / f"failed-{request.node.name}-{number}.png")
        context.close()
    assert watch.take() == []


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Remember that a test failed, so that its window is kept as a picture."""
    report = yield
    if call.when == "call":
        item.stash[FAILED] = call.excinfo is not None
    return report  # type: ignore[return-value]
