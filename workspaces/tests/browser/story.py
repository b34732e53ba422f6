"""The main story: from the sign-in to the removal of a container, in the browser alone.

The tests play it on a portal of their own, `visit` on one that runs already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Page, expect

from workspaces.tests.browser import pages


@contextmanager
def nothing_held() -> Iterator[None]:
    """Let the worker go on; a running portal's worker is not held."""
    yield


@dataclass(slots=True)
class Story:
    """One person on one page. `tell` is told of every step that is done."""

    page: Page
    url: str
    name: str
    tell: Callable[[str], None] = lambda _step: None
    hold_worker: Callable[[], AbstractContextManager[None]] = nothing_held
    snap: Callable[[str], None] = lambda _name: None
    progress: list[str] = field(default_factory=list)
    uid: int = 0
    login: str = ""

    def play(self, username: str, password: str) -> None:
        """Play all of it."""
        self.sign_in(username, password)
        self.launch()
        self.use_terminal()
        self.check_file_on_host()
        self.stop_start_remove()

    def sign_in(self, username: str, password: str) -> None:
        """Sign in; whoever has no container yet is shown the way to the first one."""
        page = self.page
        pages.sign_in(page, self.url, username, password)
        if page.locator("article.card").count() == 0:
            expect(page.get_by_role("heading", name="Your first container")).to_be_visible()
            expect(page.locator(".empty-steps li")).to_have_count(3)
            self.snap("first-run")
            page.locator(".empty .btn-primary").click()
        else:
            page.get_by_role("link", name="Launch a container").first.click()
        expect(page.get_by_role("heading", name="Launch a container")).to_be_visible()
        self.tell("signed in, on the launch form")

    def launch(self) -> None:
        """Ask for one GPU and see the steps pass without loading the page again."""
        page = self.page
        pages.choose_image_here(page)
        page.get_by_role("button", name="1 GPU", exact=True).click()
        page.get_by_label("Name", exact=True).fill(self.name)
        expect(page.locator("[data-summary='name']")).to_have_text(self.name)
        expect(page.locator("[data-summary='device']")).to_contain_text("GPU")
        pages.expect_ready(page)
        self.snap("launch-filled")
        with self.hold_worker():
            page.get_by_role("button", name="Launch", exact=True).click()
            expect(page.get_by_role("heading", name=self.name, level=1)).to_be_visible()
            pages.watch_progress(page)
            self.snap("launching")
        pages.expect_state(page, "Running")
        self.progress = pages.seen_progress(page)
        assert self.progress[-1] == "Running", self.progress
        self.tell(f"launched; seen without a reload: {' → '.join(self.progress)}")

    def use_terminal(self) -> None:
        """Be oneself inside and write a file."""
        page = self.page
        page.locator("#c-head").get_by_role("link", name="Terminal", exact=True).click()
        shell = pages.Shell(page)
        shell.await_ready()
        screen = shell.run("id", until=r"uid=\d+\([^)]+\) gid=\d+")
        found = re.search(r"uid=(\d+)\(([^)]+)\)", screen)
        assert found, screen
        self.uid, self.login = int(found[1]), found[2]
        shell.run(f"echo 'grüße' > /workspace/{self.name}.txt; cat /workspace/*.txt", until="grüße")
        shell.run("stat -c 'owned by %U, %u' /workspace", until=rf"owned by \S+, {self.uid}")
        self.snap("terminal")
        self.tell(f"the terminal is {self.login}'s, uid {self.uid}")

    def check_file_on_host(self) -> None:
        """See that the file belongs to the person on the machine, where it can be looked at."""
        page = self.page
        page.get_by_role("link", name="Connect", exact=True).click()
        expect(page.get_by_role("heading", name="Your files")).to_be_visible()
        folder = Path(page.locator("#files-title ~ p .mono").inner_text())
        file = folder / f"{self.name}.txt"
        if not folder.exists():
            self.tell(f"{folder} is not on this machine, so the file's owner was not looked at")
            return
        assert file.read_text() == "grüße\n"
        assert file.stat().st_uid == self.uid, (file.stat().st_uid, self.uid)
        self.tell(f"{file} belongs to {self.uid} on the machine")

    def stop_start_remove(self) -> None:
        """Stop, start and remove it from its page."""
        page = self.page
        page.get_by_role("link", name="Overview", exact=True).click()
        page.locator("#c-head").get_by_role("button", name=f"Stop {self.name}").click()
        dialog = page.locator("dialog[open]")
        expect(dialog).to_contain_text(f"Stop {self.name}?")
        expect(dialog).to_contain_text("/workspace")
        dialog.get_by_role("button", name="Stop", exact=True).click()
        expect(page.locator("#messages")).to_contain_text(f"{self.name} is being stopped.")
        pages.expect_state(page, "Stopped")
        self.tell("stopped")
        page.locator("#c-head").get_by_role("button", name=f"Start {self.name}").click()
        pages.expect_state(page, "Running")
        self.tell("started again")
        self.remove()

    def remove(self) -> None:
        """Remove it; its workspace stays and the list no longer has it."""
        page = self.page
        page.get_by_role("button", name=f"More – {self.name}").click()
        page.locator("#c-head .dropdown-menu").get_by_role("button", name="Remove").click()
        dialog = page.locator("dialog[open]")
        expect(dialog).to_contain_text("/workspace with everything in it")
        self.snap("remove-dialog")
        dialog.get_by_role("button", name="Remove", exact=True).click()
        expect(page.get_by_role("heading", name="My containers")).to_be_visible()
        expect(page.locator("#messages")).to_contain_text("The workspace stays.")
        gone = page.locator("article.card").filter(has_text=self.name)
        expect(gone).to_have_count(0, timeout=pages.SLOW_MS)
        self.tell("removed; the list no longer has it")
