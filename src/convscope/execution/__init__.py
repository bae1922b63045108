"""How forward passes are run again: in batches, in part, incrementally, with other ReLU rules."""
