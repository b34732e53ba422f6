"""The launch form: what a person filled in, turned into a request.

Only what cannot be read at all is refused here. Whether it is granted is said by the pre-flight
checks, whose words are put beside the field they are about.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from catalog.models import Image
from ds01portal.models import Person
from workspaces.models import SharedFolder
from workspaces.services.launch_images import image_fields
from workspaces.services.requests import LaunchRequest

GB = 1024**3
MOST_DEVICES = 64
LARGEST_GB = 100_000
# What the checks call a part of the request → the field that it is typed into.
FIELD_OF = {
    "devices": "device",
    "devices_per_container": "device",
    "gpueq": "device",
    "total_cpus": "cpus",
    "total_memory": "memory",
    "data": "data_folder",
    "models": "models_folder",
}


class LaunchForm(forms.Form):
    """Everything a launch needs. Images, folders are those that the person may use."""

    image = forms.CharField(
        label=_("Start from"),
        max_length=20,
        required=False,
    )
    device = forms.CharField(label=_("GPUs"), max_length=120, required=False)
    gpus = forms.IntegerField(
        label=_("Number of GPUs"),
        min_value=0,
        max_value=MOST_DEVICES,
        required=False,
        help_text=_("Any that are free; leave it empty when you picked some above."),
    )
    cpus = forms.FloatField(
        label=_("CPU cores"),
        min_value=0.1,
        max_value=10_000,
        required=False,
        widget=forms.NumberInput(attrs={"step": "any", "data-unit": _("cores")}),
    )
    memory = forms.FloatField(
        label=_("Memory in GB"),
        min_value=0.0625,
        max_value=LARGEST_GB,
        required=False,
        widget=forms.NumberInput(attrs={"step": "any", "data-unit": "GB"}),
    )
    name = forms.CharField(
        label=_("Name"),
        max_length=200,
        error_messages={"required": _("The container needs a name.")},
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
        help_text=_("1 to 60 letters, digits, hyphens and underscores; it stays as it is."),
    )
    workspace = forms.CharField(
        label=_("Folder in your workspace"),
        max_length=400,
        required=False,
        strip=True,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=_("Mounted at /workspace, made if it is missing. Empty: all of your workspace."),
    )
    data_folder = forms.ChoiceField(
        label=_("Shared data"), required=False, help_text=_("Mounted at /data.")
    )
    models_folder = forms.ChoiceField(
        label=_("Shared models"), required=False, help_text=_("Mounted at /models.")
    )
    request_key = forms.CharField(max_length=64, required=False, widget=forms.HiddenInput)

    def __init__(
        self,
        *args: Any,
        owner: Person,
        images: Sequence[Image],
        folders: Iterable[SharedFolder],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.owner = owner
        self.images = {str(image.pk): image for image in images}
        self.folders = {str(folder.pk): folder for folder in folders}
        for purpose in ("data", "models"):
            self._offer_folders(purpose)

    def _offer_folders(self, purpose: str) -> None:
        field = self.fields[f"{purpose}_folder"]
        assert isinstance(field, forms.ChoiceField)
        offered = [
            (key, f"{one.name} – {one.description}" if one.description else one.name)
            for key, one in self.folders.items()
            if one.purpose == purpose
        ]
        field.choices = [("", _("none")), *offered]

    def clean_image(self) -> Image:
        """Return the chosen image; one that is not in the list is not offered."""
        key = self.cleaned_data["image"].strip()
        if not key:
            raise forms.ValidationError(_("Choose what to start from."))
        if key not in self.images:
            raise forms.ValidationError(
                _("This image is not offered here. Choose one from the list.")
            )
        return self.images[key]

    def clean_request_key(self) -> str:
        """Return the form's token, or nothing when somebody wrote another thing into it."""
        try:
            return str(uuid.UUID(self.cleaned_data["request_key"]))
        except ValueError:
            return ""

    def clean_memory(self) -> int | None:
        """Return bytes."""
        memory = self.cleaned_data["memory"]
        return None if memory is None else math.floor(memory * GB)

    def clean_device(self) -> tuple[str, ...]:
        """Return all devices that were picked; the field comes once for each."""
        data: Any = self.data
        picked = data.getlist("device") if hasattr(data, "getlist") else data.get("device", [])
        uuids = tuple(uuid for uuid in picked if uuid)
        if len(uuids) > MOST_DEVICES:
            raise forms.ValidationError(_("Pick fewer devices."))
        return uuids

    @property
    def picked_devices(self) -> set[str]:
        """UUIDs that were picked, whether the rest of the form is right or not."""
        data: Any = self.data
        return set(data.getlist("device")) if self.is_bound and hasattr(data, "getlist") else set()

    def to_request(self) -> LaunchRequest:
        """Return the wish; only for a form that is valid."""
        data = self.cleaned_data
        return LaunchRequest(
            owner=self.owner,
            name=data["name"],
            **image_fields(data["image"]),
            devices=data["gpus"] or 0,
            device_uuids=data["device"],
            cpus=data["cpus"],
            memory=data["memory"],
            data=self.folders.get(data["data_folder"]),
            models=self.folders.get(data["models_folder"]),
            workspace=data["workspace"],
            request_key=data["request_key"],
        )

    def add_refusal(self, field: object, words: str) -> None:
        """Put a refusal beside the field it is about, else above the form."""
        name = FIELD_OF.get(str(field), str(field))
        self.add_error(name if name in self.fields else None, words)
