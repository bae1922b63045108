"""Studies: questions that take many passes, answered with charts and tables."""
