"""Import and export of the catalogue as a table, for the admin pages.

An imported row is checked like a line of a catalogue file. Rows are added and changed, never
deleted. Not in charge of: who may do it.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Max, QuerySet
from import_export import fields, resources

from catalog.aime import BadLine, make_entry
from catalog.frameworks import normalise_framework
from catalog.models import Image
from catalog.models.image import write_architectures
from ds01portal.models import Person
from ds01portal.services.events import record_event

KEY = ("framework", "version", "architectures")


class ImageExport(resources.ModelResource):  # type: ignore[misc]  # the base has no types
    """Every column a person may want to see in a table."""

    architectures = fields.Field(column_name="architectures")

    class Meta:
        model = Image
        fields = (
            *KEY,
            "reference",
            "kind",
            "retired_cause",
            "retired_reason",
            "size_bytes",
            "last_seen_on_engine_at",
        )
        export_order = fields

    def dehydrate_architectures(self, image: Image) -> str:
        """Return them as the import takes them: `CUDA_ADA;CUDA_AMPERE`."""
        return ";".join(image.architecture_list)


class ImageImport(resources.ModelResource):  # type: ignore[misc]  # the base has no types
    """Rows with framework, version, architectures (`A;B`) and reference."""

    class Meta:
        model = Image
        fields = (*KEY, "reference")
        import_id_fields = KEY
        skip_unchanged = True
        report_skipped = True
        use_transactions = True

    def get_queryset(self) -> QuerySet[Image]:
        """Return what an import may change: catalogue rows."""
        return Image.objects.catalogue()

    def before_import_row(self, row: dict[str, Any], **kwargs: Any) -> None:
        """Check a row; a bad one is shown with its reason and nothing is imported."""
        values = {name: str(row.get(name) or "").strip() for name in (*KEY, "reference")}
        bare = values["architectures"].strip("[]").upper()
        try:
            entry = make_entry(
                framework=values["framework"],
                version=values["version"],
                architectures=[part.strip() for part in bare.split(";") if part.strip()],
                reference=values["reference"],
                line=0,
            )
        except BadLine as error:
            raise ValidationError(str(error)) from error
        row.update(
            framework=entry.framework,
            version=entry.version,
            architectures=write_architectures(entry.architectures),
            reference=entry.reference,
        )

    def before_save_instance(self, instance: Image, row: dict[str, Any], **kwargs: Any) -> None:
        """Fill in what the table does not have."""
        instance.framework_slug = normalise_framework(instance.framework)
        if instance.pk is None:
            last = Image.objects.catalogue().aggregate(last=Max("position"))["last"]
            instance.position = 0 if last is None else last + 1

    def after_save_instance(self, instance: Image, row: dict[str, Any], **kwargs: Any) -> None:
        """Write the change into the history, in the import's transaction."""
        user = kwargs.get("user")
        record_event(
            verb="import",
            subject_kind="image",
            subject_id=str(instance.pk),
            subject_label=f"{instance} ({instance.reference})",
            actor=user if isinstance(user, Person) else None,
            after={"reference": instance.reference},
        )
