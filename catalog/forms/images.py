"""Forms of the images page and its admin: what to look for, which local image to allow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from catalog.browsing import AWAY, HERE, ImageFilter
from catalog.models import Image
from catalog.references import MAX_LENGTH, parse_reference
from ds01portal.exceptions import InvalidInput


class ImageFilterForm(forms.Form):
    """The search line of the images page. Sent by GET, so that a search can be bookmarked."""

    q = forms.CharField(
        label=_("Search"),
        required=False,
        max_length=100,
        widget=forms.TextInput(attrs={"type": "search"}),
    )
    framework = forms.ChoiceField(label=_("Framework"), required=False)
    version = forms.CharField(label=_("Version"), required=False, max_length=64)
    architecture = forms.ChoiceField(label=_("Architecture"), required=False)
    place = forms.ChoiceField(
        label=_("Where"),
        required=False,
        choices=[("", _("anywhere")), (HERE, _("on this machine")), (AWAY, _("not here yet"))],
    )

    def __init__(self, *args: Any, images: Iterable[Image], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names: dict[str, str] = {}
        architectures: set[str] = set()
        for image in images:
            names.setdefault(image.framework_slug, image.display_framework)
            architectures.update(image.architecture_list)
        self._set_choices("framework", [("", _("all")), *names.items()])
        self._set_choices(
            "architecture", [("", _("all")), *((name, name) for name in sorted(architectures))]
        )

    def _set_choices(self, name: str, choices: list[tuple[Any, Any]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    def wanted(self) -> ImageFilter:
        """Return the filter; a value that is no choice filters nothing and shows its error."""
        self.is_valid()
        data = self.cleaned_data
        return ImageFilter(
            words=data.get("q", ""),
            framework=data.get("framework", ""),
            version=data.get("version", ""),
            architecture=data.get("architecture", ""),
            place=data.get("place", ""),
        )


class AllowLocalImageForm(forms.Form):
    """An image of this machine that an admin offers to people."""

    reference = forms.CharField(
        label=_("Image"),
        max_length=MAX_LENGTH,
        help_text=_("As the engine names it, for example lab/vision:v4. It must be here already."),
    )
    framework = forms.CharField(
        label=_("Framework"), max_length=64, required=False, help_text=_("Only a word for it.")
    )
    version = forms.CharField(
        label=_("Version"), max_length=64, required=False, help_text=_("Only a word for it.")
    )
    visible = forms.BooleanField(
        label=_("Offer it to everybody"),
        required=False,
        initial=True,
        help_text=_("Otherwise only admins see it."),
    )

    def clean_reference(self) -> str:
        """Return the checked reference."""
        try:
            return str(parse_reference(self.cleaned_data["reference"].strip()))
        except InvalidInput as error:
            raise forms.ValidationError(f"{error.message} {error.hint}") from error
