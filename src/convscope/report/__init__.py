"""Pages that put several families together."""
