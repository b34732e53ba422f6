"""What the pages of containers share beside `ds01portal.pages`: whom to ask for more."""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext as _

from ds01portal.pages import View, is_fragment, members_only, next_url, signed_in, with_notice

__all__ = [
    "View",
    "contact",
    "is_fragment",
    "members_only",
    "next_url",
    "signed_in",
    "with_notice",
]


def contact() -> dict[str, str]:
    """Return how people ask for more: text, and a link where the setting is one."""
    text = settings.DS01_CONTACT.strip()
    if text.startswith(("https://", "http://", "mailto:")):
        return {"text": text.removeprefix("mailto:"), "url": text}
    if "@" in text and " " not in text:
        return {"text": text, "url": f"mailto:{text}"}
    return {"text": text or _("an admin of this machine"), "url": ""}
