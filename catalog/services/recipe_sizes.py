"""How large an image may become: a rough sum for the form, from the admins' estimates.

Not in charge of: what an image really takes, and quotas, which count that.
"""

from __future__ import annotations

from catalog.models import PackageList
from catalog.recipes.content import CUSTOM, RecipeContent
from catalog.recipes.plan import Plan
from catalog.recipes.requirements import PERMISSIVE, parse_requirements

__all__ = ["estimate_addition"]

MIB = 1024**2
PIP_PACKAGE = 30 * MIB  # with what it brings along, as it comes out on average
APT_PACKAGE = 15 * MIB

Kind = PackageList.Kind


def estimate_addition(*, content: RecipeContent, plan: Plan) -> int:
    """Return the bytes that the recipe adds to its base, roughly."""
    own = _count_own(content)
    total = APT_PACKAGE * len(content.apt)
    for step, count in own.items():
        total += PIP_PACKAGE * max(0, count - _left_out(plan, step))
    for row in _chosen_lists(content):
        step = row.kind if row.kind != Kind.USE_CASE else "use_case"
        offered = len(row.names)
        installed = max(0, offered - _left_out(plan, row.kind))
        total += row.estimate_bytes * installed // offered if offered else 0
    return total


def _count_own(content: RecipeContent) -> dict[str, int]:
    """Return layer → how many packages a person wrote into it."""
    requirements = parse_requirements(content.requirements, policy=PERMISSIVE)
    counts = {"requirements": len(requirements.packages)}
    if content.jupyter.choice == "own":
        counts["jupyter"] = len(content.jupyter.packages)
    if content.data_science.choice == "own":
        counts["data_science"] = len(content.data_science.packages)
    if content.use_case == CUSTOM:
        counts["use_case"] = len(content.use_case_packages)
    return counts


def _chosen_lists(content: RecipeContent) -> list[PackageList]:
    wanted = {
        Kind.JUPYTER: content.jupyter.choice == "default",
        Kind.DATA_SCIENCE: content.data_science.choice == "default",
    }
    rows = PackageList.objects.filter(active=True).exclude(kind=Kind.BASE)
    return [
        row
        for row in rows
        if (row.kind == Kind.USE_CASE and row.key == content.use_case)
        or wanted.get(Kind(row.kind), False)
    ]


def _left_out(plan: Plan, step: str) -> int:
    return sum(1 for left in plan.left_out if left.step == step)
