"""Can a network learn what has no sense? Zhang et al. 2017, arXiv:1611.03530."""
