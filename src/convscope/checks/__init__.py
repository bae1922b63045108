"""May a map be trusted? Methods come in as callables, so any map can be checked."""
