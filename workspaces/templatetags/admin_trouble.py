"""What is wrong now, for the admin's front page, each line with the page that shows more."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse

from workspaces.services.trouble import Trouble
from workspaces.services.trouble import find_trouble as find

register = template.Library()

PAGES = {
    "container": "admin:workspaces_container_change",
    "device": "admin:workspaces_device_change",
    "image": "admin:catalog_image_change",
    "machine": "admin:workspaces_machine_change",
}


@register.simple_tag
def find_trouble() -> list[dict[str, Any]]:
    """Return the lines, worst first."""
    return [{"line": line, "url": page_of(line)} for line in find()]


def page_of(line: Trouble) -> str:
    """Return the address of the page about a line's subject; empty when there is none."""
    page = PAGES.get(line.subject_kind)
    if page is None:
        return ""
    try:
        return reverse(page, args=[line.subject_id or 1])
    except NoReverseMatch:
        return ""
