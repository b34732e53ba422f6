"""What a browser complains about while a page is open."""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.sync_api import BrowserContext, ConsoleMessage, Page

# A violation of the content security policy becomes a line of the console.
LISTENER = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP ${event.violatedDirective}: ${event.blockedURI} ${event.sourceFile}:` +
    `${event.lineNumber} ${event.sample}`);
});
"""


# What htmx itself says of a request that was broken off, a line each.
HTMX_ON_A_BROKEN_REQUEST = ("error: htmx:sendError", "error: htmx:afterRequest")


@dataclass
class Watch:
    """Collects errors, warnings and exceptions of all pages of a context."""

    complaints: list[str] = field(default_factory=list)
    network_changes: int = 0
    _broken: int = 0  # requests that such a change may have broken off, not yet forgiven

    def follow(self, context: BrowserContext) -> None:
        """Listen from the first page on."""
        context.add_init_script(LISTENER)
        context.on("page", self._follow_page)

    def _follow_page(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))

    def _on_console(self, message: ConsoleMessage) -> None:
        if "net::ERR_NETWORK_CHANGED" in message.text:
            # Chromium breaks requests off when a network interface appears on the machine, as it
            # does with every container that starts here. Nobody's own machine does so.
            self.network_changes += 1
            self._broken += 1
        elif message.type in ("error", "warning"):
            place = message.location.get("url", "")
            self.complaints.append(f"{message.type}: {message.text} ({place})")

    def take(self) -> list[str]:
        """Return what was said so far, and forget it."""
        said, self.complaints[:] = list(self.complaints), []
        for words in HTMX_ON_A_BROKEN_REQUEST:
            for line in [line for line in said if words in line][: self._broken]:
                said.remove(line)
        self._broken = 0
        return said
