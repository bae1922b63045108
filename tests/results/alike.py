"""Whether two results are equal: kind, every field, every number and every bit of the picture."""

import dataclasses
import math

import numpy as np
import torch
from PIL import Image

from convscope.results import Recipe


def assert_equal(first, second, name="result"):
    if isinstance(first, Recipe):
        assert first.json() == second.json(), name
        return
    if isinstance(first, list | tuple):
        assert isinstance(second, list | tuple), name
        assert len(first) == len(second), name
        for k, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_equal(a, b, f"{name}[{k}]")
        return
    assert type(first) is type(second), name
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype, name
        assert torch.equal(first, second), name
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype, name
        assert np.array_equal(first, second), name
    elif isinstance(first, Image.Image):
        assert (first.size, first.mode) == (second.size, second.mode), name
        assert first.tobytes() == second.tobytes(), name
    elif isinstance(first, dict):
        assert list(first) == list(second), name
        for key, value in first.items():
            assert_equal(value, second[key], f"{name}.{key}")
    elif dataclasses.is_dataclass(first):
        for item in dataclasses.fields(first):
            assert_equal(
                getattr(first, item.name), getattr(second, item.name), f"{name}.{item.name}"
            )
    elif isinstance(first, float) and math.isnan(first):
        assert math.isnan(second), name
    else:
        assert first == second, name
