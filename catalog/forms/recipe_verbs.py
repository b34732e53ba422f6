"""What is asked beside a verb on an image of one's own: how to build, share, name, copy it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import Group
from django.utils.translation import gettext_lazy as _

from catalog.models import Recipe
from ds01portal.models import Person


class BuildForm(forms.Form):
    """How the next version is built."""

    fresh = forms.BooleanField(required=False)
    base_version = forms.CharField(required=False, max_length=100)  # empty: as the recipe says


class ShareForm(forms.Form):
    """Who may see, use and copy it. People share with the groups they are in."""

    sharing = forms.ChoiceField(choices=Recipe.Sharing.choices)
    group = forms.ModelChoiceField(Group.objects.none(), required=False)

    def __init__(self, *args: Any, person: Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["group"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = groups_for(person)

    def clean(self) -> dict[str, Any]:
        """Refuse a group that was not chosen."""
        data = super().clean() or self.cleaned_data
        if data.get("sharing") == Recipe.Sharing.GROUP and not data.get("group"):
            self.add_error("group", _("Choose the group."))
        return data


class RenameForm(forms.Form):
    """The new name."""

    name = forms.CharField(required=False, max_length=200)


class ForkForm(forms.Form):
    """The copy's name; empty lets the portal choose. `number` is the version to copy."""

    name = forms.CharField(required=False, max_length=200)
    number = forms.IntegerField(required=False, min_value=1)


def groups_for(person: Person) -> Any:
    """Return the groups a person may share with."""
    return (Group.objects.all() if person.is_staff else person.groups.all()).order_by("name")
