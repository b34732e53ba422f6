"""Packages that several layers want, or that the base already has. Pure.

Not in charge of: where wishes come from (`plan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.version import InvalidVersion

from catalog.recipes.requirements import RequirementLine
from catalog.recipes.texts import shorten

LAYERS = {
    "jupyter": "Jupyter",
    "data_science": "Data science",
    "use_case": "Use case",
    "requirements": "Own packages",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """One line of one layer; `is_own` when a person wrote it, not an admin's list."""

    step: str
    line: RequirementLine
    is_own: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A package that the layer `step` wanted and does not install, and why.

    `kept_by` is the layer that has it, empty when it is the base.
    """

    name: str
    reason: str
    step: str = ""
    kept_by: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A warning for the person, with the field and line (0: none) it is about."""

    text: str
    field: str = ""
    line: int = 0


def without_repeats(wishes: Sequence[Wish]) -> tuple[list[Wish], list[LeftOut], list[Note]]:
    """Install every package once: own words go before a list's, the later before the earlier."""
    by_name: dict[str, list[Wish]] = {}
    for wish in wishes:
        if wish.line.name:
            by_name.setdefault(wish.line.name, []).append(wish)
    dropped: dict[int, Wish] = {}  # id of the wish → the wish that counts
    notes: list[Note] = []
    for group in by_name.values():
        _settle(group, dropped, notes)
    left_out = [_repeat(wish, dropped) for wish in wishes if id(wish) in dropped]
    return [wish for wish in wishes if id(wish) not in dropped], left_out, notes


def without_known(
    wishes: Sequence[Wish], known: Mapping[str, str], *, is_guess: bool
) -> tuple[list[Wish], list[LeftOut], list[Note]]:
    """Leave out what the base has; warn when a wish replaces the base's version.

    `known` is canonical name → version, "" when only the name is known.
    """
    wanted: list[Wish] = []
    left_out: list[LeftOut] = []
    notes: list[Note] = []
    for wish in wishes:
        name = wish.line.name
        version = known.get(name)
        if version is None or wish.line.requirement is None:
            wanted.append(wish)
        elif _satisfies(wish.line.requirement, version):
            usual = "such a base usually has it" if is_guess else "the base has it"
            reason = f"the base has {name} {version}" if version else usual
            left_out.append(LeftOut(name=name, reason=reason, step=wish.step))
        else:
            wanted.append(wish)
            notes += _replaces(wish, version)
    return wanted, left_out, notes


def hold_versions(single: Sequence[Wish], wanted: Sequence[Wish]) -> dict[str, list[str]]:
    """Return for each pip step what must stay true of packages that others brought.

    Without it a dependency of a later step may move what an earlier step, or the base, has in a
    version that was asked for. Steps know of those before them only: a change to one's own
    packages must not make the lists' layers anew.
    """
    installed = {id(wish) for wish in wanted}
    order = list(LAYERS)
    held: dict[str, list[str]] = {kind: [] for kind in order}
    for wish in single:
        if wish.line.requirement is None or not len(wish.line.requirement.specifier):
            continue
        first = order.index(wish.step)
        # The step itself installs it, unless the base has it.
        for kind in order[first + (id(wish) in installed) :]:
            held[kind].append(_as_constraint(wish.line.requirement))
    return held


def _as_constraint(requirement: Requirement) -> str:
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{requirement.name}{requirement.specifier}{marker}"


def _settle(group: list[Wish], dropped: dict[int, Wish], notes: list[Note]) -> None:
    """Decide which of the wishes for one package count."""
    for later_at, later in enumerate(group):
        for earlier in group[:later_at]:
            if id(earlier) in dropped or id(later) in dropped or earlier.step == later.step:
                continue
            if str(earlier.line.requirement) == str(later.line.requirement):
                dropped[id(later)] = earlier
                continue
            # A line for some environments only does not stand in for one for all.
            winner, loser = (later, earlier) if later.is_own else (earlier, later)
            if winner.line.requirement and winner.line.requirement.marker:
                continue
            dropped[id(loser)] = winner
            if loser.is_own or loser.line.specifier:
                notes.append(_differs(winner, loser))


def _repeat(wish: Wish, dropped: Mapping[int, Wish]) -> LeftOut:
    winner = wish
    while id(winner) in dropped:
        winner = dropped[id(winner)]
    reason = f"{LAYERS[winner.step]} has “{shorten(winner.line.text)}”"
    return LeftOut(name=wish.line.name, reason=reason, step=wish.step, kept_by=winner.step)


def _differs(winner: Wish, loser: Wish) -> Note:
    text = (
        f"{LAYERS[loser.step]} asks for “{shorten(loser.line.text)}”, {LAYERS[winner.step]} for"
        f" “{shorten(winner.line.text)}”: the latter counts."
    )
    line = winner.line.number if winner.step == "requirements" else 0
    return Note(text=text, field=winner.step, line=line)


def _satisfies(wanted: Requirement, version: str) -> bool:
    """Say whether the base's version is what is wanted; an unknown one only without a wish."""
    if wanted.extras or wanted.url:
        return False
    if not version or not wanted.specifier:
        return not wanted.specifier
    return _contains(wanted, version)


def _contains(wanted: Requirement, version: str) -> bool:
    try:
        return wanted.specifier.contains(version, prereleases=True)
    except InvalidVersion:  # not every distribution follows PEP 440
        return False


def _replaces(wish: Wish, version: str) -> list[Note]:
    wanted = wish.line.requirement
    if wanted is None or (wanted.extras and not wanted.specifier):
        return []  # the version stays, only the extras are added
    if wanted.extras and version and _contains(wanted, version):
        return []
    verb = "replaces" if version else "may replace"
    text = f"“{shorten(wish.line.text)}” {verb} {wish.line.name} {version}".rstrip()
    line = wish.line.number if wish.step == "requirements" else 0
    return [Note(text=f"{text} of the base.", field=wish.step, line=line)]
