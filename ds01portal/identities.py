"""Linux names and numbers: which are safe, and how a safe name is made from a login.

Pure: knows no database and no user database of the system. Not in charge of: who gets which
(services.people).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Final

from ds01portal.exceptions import InvalidInput

NAME_LENGTH: Final = 32  # useradd's limit
FIRST_USER_ID: Final = 1000  # below are the system's (login.defs, UID_MIN)
LAST_USER_ID: Final = 2**32 - 3  # 2**32-1 is "no change" to chown, 2**32-2 an old nobody
NOBODY_ID: Final = 65534
SAFE_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")

# Accounts that distributions and images bring along: two entries of one name in a container's
# user list would let the first decide who somebody is.
RESERVED_NAMES: Final = frozenset(
    re.findall(
        r"\S+",
        """
    root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats
    nobody nogroup operator halt shutdown adm ftp sshd messagebus polkitd systemd-network
    systemd-resolve systemd-timesync systemd-coredump systemd-oom dbus avahi chrony postfix
    docker dockerd lxd sudo wheel tty disk kmem shadow staff users utmp video audio render input
    postgres mysql redis nginx apache munge slurm nvidia-persistenced _apt ubuntu debian jovyan
    """,
    )
)


def make_name_base(login: str) -> str:
    """Return a safe Linux name for a login such as `h.baker@example.org`; not yet unique.

    The part before @ counts, in ASCII and small letters; other characters become `_`.
    """
    local = login.partition("@")[0]
    folded = unicodedata.normalize("NFKD", local.replace("ß", "ss"))
    text = folded.encode("ascii", "ignore").decode().lower()
    text = re.sub(r"_+", "_", re.sub(r"[^a-z0-9_-]", "_", text)).strip("_-")
    if not text:
        text = "user"
    if text[0].isdigit():
        text = f"u{text}"
    return text[:NAME_LENGTH].rstrip("_-")


def make_linux_name(login: str, *, taken: Collection[str]) -> str:
    """Return a safe name that is neither taken nor reserved: `h_baker`, then `h_baker-2` …"""
    base = make_name_base(login)
    name, number = base, 1
    while name in taken or name in RESERVED_NAMES:
        number += 1
        suffix = f"-{number}"
        name = base[: NAME_LENGTH - len(suffix)] + suffix
    return name


def check_user_id(number: int, *, field: str, whose: str) -> None:
    """Raise InvalidInput unless a uid or gid is a person's: at least 1000, not nobody's."""
    if FIRST_USER_ID <= number <= LAST_USER_ID and number != NOBODY_ID:
        return
    raise InvalidInput(
        f"{whose}: the {field} {number} belongs to the system and not to a person.",
        hint=f"Use a {field} from {FIRST_USER_ID} on, except {NOBODY_ID}, up to {LAST_USER_ID}.",
        field=field,
        value=number,
    )


def parse_uid_range(text: str) -> range:
    """Return the numbers of `FIRST-LAST`. Raise InvalidInput when they are not people's."""
    match = re.fullmatch(r"(\d{1,10})-(\d{1,10})", text.strip())
    numbers = range(int(match[1]), int(match[2]) + 1) if match else range(0)
    if not numbers or numbers[0] < FIRST_USER_ID or numbers[-1] > LAST_USER_ID:
        raise InvalidInput(
            f"DS01_UID_RANGE={text[:40]} is not a range of user ids.",
            hint=f"Write FIRST-LAST with FIRST at least {FIRST_USER_ID}, such as 200000-299999.",
            field="DS01_UID_RANGE",
        )
    return numbers
