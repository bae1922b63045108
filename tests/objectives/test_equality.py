"""Objectives are data: made alike they are equal, and they survive pickling."""

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convscope
from convscope.attribution.finer_cam import against_rivals
from convscope.errors import TargetError
from convscope.objectives.makers import (
    box,
    channel,
    improbability,
    layer_energy,
    logit,
    neuron,
    predicted,
    probability,
    segment,
)
from convscope.objectives.objective import FrozenTensor, Objective
from convscope.objectives.similarity import (
    activation_distance,
    activation_similarity,
    direction,
    diversity,
)
from convscope.synthesis.invert import relative_distance

SOURCE = Path(convscope.__file__).parent


def vector(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Each recipe is data, so that the same objective can be made twice from nothing shared.
MAKERS = {
    "logit": logit,
    "probability": probability,
    "improbability": improbability,
    "predicted": lambda _: predicted(),
    "channel": lambda n: channel("mid", n),
    "neuron": lambda n: neuron("mid", n, n, 1),
    "centre": lambda n: neuron("mid", n),
    "energy": lambda n: layer_energy(("mid", "stem", "last")[n]),
    "direction": lambda n: direction("mid", vector(n, 8), power=1),
    "distance": lambda n: activation_distance("mid", vector(n, 8, 8, 8)),
    "similarity": lambda n: activation_similarity("mid", vector(n, 8, 8, 8)),
    "relative": lambda n: relative_distance("mid", vector(n, 8, 8, 8)),
    "diversity": lambda n: diversity(("mid", "stem", "last")[n]),
    "finer": lambda n: against_rivals(logit(n)),
}
UNREAD = {  # of networks that are not classifiers
    "segment": segment,
    "masked": lambda n: segment(1, vector(n, 2, 4, 4) > 0),
    "box": box,
}
leaves = st.tuples(st.sampled_from(sorted(MAKERS)), st.integers(0, 2)).map(
    lambda leaf: (leaf[0], 0) if leaf[0] == "predicted" else leaf
)
recipes = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-"]), inner, inner),
        st.tuples(st.just("*"), st.sampled_from([-1.0, 0.5, 2.0]), inner),
    ),
    max_leaves=4,
)


def made(recipe):
    """An objective from its recipe, with nothing shared with another made from it."""
    if recipe[0] == "*":
        return recipe[1] * made(recipe[2])
    if recipe[0] == "+":
        return made(recipe[1]) + made(recipe[2])
    if recipe[0] == "-":
        return made(recipe[1]) - made(recipe[2])
    return (MAKERS | UNREAD)[recipe[0]](recipe[1])


fast = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@fast
@given(recipes, recipes)
def test_equal_when_made_alike_and_only_then(one, other):
    assert made(one) == made(one)
    assert hash(made(one)) == hash(made(one))
    assert (one == other) == (made(one) == made(other))


@fast
@given(recipes)
def test_a_pickle_is_equal_and_reads_the_same(net, images, recipe):
    objective = made(recipe)
    again = pickle.loads(pickle.dumps(objective))  # noqa: S301 - our own bytes
    assert objective == again
    assert hash(objective) == hash(again)
    with torch.no_grad():
        acts = net.activations(images, objective.layers)
        assert torch.equal(objective.read(acts), again.read(acts))
        first = net.activations(images[:1], objective.layers)
        resolved = objective.resolve_target(first)
        assert resolved == again.resolve_target(first)
        assert torch.equal(resolved.read(acts), again.resolve_target(first).read(acts))


@pytest.mark.parametrize("name", sorted(UNREAD))
def test_segments_and_boxes_compare_and_pickle(name):
    for n in range(3):
        objective = made((name, n))
        assert objective == made((name, n)) == pickle.loads(pickle.dumps(objective))  # noqa: S301
        assert objective != made((name, (n + 1) % 3))
        assert objective.for_images(0, 1) == made((name, n)).for_images(0, 1)
        assert 2 * objective - logit(0) == 2 * made((name, n)) - logit(0)


@pytest.mark.parametrize("three", [np.int64(3), torch.tensor(3)])
def test_numbers_of_numpy_and_torch_are_plain_numbers(three):
    assert logit(3) == logit(three)
    assert hash(logit(3)) == hash(logit(three))
    assert channel("mid", 3) == channel("mid", three)
    assert neuron("mid", 3, 3, 3) == neuron("mid", three, three, three)
    assert box(3) == box(three)


def test_what_is_asked_is_told_by_its_kind():
    kinds = {name: made((name, 1)).kind for name in (MAKERS | UNREAD)}
    assert {
        "logit": "logit",
        "probability": "probability",
        "improbability": "improbability",
        "predicted": "predicted",
        "channel": "channel",
        "neuron": "neuron",
        "centre": "neuron",
        "energy": "layer_energy",
        "direction": "direction",
        "distance": "activation_distance",
        "similarity": "activation_similarity",
        "relative": "activation_distance",
        "diversity": "diversity",
        "finer": "finer_cam",
        "segment": "segment",
        "masked": "segment",
        "box": "box",
    } == kinds
    a, b = logit(1), channel("mid", 2)
    assert ("sum", "difference", "scaled", "scaled") == tuple(
        o.kind for o in (a + b, a - b, 2 * a, -a)
    )


def mean_of_mid(acts):
    return acts["mid"].mean((1, 2, 3))


def max_of_mid(acts):
    return acts["mid"].amax((1, 2, 3))


def test_an_objective_of_ones_own_compares_by_its_function():
    own = Objective("mine", ("mid",), mean_of_mid)
    assert "custom" == own.kind
    assert own == Objective("mine", ["mid"], mean_of_mid) == pickle.loads(pickle.dumps(own))  # noqa: S301
    assert own == Objective("mine", "mid", mean_of_mid)
    assert own != Objective("mine", ("mid",), max_of_mid)
    assert 2 * own == 2 * Objective("mine", ("mid",), mean_of_mid)


def test_a_target_does_not_follow_later_changes_of_its_tensor():
    given, mask = torch.rand(8), torch.ones(2, 4, 4, dtype=torch.bool)
    target = torch.rand(8, 8, 8)
    before = [direction("mid", given), activation_distance("mid", target), segment(0, mask)]
    hashes = [hash(one) for one in before]
    for tensor in (given, target, mask):
        tensor.zero_()
    assert hashes == [hash(one) for one in before]
    assert before[1] != activation_distance("mid", target)
    assert before[2] != segment(0, mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.bool])
def test_tensors_compare_by_value(dtype):
    one = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).to(dtype)
    assert FrozenTensor.of(one) == FrozenTensor.of(one.clone())
    assert FrozenTensor.of(one) == FrozenTensor.of(one.T)
    assert FrozenTensor.of(one) != FrozenTensor.of(one.flatten())
    assert FrozenTensor.of(one) != FrozenTensor.of(one.flip(0))
    assert FrozenTensor.of(one) != FrozenTensor.of(one.double())
    assert FrozenTensor.of(one) != one.tolist()


def test_zero_equals_minus_zero_and_has_its_hash():
    one, other = FrozenTensor.of(torch.tensor([0.0])), FrozenTensor.of(torch.tensor([-0.0]))
    assert one == other
    assert hash(one) == hash(other)


CUTS = ("startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition")


def decided_by(node):
    """What a piece of code compares, or cuts apart as text."""
    if isinstance(node, ast.Compare):
        return [node.left, *node.comparators]
    return [node.value] if isinstance(node, ast.Attribute) and node.attr in CUTS else []


def is_label(node):
    """Whether it is the label of an objective; the label of a photograph is its class."""
    named = isinstance(node, ast.Attribute) and node.attr == "label"
    return named and "item" not in ast.unparse(node)


def test_no_code_decides_by_a_label():
    found = [
        f"{file.name}: {ast.unparse(node)}"
        for file in SOURCE.rglob("*.py")
        # The first writes labels, with brackets where needed; the second has nothing but a file's.
        if file.name not in ("objective.py", "remake.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if any(is_label(part) for part in decided_by(node))
    ]
    assert [] == found


def test_an_objective_that_reads_another_layer_is_told_which_it_named(net, images):
    other = Objective("mine", "mid", lambda acts: acts["stem"].mean((1, 2, 3)))
    with pytest.raises(TargetError, match=r"'stem' was not captured.*\('mid'\)"):
        net.score(other, images)
