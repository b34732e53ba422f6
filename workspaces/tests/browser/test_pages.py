"""Every page: no axe violation, no overflow, no complaint; in light and dark, wide and narrow.

The pictures of each are kept; `DS01_DOCS_IMAGES=1` renews those of the documentation.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Page, expect

from workspaces.tests.browser import data, pages
from workspaces.tests.browser.conftest import Visit
from workspaces.tests.browser.site import Site
from workspaces.tests.browser.watch import Watch
from workspaces.tests.servers import ROOT

pytestmark = pytest.mark.browser

WIDTHS = (1280, 380)
SCHEMES = ("light", "dark")
# Its colours were looked at in the wide window, its layout in the light theme.
COVERED = ("dark", 380)
AXE = Axe()
# With preloading axe would put style elements into the page, which the policy refuses.
OPTIONS: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
# name in docs/images → (page as named below, scheme)
DOCS = {
    "student-containers": ("containers", "light"),
    "student-containers-dark": ("containers", "dark"),
    "student-launch": ("launch", "light"),
    "student-container": ("overview", "light"),
    "student-terminal": ("terminal", "light"),
    "student-terminal-dark": ("terminal", "dark"),
    "student-machine": ("machine", "light"),
    "student-limits": ("limits", "light"),
    "student-images": ("images", "light"),
    "student-recipe": ("builder", "light"),
    "student-build": ("build-running", "light"),
    "student-image": ("image-own", "light"),
    "admin-build-policy": ("admin-build-policy", "light"),
    "admin-front": ("admin-front", "light"),
    "admin-containers": ("admin-containers", "light"),
    "admin-quota": ("admin-quota-preview", "light"),
    "admin-front-dark": ("admin-front", "dark"),
}
# Until observers of sizes have drawn and colours have faded over.
SETTLE = """async () => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const ending = document.getAnimations().filter(
    (one) => one.effect.getComputedTiming().endTime !== Infinity);
  await Promise.allSettled(ending.map((one) => one.finished));
}"""
DOCS_LIMIT = 150 * 1024


@dataclass(frozen=True)
class Shown:
    """One page: who looks, where, and what must be there before it is judged."""

    who: str
    path: str
    ready: str  # CSS selector
    status: int = 200


@pytest.fixture(scope="module")
def cast(site: Site) -> Iterator[dict[str, str]]:
    """Containers of alice in all states that last, and one of bob's; ids by name."""
    ids = {"thesis-bert": site.call(data.ask_for, "alice", "thesis-bert", 2)}
    site.await_state(ids["thesis-bert"], "running")
    ids["sweep-lr"] = site.call(data.ask_for, "alice", "sweep-lr")
    site.await_state(ids["sweep-lr"], "running")
    site.call(data.ask_verb, ids["sweep-lr"], "stop")
    site.await_state(ids["sweep-lr"], "stopped")
    ids["bobs"] = site.call(data.ask_for, "bob", "vision-course", 1)
    site.await_state(ids["bobs"], "running")
    with site.paused_worker():
        ids["broken"] = site.call(data.ask_for, "alice", "big-model")
        site.call(data.spoil_image, ids["broken"])
    site.await_state(ids["broken"], "failed")
    ids |= {key: str(pk) for key, pk in site.call(data.first_ids).items()}
    ids |= cast_images(site)
    yield ids
    site.call(data.cancel_builds, "ben")
    for name in ("thesis-bert", "sweep-lr", "broken", "bobs"):
        site.call(data.ask_verb, ids[name], "remove")


def cast_images(site: Site) -> dict[str, str]:
    """Build images of ben's: one is ready and shared, one failed, one is under way."""
    ids = {
        "build-done": site.call(data.ask_for_image, "ben", "vision", "tiny-math<2", "everybody"),
        "build-failed": site.call(data.ask_for_image, "ben", "lost", "no-such-package==9"),
        "build-running": site.call(data.ask_for_image, "ben", "slow", "slow-package"),
    }
    done = site.await_build(ids["build-done"], "done")
    site.await_build(ids["build-failed"], "failed")
    return ids | {"recipe": str(done["recipe"]), "version": str(done["image"])}


def all_pages(ids: Mapping[str, str]) -> dict[str, Shown]:
    """Return every page by its name."""
    running, stopped = f"/containers/{ids['thesis-bert']}", f"/containers/{ids['sweep-lr']}"
    admin = "/admin"
    return {
        "sign-in": Shown("", "/account/login/", "text=Sign in"),
        "password-reset": Shown("", "/account/password/reset/", "main form"),
        "containers-empty": Shown("nora", "/", ".empty-steps"),
        "containers": Shown("alice", "/", "[id^=bars-] progress"),
        "launch": Shown("nora", "/launch/", "[data-preflight] .checks"),
        "launch-full": Shown("alice", "/launch/", "[data-preflight] .checks"),
        "overview": Shown("alice", f"{running}/", ".charts .chart, .charts canvas"),
        "overview-stopped": Shown("alice", f"{stopped}/", ".story li"),
        "overview-failed": Shown("alice", f"/containers/{ids['broken']}/", ".error-box"),
        "terminal": Shown("alice", f"{running}/terminal/", ".xterm-rows"),
        "terminal-stopped": Shown("alice", f"{stopped}/terminal/", ".empty"),
        "logs": Shown("alice", f"{running}/logs/", "#log"),
        "connect": Shown("alice", f"{running}/connect/", "#ssh-config"),
        "settings": Shown("alice", f"{running}/settings/", "#remove-title"),
        "images": Shown("alice", "/images/", "#image-shelves article"),
        "image": Shown("alice", f"/images/{ids['image']}/", "#facts-title"),
        "image-local": Shown("alice", f"/images/{ids['local']}/", "#facts-title"),
        "images-own": Shown("ben", "/images/", "text=vision"),
        "builder": Shown("ben", "/images/new/?start=cv", "[data-preview] pre"),
        "builder-edit": Shown("ben", f"/images/mine/{ids['recipe']}/edit/", "[data-preview] pre"),
        "image-own": Shown("ben", f"/images/mine/{ids['recipe']}/", "text=Versions"),
        "image-shared": Shown("alice", f"/images/mine/{ids['recipe']}/", "text=Versions"),
        "image-version": Shown("ben", f"/images/{ids['version']}/", "main h1"),
        "build-done": Shown("ben", f"/builds/{ids['build-done']}/", "text=Successfully installed"),
        "build-failed": Shown("ben", f"/builds/{ids['build-failed']}/", ".error-box"),
        "build-running": Shown("ben", f"/builds/{ids['build-running']}/", "text=Collecting"),
        "launch-own": Shown("ben", f"/launch/?image={ids['version']}", "[data-preflight] .checks"),
        "installed": Shown("alice", f"{running}/installed/", "main h1"),
        "machine": Shown("alice", "/machine/", ".device"),
        "machine-admin": Shown("ada", "/machine/", ".device"),
        "limits": Shown("alice", "/limits/", ".table"),
        "password": Shown("alice", "/account/password/change/", "main form"),
        "not-found": Shown("alice", "/nowhere/", "text=There is nothing here", 404),
        "admin-front": Shown("ada", f"{admin}/", "#trouble-heading"),
        "admin-containers": Shown("ada", f"{admin}/workspaces/container/", "#result_list"),
        "admin-container": Shown(
            "ada", f"{admin}/workspaces/container/{ids['thesis-bert']}/change/", "#content-main"
        ),
        "admin-devices": Shown("ada", f"{admin}/workspaces/device/", "#result_list"),
        "admin-quotas": Shown("ada", f"{admin}/ds01portal/quota/", "#result_list"),
        "admin-quota-add": Shown("ada", f"{admin}/ds01portal/quota/add/", "#quota_form"),
        "admin-quota": Shown(
            "ada", f"{admin}/ds01portal/quota/{ids['quota']}/change/", "#quota_form"
        ),
        "admin-images": Shown("ada", f"{admin}/catalog/image/?q=2.7", "#result_list"),
        "admin-recipes": Shown("ada", f"{admin}/catalog/recipe/", "#result_list"),
        "admin-recipe": Shown(
            "ada", f"{admin}/catalog/recipe/{ids['recipe']}/change/", "#content-main"
        ),
        "admin-builds": Shown("ada", f"{admin}/catalog/build/", "#result_list"),
        "admin-build-policy": Shown(
            "ada", f"{admin}/catalog/buildpolicy/1/change/", "#buildpolicy_form"
        ),
        "admin-package-lists": Shown("ada", f"{admin}/catalog/packagelist/", "#result_list"),
        "admin-package-list": Shown(
            "ada", f"{admin}/catalog/packagelist/{ids['list']}/change/", "#packagelist_form"
        ),
        "admin-people": Shown("ada", f"{admin}/ds01portal/person/", "#result_list"),
        "admin-person": Shown(
            "ada", f"{admin}/ds01portal/person/{ids['person']}/change/", "#person_form"
        ),
        "admin-events": Shown("ada", f"{admin}/ds01portal/event/?q=thesis", "#result_list"),
    }


NAMES = tuple(all_pages(defaultdict(str)))


@pytest.mark.parametrize("name", NAMES)
def test_page_has_no_violation_and_fits(
    name: str, site: Site, cast: dict[str, str], visit: Visit, watch: Watch, artifacts: Path
) -> None:
    if name == "build-running":  # pip gives up on a package that does not come
        cast[name] = site.call(data.ask_for_image, "ben", "slow")
        site.await_build(cast[name], "running")
    shown = all_pages(cast)[name]
    page = visit(shown.who).new_page()
    open_whole(page, shown, watch)
    if name == "terminal":
        fill_terminal(page)
    if name == "overview" and is_for_docs():
        page.wait_for_timeout(40_000)  # until there is a curve to see

    problems = judge_page(page, name, artifacts)

    if shown.status != 200:
        # The browser itself notes the page's own status.
        watch.complaints[:] = [line for line in watch.complaints if str(shown.status) not in line]
    assert not problems, "\n".join(problems)


def open_whole(page: Page, shown: Shown, watch: Watch) -> None:
    """Open a page; again when the machine's network changed while it was loaded."""
    for _attempt in range(5):
        watch.take()
        watch.network_changes = 0
        with suppress(Error):
            answer = page.goto(shown.path)
            assert answer is not None and answer.status == shown.status
            page.locator(shown.ready).first.wait_for()
        if not watch.network_changes:
            break
    page.locator(shown.ready).first.wait_for()


def test_page_under_way_and_dialogs_have_no_violation(
    site: Site, cast: dict[str, str], visit: Visit, artifacts: Path
) -> None:
    page = visit("bob").new_page()
    problems = []
    with site.paused_worker():
        pk = site.call(data.ask_for, "bob", "on-its-way")
        page.goto("/")
        problems += judge_page(page, "containers-launching", artifacts)
        page.goto(f"/containers/{pk}/")
        page.locator(".phase-now").wait_for()
        problems += judge_page(page, "overview-launching", artifacts)
    pages.expect_state(page, "Running")
    page.get_by_role("button", name="More – on-its-way").click()
    page.locator("#c-head .dropdown-menu").get_by_role("button", name="Remove").click()
    problems += judge_page(page, "dialog-remove", artifacts)
    page.locator("dialog[open]").get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator("#messages")).to_contain_text("on-its-way is being removed")
    assert not problems, "\n".join(problems)


def test_quota_preview_has_no_violation(
    visit: Visit, cast: dict[str, str], artifacts: Path
) -> None:
    page = visit("ada").new_page()
    page.goto(f"/admin/ds01portal/quota/{cast['quota']}/change/")
    page.locator("#id_containers").fill("7")
    page.locator("input[name=_save]").click()
    page.get_by_text("This changes limits of").wait_for()
    problems = judge_page(page, "admin-quota-preview", artifacts)
    assert not problems, "\n".join(problems)


def judge_page(page: Page, name: str, artifacts: Path) -> list[str]:
    """Return what axe and the eye of a ruler find, in both schemes and widths; keep pictures."""
    problems = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate(SETTLE)
            problems += [f"{name} {width} {scheme}: {line}" for line in pages.overflow(page)]
            if (scheme, width) != COVERED:
                problems += [f"{name} {width} {scheme}: {line}" for line in axe_findings(page)]
            picture = artifacts / f"{name}-{width}-{scheme}.png"
            page.screenshot(path=picture, full_page=True)
            if width == WIDTHS[0]:
                keep_for_docs(page, name, scheme)
    return problems


def axe_findings(page: Page) -> list[str]:
    """Return every violation with the elements that have it."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE.axe_script)
    found = page.evaluate("(options) => window.axe.run(document, options)", OPTIONS)["violations"]
    return [
        f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for one in found
        for node in one["nodes"][:4]
    ]


def fill_terminal(page: Page) -> None:
    """Let the terminal show something."""
    shell = pages.Shell(page)
    shell.await_ready()
    shell.run("id; python3 -c 'import sys; print(sys.version)'; df -h /workspace", until="Mounted")


def is_for_docs() -> bool:
    """Tell whether the documentation's pictures are to be renewed."""
    return os.environ.get("DS01_DOCS_IMAGES") == "1"


def keep_for_docs(page: Page, name: str, scheme: str) -> None:
    """Renew the documentation's picture of a page, the upper part of it, when asked to."""
    if not is_for_docs():
        return
    for file, (wanted, wanted_scheme) in DOCS.items():
        if (wanted, wanted_scheme) == (name, scheme):
            picture = ROOT / "docs/images" / f"{file}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            page.evaluate("() => window.scrollTo(0, 0)")
            page.screenshot(path=picture, clip={"x": 0, "y": 0, "width": 1280, "height": 840})
            assert picture.stat().st_size <= DOCS_LIMIT, f"{picture} is too big"
