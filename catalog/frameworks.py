"""Names of frameworks: what people type, what the catalogue writes, what pages show. Pure."""

from __future__ import annotations

ALIASES = {"torch": "pytorch", "tf": "tensorflow"}
DISPLAY_NAMES = {
    "pytorch": "PyTorch",
    "tensorflow": "TensorFlow",
    "mxnet": "MXNet",
    "rocm": "ROCm",
    "jax": "JAX",
}


def normalise_framework(name: str) -> str:
    """Return the lower-case key of a framework, aliases resolved (`Torch` → `pytorch`)."""
    key = name.strip().lower()
    return ALIASES.get(key, key)


def display_framework(name: str) -> str:
    """Return the makers' spelling, or the name as it is written."""
    return DISPLAY_NAMES.get(normalise_framework(name), name)
