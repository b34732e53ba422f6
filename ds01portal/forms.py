"""Forms of the admin pages for people and quotas: check first, by the services' own rules."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import LoginForm
from django import forms
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ds01portal.exceptions import RefusedError
from ds01portal.limits import LIMITS, Limit, Unit
from ds01portal.models import Person, Quota
from ds01portal.services.people import (
    ADMIN_GROUP,
    check_email,
    check_not_last_admin,
    check_username,
    find_system_entry,
)
from ds01portal.services.quotas import Subject, check_policies

EXAMPLES = {
    Unit.COUNT: "3",
    Unit.GPUEQ: "0.5",
    Unit.CORES: "8",
    Unit.BYTES: "32g",
    Unit.SECONDS: "12h",
}


class PersonCreationForm(AdminUserCreationForm[Person]):
    """A new person; the Linux identity is found or allocated when it is saved."""

    class Meta:
        model = Person
        fields = ("username", "email")

    def clean_username(self) -> str:
        username: str = self.cleaned_data["username"]
        try:
            check_username(username)
            find_system_entry(username)
        except RefusedError as error:
            raise ValidationError(f"{error.message} {error.hint}", code=error.code) from error
        return username

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"]
        _check_email(email, None)
        return email


class PersonChangeForm(UserChangeForm[Person]):
    """A person; the identity is not edited, because files belong to numbers."""

    class Meta:
        model = Person
        fields = "__all__"
        field_classes = {"username": forms.CharField}

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"]
        if email != self.instance.email:
            _check_email(email, self.instance)
        return email

    def clean(self) -> dict[str, Any] | None:
        data = super().clean()
        values = data if data is not None else self.cleaned_data
        groups = values.get("groups")
        leaves = groups is not None and ADMIN_GROUP not in {group.name for group in groups}
        was_admin = self.instance.groups.filter(name=ADMIN_GROUP).exists()
        # The instance is not changed by the form before this has run.
        inactive = self.instance.is_superuser and not (
            values.get("is_active", True) and values.get("is_superuser", True)
        )
        if (leaves and was_admin) or inactive:
            try:
                check_not_last_admin(self.instance)
            except RefusedError as error:
                raise ValidationError(f"{error.message} {error.hint}") from error
        return data


def _check_email(email: str, person: Person | None) -> None:
    try:
        check_email(email, person=person)
    except RefusedError as error:
        raise ValidationError(error.message, code=error.code) from error


class QuotaForm(forms.ModelForm[Quota]):
    """One layer of limits: empty inherits, “unlimited” has no bound, zero allows nothing."""

    # Two admins with the same page open: the second is told instead of undoing the first.
    version = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = Quota
        fields = (
            "group",
            "person",
            "priority",
            "reason",
            "expires_at",
            "policies",
            *(spec.name for spec in LIMITS),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["version"] = self.instance.updated_at.isoformat()
        for spec in LIMITS:
            if spec.name in self.fields:
                field = self.fields[spec.name]
                example = _("such as %s, or unlimited") % EXAMPLES[spec.unit]
                field.help_text = f"{spec.help}; {example}"
                field.widget.attrs |= {"placeholder": _("inherit"), "autocomplete": "off"}

    def clean(self) -> dict[str, Any] | None:
        data = super().clean()
        values = data if data is not None else self.cleaned_data
        if self.instance.pk:
            self._check_version(values.get("version", ""))
        else:
            self._choose_layer(values)
        expires_at = values.get("expires_at")
        if expires_at and self.instance.layer != Quota.Layer.PERSON:
            self.add_error("expires_at", _("Only a personal quota can expire."))
        elif expires_at and "expires_at" in self.changed_data and expires_at < timezone.now():
            self.add_error("expires_at", _("This time has passed."))
        return data

    def clean_policies(self) -> dict[str, Any]:
        """Return the idle thresholds; nothing but known numbers and the default group."""
        try:
            return check_policies(self.cleaned_data["policies"])
        except RefusedError as error:
            raise ValidationError(f"{error.message} {error.hint}") from error

    def _choose_layer(self, values: dict[str, Any]) -> None:
        person, group = values.get("person"), values.get("group")
        if (person is None) == (group is None):
            raise ValidationError(_("Choose a group or a person, and not both."))
        self.instance.layer = Quota.Layer.PERSON if person else Quota.Layer.GROUP

    def _check_version(self, version: str) -> None:
        current = Quota.objects.filter(pk=self.instance.pk).first()
        if current is None or current.updated_at.isoformat() != version:
            raise ValidationError(
                _("Somebody else has changed this quota meanwhile. Load the page again.")
            )

    @property
    def subject(self) -> Subject:
        """Return whose layer this is. Ask only when the form is valid."""
        return self.instance.person or self.instance.group

    @property
    def values(self) -> dict[str, Limit]:
        """Return limit name → value. Ask only when the form is valid."""
        return {spec.name: self.cleaned_data[spec.name] for spec in LIMITS}


class SignInForm(LoginForm):  # type: ignore[misc]
    """The sign-in form, with a label that says what to type."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].label = _("Username or email")
        self.fields["login"].widget.attrs["placeholder"] = ""
