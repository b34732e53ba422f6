"""The recipe as a form: what a person typed, as the content that is checked and stored.

Nothing is refused here but what no field could hold: what stands in the way is found by
`services.recipe_checks`, and put beside the field it is about. What was typed is never changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from catalog.forms.bases import REFERENCE, base_key, read_base

LONGEST = 200_000  # characters of one field; the checks allow much less
LAYERS = ("jupyter", "data_science")
CUSTOM = "custom"
_PLAIN = {"spellcheck": "false", "autocomplete": "off", "autocapitalize": "none"}


def _lines(label: Any, rows: int, help_text: Any = "", **attributes: str) -> forms.CharField:
    """Return a field with a thing a line, kept exactly as it was typed."""
    return forms.CharField(
        label=label,
        required=False,
        strip=False,
        max_length=LONGEST,
        help_text=help_text,
        widget=forms.Textarea(attrs={**_PLAIN, "rows": rows, "class": "mono", **attributes}),
    )


def _choice(label: Any) -> forms.CharField:
    return forms.CharField(label=label, required=False, max_length=400)


class RecipeForm(forms.Form):
    """Everything that a recipe holds. `initial` comes from `initial_from_content`."""

    name = forms.CharField(
        label=_("Name"),
        max_length=200,
        error_messages={"required": _("Give it a name.")},
        widget=forms.TextInput(attrs=_PLAIN),
        help_text=_("Lower case letters, digits and hyphens, such as thesis."),
    )
    description = forms.CharField(label=_("What it is for"), max_length=300, required=False)
    base = _choice(_("Base"))
    base_reference = forms.CharField(
        label=_("Name of the image"),
        max_length=400,
        required=False,
        widget=forms.TextInput(attrs=_PLAIN),
    )
    jupyter = _choice(_("Jupyter"))
    jupyter_packages = _lines(_("Packages for Jupyter"), 3, _("One a line."))
    data_science = _choice(_("Data science"))
    data_science_packages = _lines(_("Packages for data science"), 3, _("One a line."))
    use_case = _choice(_("Use case"))
    use_case_packages = _lines(_("Packages of your use case"), 4, _("One a line."))
    requirements = _lines(
        _("Packages"),
        8,
        _("As in a requirements file: versions, extras, markers, comments and hashes are kept."),
        placeholder="einops>=0.8\ntransformers==4.46.*  # for the tokenizer",
    )
    apt = _lines(
        _("System packages"), 2, _("Names of Debian or Ubuntu packages, such as git ffmpeg.")
    )
    environment = _lines(
        _("Variables"), 3, _("NAME=value, one a line. Everybody who uses the image can read them.")
    )
    post_install = _lines(_("Own shell lines"), 3, _("Run as root at the end, one a line."))

    def __init__(
        self, *args: Any, has_name: bool = False, post_install_allowed: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if has_name:
            del self.fields["name"]  # it is changed by renaming, not here
        if not post_install_allowed:
            self.fields["post_install"].widget.attrs["readonly"] = True

    def typed(self, name: str) -> str:
        """Return what stands in a field now, whether the form is right or not."""
        value = self[name].value() if name in self.fields else None
        return "" if value is None else str(value)

    def to_content(self, *, fresh: bool = False) -> dict[str, Any]:
        """Return the recipe as it is typed now."""
        use_case = self.typed("use_case")
        return {
            "base": read_base(self.typed("base"), self.typed("base_reference")),
            **{name: self._layer(name) for name in LAYERS},
            "use_case": use_case,
            "use_case_packages": (
                split_lines(self.typed("use_case_packages")) if use_case == CUSTOM else []
            ),
            "requirements": self.typed("requirements").replace("\r\n", "\n"),
            "apt": self.typed("apt").split(),
            "environment": read_environment(self.typed("environment")),
            "post_install": split_lines(self.typed("post_install")),
            "fresh": fresh,
        }

    def _layer(self, name: str) -> dict[str, Any]:
        choice = self.typed(name) or "none"
        packages = split_lines(self.typed(f"{name}_packages")) if choice == "own" else []
        return {"choice": choice, "packages": packages}

    def environment_problems(self) -> list[tuple[int, str]]:
        """Return the lines that are no NAME=value, and those that name one again."""
        problems: list[tuple[int, str]] = []
        seen: set[str] = set()
        for number, line in enumerate(self.typed("environment").splitlines(), start=1):
            name, equals, _value = line.partition("=")
            if not line.strip():
                continue
            if not equals:
                problems.append((number, str(_("There is no “=” in it. Write NAME=value."))))
            elif name.strip() in seen:
                problems.append((number, str(_("This variable stands there already."))))
            seen.add(name.strip())
        return problems

    def place_of(self, field: str, number: int = 0, index: int | None = None) -> tuple[str, int]:
        """Return the field and line where a person finds what a check is about."""
        top, _dot, rest = field.partition(".")
        if top == "base":
            typed_base = self.typed("base") == REFERENCE and rest in ("", "reference")
            return ("base_reference" if typed_base else "base"), 0
        if top in (*LAYERS, "use_case") and rest == "packages":
            top = f"{top}_packages"
        if top == "environment" and rest:
            return top, line_of_variable(self.typed(top), rest)
        if index is not None and top in self.fields and top != "apt":
            return top, line_of_entry(self.typed(top), index)
        return (top if top in self.fields else ""), number

    def add_refusal(self, field: str, words: str) -> None:
        """Put a refusal beside its field, else above the form."""
        self.add_error(field if field in self.fields else None, words)


class UploadForm(forms.Form):
    """A file with dependencies that is read into the form. The server keeps nothing of it."""

    requirements_file = forms.FileField(label=_("File"), required=False)


def initial_from_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the fields show for a recipe."""
    base = content.get("base") or {}
    values: dict[str, Any] = {
        "base": base_key(base),
        "base_reference": base.get("reference", ""),
        "use_case": content.get("use_case", ""),
        "use_case_packages": "\n".join(content.get("use_case_packages", ())),
        "requirements": content.get("requirements", ""),
        "apt": " ".join(content.get("apt", ())),
        "environment": "\n".join(
            f"{name}={value}" for name, value in content.get("environment", {}).items()
        ),
        "post_install": "\n".join(content.get("post_install", ())),
    }
    for name in LAYERS:
        layer = content.get(name) or {}
        values[name] = layer.get("choice", "none")
        values[f"{name}_packages"] = "\n".join(layer.get("packages", ()))
    return values


def split_lines(text: str) -> list[str]:
    """Return the lines that hold something."""
    return [line.strip() for line in re.split(r"\r\n|\r|\n", text) if line.strip()]


def read_environment(text: str) -> dict[str, str]:
    """Return the variables; of one that stands there twice, the last."""
    found: dict[str, str] = {}
    for line in split_lines(text):
        name, equals, value = line.partition("=")
        if equals:
            found[name.strip()] = value
    return found


def line_of_variable(text: str, name: str) -> int:
    """Return the line that sets a variable, 0 when none does."""
    lines = re.split(r"\r\n|\r|\n", text)
    return next((n for n, line in enumerate(lines, 1) if line.partition("=")[0].strip() == name), 0)


def line_of_entry(text: str, index: int) -> int:
    """Return the line of the entry with that index; blank lines are no entries."""
    filled: Sequence[int] = [
        number for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1) if line.strip()
    ]
    return filled[index] if 0 <= index < len(filled) else 0
