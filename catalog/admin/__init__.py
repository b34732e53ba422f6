"""Admin of images, recipes, builds, package lists, and what builds may do."""

from catalog.admin.builds import BuildAdmin
from catalog.admin.images import ImageAdmin
from catalog.admin.lists import PackageListAdmin
from catalog.admin.policy import BuildPolicyAdmin
from catalog.admin.recipes import RecipeAdmin

__all__ = ["BuildAdmin", "BuildPolicyAdmin", "ImageAdmin", "PackageListAdmin", "RecipeAdmin"]
