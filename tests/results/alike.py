"""Whether two results are equal: kind, every field, every number and every bit of the picture."""

import dataclasses
import math

import numpy as np
import torch
from PIL import Image

from convscope.results import Recipe


def assert_equal(first, second, name="result"):
    if isinstance(first, list | tuple):
        assert isinstance(second, list | tuple), name
        assert len(first) == len(second), name
        for k, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_equal(a, b, f"{name}[{k}]")
        return
    assert type(first) is type(second), name
    if isinstance(first, Recipe):
        assert first.json() == second.json(), name
    elif isinstance(first, dict):
        assert list(first) == list(second), name
        for key, value in first.items():
            assert_equal(value, second[key], f"{name}.{key}")
    elif dataclasses.is_dataclass(first):
        assert_equal(vars(first), vars(second), name)
    else:
        assert _same(first, second), name


def _same(first, second):
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    if isinstance(first, Image.Image):
        return (first.mode, first.size, first.tobytes()) == (
            second.mode,
            second.size,
            second.tobytes(),
        )
    return first == second or (isinstance(first, float) and math.isnan(first + second))
