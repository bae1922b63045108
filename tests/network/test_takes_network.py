"""What stands in the place of a network is named, and what to write instead."""

import inspect

import pytest
from torch import nn

import convscope
from convscope.errors import ArgumentError

PUBLIC = [getattr(convscope, name) for name in convscope.__all__]
FUNCTIONS = [
    f for f in PUBLIC if inspect.isfunction(f) and "net" in inspect.signature(f).parameters
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_bare_module_is_refused_with_the_call_that_makes_a_network(function):
    parameters = inspect.signature(function).parameters.values()
    required = {
        p.name: None for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    with pytest.raises(ArgumentError) as caught:
        function(**{**required, "net": nn.Identity()})
    assert (
        f"{function.__name__} takes a Network, not an Identity; pass convscope.load(module) instead "
        "of the module itself."
    ) == str(caught.value)


def test_other_things_are_refused_too(images):
    with pytest.raises(
        ArgumentError, match=r"cam takes .* not a str; load it first, as convscope.load\('x'\)"
    ):
        convscope.cam("x", images)
    with pytest.raises(
        ArgumentError, match=r"maps takes a Network, not a NoneType; convscope.load makes"
    ):
        convscope.maps(None, images)
    with pytest.raises(
        TypeError, match="missing 2 required positional arguments: 'net' and 'images'"
    ):
        convscope.cam()
