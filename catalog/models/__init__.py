"""Rows of the catalogue: images and recipes, builds, the facts about the host."""

from catalog.models.build import Build, BuildOutput
from catalog.models.build_policy import BuildPolicy
from catalog.models.catalogue_state import CatalogueState
from catalog.models.host_facts import HostFacts
from catalog.models.image import Image
from catalog.models.image_packages import ImagePackages
from catalog.models.package_list import PackageList
from catalog.models.recipe import Recipe

__all__ = [
    "Build",
    "BuildOutput",
    "BuildPolicy",
    "CatalogueState",
    "HostFacts",
    "Image",
    "ImagePackages",
    "PackageList",
    "Recipe",
]
