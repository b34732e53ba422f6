"""A plan as the text of a Dockerfile: the same plan gives the same bytes. Pure.

Escaping follows Docker's parser, classic and BuildKit: a backslash at a line's end continues it,
lines that begin with `#` vanish even between continued ones, ENV and LABEL values are expanded in
double quotes. The first line is a comment that cannot be a directive, so no `syntax` or `escape`
directive can follow. Not in charge of: what the steps are (`plan`) or quoting in them (`shell`).
"""

from __future__ import annotations

import re

from catalog.recipes.plan import Plan, Step

WORKDIR = "/workspace"
SHELL = "/bin/bash"
_CONTINUE = " \\\n    "


def write_dockerfile(plan: Plan) -> str:
    """Return the Dockerfile, with a newline at its end."""
    title = f"custom image “{_comment(plan.name)}”" if plan.name else "a custom image"
    lines = [
        f"# DS01 Portal: {title}",
        "# Written from a recipe: change the recipe, not this file.",
        "",
        f"FROM {plan.base_reference}",
        "USER 0",
        f"WORKDIR {WORKDIR}",
    ]
    known = sorted({left.name for left in plan.left_out if not left.kept_by})
    if known:
        lines += ["", f"# Left out, the base has them: {_comment(', '.join(known))}"]
    for step in plan.steps:
        lines += ["", f"# {_comment(step.title)}", _run(step)]
    if plan.environment:
        lines.append("")
    lines += [f"ENV {name}={_quote(value)}" for name, value in plan.environment.items()]
    lines.append("")
    lines += [f"LABEL {name}={_quote(value)}" for name, value in plan.labels.items()]
    # The base's entry point and check are about a main process that does not run here.
    lines += ["", "HEALTHCHECK NONE", "ENTRYPOINT []", f'CMD ["{SHELL}"]', ""]
    return "\n".join(lines)


def _run(step: Step) -> str:
    """Return the RUN instruction; a part never begins with `#` nor ends in a backslash."""
    return f"RUN {_CONTINUE.join(step.parts)}"


def _quote(value: str) -> str:
    """Return the value in double quotes, what Docker would expand or end them at escaped."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def _comment(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
