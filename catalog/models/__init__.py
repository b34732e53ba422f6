"""Rows of the catalogue: images, the facts about the host, the last synchronisation."""

from catalog.models.catalogue_state import CatalogueState
from catalog.models.host_facts import HostFacts
from catalog.models.image import Image

__all__ = ["CatalogueState", "HostFacts", "Image"]
