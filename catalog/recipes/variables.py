"""Environment variables that a person may put into an image. Pure.

Refused is what decides about devices and loaders before the person's own program runs (a hook of
the host may see the image's environment), what belongs to the portal, and what sends package
installers elsewhere. PYTHONPATH is allowed: it only concerns the person's own programs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from catalog.recipes.texts import bad_characters, shorten
from ds01portal.exceptions import InvalidInput

MAX_VARIABLES = 50
MAX_NAME = 100
MAX_VALUE = 1000

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REASONS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"NVIDIA_.*|CUDA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES",
         "which GPUs a container sees is decided at its launch"),
        (r"LD_.*|GLIBC_TUNABLES|GCONV_PATH|GETCONF_DIR|LOCPATH|NLSPATH|MALLOC_.*|RES_OPTIONS"
         r"|RESOLV_.*|LOCALDOMAIN|HOSTALIASES|OPENSSL_CONF|OPENSSL_ENGINES|OPENSSL_MODULES"
         r"|GODEBUG|GOTRACEBACK",
         "it changes how every program is loaded, the host's own helpers included"),
        (r"DS01_.*|AIME_.*|MLC_.*|DOCKER_.*|BUILDKIT_.*|BUILDX_.*",
         "the name belongs to the portal or the engine"),
        (r"PATH|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|HOSTNAME|IFS|TERM",
         "it is set when a container starts"),
        (r"BASH_ENV|ENV|PROMPT_COMMAND|BASHOPTS|SHELLOPTS|PS4|PYTHONSTARTUP|PYTHONHOME"
         r"|PYTHONBREAKPOINT|PYTHONEXECUTABLE",
         "it runs or replaces programs unseen at every start"),
        (r"PIP_.*|UV_.*|CONDA_.*|APT_.*|(?i:.*_PROXY)",
         "the site sets where packages come from"),
    )
)  # fmt: skip
_SECRET_WORDS = frozenset(
    {"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PWD", "KEY", "APIKEY"}
    | {"CREDENTIAL", "CREDENTIALS", "AUTH", "PRIVATE"}
)
_SECRET_ENDS = ("TOKEN", "SECRET", "PASSWORD", "APIKEY")


def variable_problems(environment: Mapping[str, str]) -> list[InvalidInput]:
    """Return what is wrong with the variables, in their order."""
    problems = []
    if len(environment) > MAX_VARIABLES:
        message = f"There are more than {MAX_VARIABLES} variables."
        problems.append(InvalidInput(message, hint="Remove some.", field="environment"))
    for name, value in list(environment.items())[:MAX_VARIABLES]:
        reason = name_trouble(name) or value_trouble(value)
        if reason:
            problems.append(
                InvalidInput(
                    f"The variable “{shorten(name)}” cannot be set: {reason}.",
                    hint="Rename or remove it.",
                    field=f"environment.{shorten(name)}",
                    name=shorten(name),
                )
            )
    return problems


def name_trouble(name: str) -> str:
    """Return why a variable of this name is refused, empty when it may be set."""
    if not _NAME.fullmatch(name):
        return "a name has letters, digits and '_' (ASCII), and does not begin with a digit"
    if len(name) > MAX_NAME:
        return f"the name is longer than {MAX_NAME} characters"
    return next((reason for pattern, reason in _REASONS if pattern.fullmatch(name)), "")


def value_trouble(value: str) -> str:
    """Return why a value is refused, empty when it is fine."""
    if len(value) > MAX_VALUE:
        return f"the value is longer than {MAX_VALUE} characters"
    reason = bad_characters(value)
    return f"the value must be one line of text: {reason}" if reason else ""


def looks_secret(name: str) -> bool:
    """Say whether a variable's name suggests that its value should not be readable in an image."""
    words = re.split(r"_+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper())
    return any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDS) for word in words)
