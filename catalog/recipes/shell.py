"""Steps as one line of POSIX shell; the one place where typed words meet a shell. Pure.

Every typed word goes through `shlex.quote`. A step is a tuple of parts that joined by blanks are
the command; the Dockerfile breaks the line between them. Site values (mirror, index, proxies) are
read from the build's environment and are never part of a command. Not in charge of: what is
installed (`plan`).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

REQUIREMENTS_FILE = "/tmp/ds01-requirements.txt"  # noqa: S108  # in the build's own container
CONSTRAINTS_FILE = "/tmp/ds01-constraints.txt"  # noqa: S108  # likewise
APT_FOLDER = "/tmp/ds01-apt"  # noqa: S108  # likewise

# Third-party sources keep their address; Ubuntu's and Debian's own trees come from the mirror, a
# base address under which `ubuntu/`, `debian/` and their like are. Only copies are changed.
_APT_MIRROR = (
    'if [ -n "${DS01_APT_MIRROR:-}" ]; then',
    f"mkdir -p {APT_FOLDER}/parts;",
    f"touch {APT_FOLDER}/main.list;",
    f"cp /etc/apt/sources.list {APT_FOLDER}/main.list 2>/dev/null || true;",
    f"cp -r /etc/apt/sources.list.d/. {APT_FOLDER}/parts/ 2>/dev/null || true;",
    f"find {APT_FOLDER} -type f -exec sed -i -E",
    '"s#https?://[^/[:space:]]+/((ubuntu|debian)[a-z-]*)/?([[:space:]]|$)#'
    '${DS01_APT_MIRROR%/}/\\\\1/\\\\3#g" {} +;',
    f"set -- -o Dir::Etc::SourceList={APT_FOLDER}/main.list",
    f"-o Dir::Etc::SourceParts={APT_FOLDER}/parts;",
    "fi;",
)


def pip_step(lines: Sequence[str], constraints: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the step that writes a requirements file and has pip install it.

    `constraints` hold for whatever pip installs to satisfy it, and install nothing themselves.
    """
    held = _write_lines(constraints, CONSTRAINTS_FILE) if constraints else ()
    return (
        "set -e;",
        *_write_lines(lines, REQUIREMENTS_FILE),
        *held,
        "PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore",
        "python3 -m pip install --no-cache-dir --disable-pip-version-check --no-input",
        *((f"-c {CONSTRAINTS_FILE}",) if held else ()),
        f"-r {REQUIREMENTS_FILE};",
        f"rm -f {REQUIREMENTS_FILE}{f' {CONSTRAINTS_FILE}' if held else ''}",
    )


def _write_lines(lines: Sequence[str], path: str) -> tuple[str, ...]:
    return ("printf '%s\\n'", *(shlex.quote(line) for line in lines), f"> {path};")


def apt_step(packages: Sequence[str]) -> tuple[str, ...]:
    """Return the step that installs system packages, from the site's mirror if there is one."""
    return (
        "set -e;",
        "export DEBIAN_FRONTEND=noninteractive;",
        "set --;",
        *_APT_MIRROR,
        'apt-get "$@" update;',
        'apt-get "$@" install -y --no-install-recommends',
        *(shlex.quote(package) for package in packages[:-1]),
        f"{shlex.quote(packages[-1])};",
        # What apt-get leaves weighs more than most packages.
        "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb",
        APT_FOLDER,
    )


def post_install_step(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the step that runs a person's own lines, each in a shell of its own."""
    commands = [f"/bin/sh -ec {shlex.quote(line)}" for line in lines]
    return ("set -e;", *(f"{command};" for command in commands[:-1]), commands[-1])
