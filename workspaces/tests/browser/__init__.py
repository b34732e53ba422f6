"""The portal in a real browser: pages, live updates, terminal, keyboard, accessibility."""
