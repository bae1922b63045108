"""How passes are run again: in batches, in part, with other ReLU rules, incrementally."""
