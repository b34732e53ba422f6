"""What all pages share: who asks, fragments for people who were signed out, notices for htmx."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event

from ds01portal.models import Person

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def signed_in(request: HttpRequest) -> Person:
    """Return the person who asks; only behind `members_only`."""
    assert isinstance(request.user, Person)
    return request.user


def members_only(view: View[P]) -> View[P]:
    """Send people who are not signed in to the sign-in page.

    A fragment must not be replaced by that page, so htmx is told to go there as a whole.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if request.headers.get("HX-Request"):
            return HttpResponseClientRedirect(resolve_url(settings.LOGIN_URL))
        return redirect_to_login(request.get_full_path())

    return cast(View[P], wrapped)


def is_fragment(request: HttpRequest) -> bool:
    """Tell whether htmx asks, for a part of a page."""
    return request.headers.get("HX-Request") == "true"


def next_url(request: HttpRequest, default: str) -> str:
    """Return where a form wants to go afterwards, if that is a page of this portal."""
    wanted = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if wanted.startswith("/") and safe else default


def with_notice(response: HttpResponse, level: str, text: str) -> HttpResponse:
    """Let the page that gets a fragment show a passing notice."""
    return trigger_client_event(response, "ds01:notice", {"level": level, "text": text})
