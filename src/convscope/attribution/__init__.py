"""Which parts of a photograph an objective depends on."""
