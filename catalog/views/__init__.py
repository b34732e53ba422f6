"""Pages of the catalogue: what there is, images of one's own, their recipes and builds."""

from catalog.views.builder import recipe_edit, recipe_new, recipe_preview
from catalog.views.builds import (
    build_cancel,
    build_detail,
    build_dockerfile,
    build_head,
    build_log_download,
)
from catalog.views.images import image_detail, image_list
from catalog.views.imports import recipe_import
from catalog.views.recipe_page import recipe_detail, recipe_dockerfile
from catalog.views.recipe_verbs import recipe_verb, version_delete

__all__ = [
    "build_cancel",
    "build_detail",
    "build_dockerfile",
    "build_head",
    "build_log_download",
    "image_detail",
    "image_list",
    "recipe_detail",
    "recipe_dockerfile",
    "recipe_edit",
    "recipe_import",
    "recipe_new",
    "recipe_preview",
    "recipe_verb",
    "version_delete",
]
