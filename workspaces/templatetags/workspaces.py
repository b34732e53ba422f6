"""Filters and tags of the containers' pages: sizes and durations in people's terms."""

from __future__ import annotations

from typing import Any

from django import template

from ds01portal.limits import format_bytes, format_seconds

register = template.Library()


@register.filter
def size(value: Any) -> str:
    """Return bytes as "32 GB", counted as Docker and the limits count; empty for nothing."""
    return format_bytes(int(value)) if isinstance(value, int | float) else ""


@register.filter
def duration(value: Any) -> str:
    """Return seconds as "1d 2h"; empty for nothing."""
    return format_seconds(int(value)) if isinstance(value, int | float) else ""


@register.filter
def number(value: Any) -> str:
    """Return 2.0 as "2" and 0.4286 as "0.43"; empty for nothing."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, int | float) else ""
