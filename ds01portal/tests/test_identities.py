"""Linux names are safe and do not collide."""

import pytest

from ds01portal.exceptions import InvalidInput
from ds01portal.identities import (
    RESERVED_NAMES,
    SAFE_NAME,
    check_user_id,
    make_linux_name,
    parse_uid_range,
)


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("alice", "alice"),
        ("Alice", "alice"),
        ("h.baker@hertie-school.lan", "h_baker"),
        ("a..b", "a_b"),
        ("212345@students.example", "u212345"),
        ("jürgen.groß", "jurgen_gross"),
        ("-rf", "rf"),
        ("@example", "user"),
        ("日本", "user"),
        ("a+b", "a_b"),
        ("x" * 80, "x" * 32),
        ("root", "root-2"),
        ("Daemon@example.org", "daemon-2"),
        ("www-data", "www-data-2"),
    ],
)
def test_a_login_becomes_a_safe_name(login, name):
    assert make_linux_name(login, taken=()) == name
    assert SAFE_NAME.fullmatch(name)
    assert name not in RESERVED_NAMES


def test_names_that_would_collide_get_a_number():
    taken: set[str] = set()
    for login in ("h.baker@a", "h_baker@b", "H.BAKER@c", "h.baker-2@d"):
        taken.add(make_linux_name(login, taken=taken))
    assert taken == {"h_baker", "h_baker-2", "h_baker-3", "h_baker-2-2"}


def test_long_names_that_collide_stay_within_32_characters():
    taken = {make_linux_name("y" * 40, taken=())}
    second = make_linux_name("y" * 50, taken=taken)
    assert second == "y" * 30 + "-2"


@pytest.mark.parametrize("number", [0, 1, 999, 65_534, 2**32 - 2, 2**32 - 1, 2**40, -1])
def test_system_numbers_are_refused(number):
    with pytest.raises(InvalidInput, match="belongs to the system"):
        check_user_id(number, field="uid", whose="alice")


def test_huge_ldap_numbers_are_people():
    check_user_id(1_722_830_498, field="uid", whose="alice")


@pytest.mark.parametrize("text", ["", "5", "900-2000", "3000-2000", "a-b", "1000-99999999999"])
def test_an_impossible_uid_range_is_refused(text):
    with pytest.raises(InvalidInput, match="is not a range of user ids"):
        parse_uid_range(text)


def test_a_uid_range_has_both_ends():
    assert list(parse_uid_range("2000-2002")) == [2000, 2001, 2002]
