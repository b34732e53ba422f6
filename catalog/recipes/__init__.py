"""Recipes of custom images as plain values: what was written, what it means, how it is built.

Pure: no model, no engine, no file, no network. Everything a person types is checked here and
quoted in one place (`shell` for commands, `dockerfile` for the file). Not in charge of: who may
build what, which registries are allowed, or carrying a plan out.
"""
