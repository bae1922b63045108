"""Can a map be trusted? Methods are passed as callables, so any map can be checked."""
