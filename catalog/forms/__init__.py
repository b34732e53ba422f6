"""Forms of the catalogue: looking for images, writing recipes, verbs on them."""

from catalog.forms.images import AllowLocalImageForm, ImageFilterForm
from catalog.forms.recipe_verbs import BuildForm, ForkForm, RenameForm, ShareForm
from catalog.forms.recipes import RecipeForm, UploadForm

__all__ = [
    "AllowLocalImageForm",
    "BuildForm",
    "ForkForm",
    "ImageFilterForm",
    "RecipeForm",
    "RenameForm",
    "ShareForm",
    "UploadForm",
]
