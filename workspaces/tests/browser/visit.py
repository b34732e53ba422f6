"""Play the main story on a portal that runs already, in a real browser.

    python -m workspaces.tests.browser.visit URL USERNAME PASSWORD

Prints a line for each step and the time; exits with 1 at the first thing that is not as it
should be, or when the browser complained about anything.
"""

from __future__ import annotations

import secrets
import sys
import time

from workspaces.tests.browser.pages import open_browser
from workspaces.tests.browser.story import Story
from workspaces.tests.browser.watch import Watch


def visit(url: str, username: str, password: str) -> int:
    """Play the story; return the exit code."""
    begun = time.monotonic()

    def tell(step: str) -> None:
        print(f"OK {time.monotonic() - begun:5.1f} s  {step}", flush=True)

    watch = Watch()
    with open_browser() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
        watch.follow(context)
        name = f"visit-{secrets.token_hex(3)}"
        story = Story(context.new_page(), url.rstrip("/") + "/", name, tell)
        try:
            story.play(username, password)
        except AssertionError as error:
            print(f"FAILED on {story.page.url}: {error}", file=sys.stderr)
            return 1
        context.close()
    for complaint in watch.complaints:
        print(f"COMPLAINT {complaint}", file=sys.stderr)
    if not watch.complaints:
        tell("no policy violation, no error in the browser's console")
    return 1 if watch.complaints else 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(visit(*sys.argv[1:]))
