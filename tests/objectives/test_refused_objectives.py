"""Objectives that cannot be computed are refused in one sentence."""

import pytest
import torch

import convscope
from convscope.errors import TargetError

A, B = convscope.logit(0), convscope.logit(1)
OWN = "write other arithmetic as your own Objective(label, layers, read)."


@pytest.mark.parametrize(
    ("arithmetic", "words"),
    [
        (lambda: A * B, "'class:0' can be multiplied by a number, not by 'class:1'; "),
        (lambda: A * "2", "'class:0' can be multiplied by a number, not by '2'; "),
        (lambda: A * [1, 2], "'class:0' can be multiplied by a number, not by [1, 2]; "),
        (lambda: A / B, "'class:0' can be divided by a number, not by 'class:1'; "),
        (lambda: 1 / A, "Nothing can be divided by 'class:0'; "),
        (lambda: A**2, "There are no powers of 'class:0'; "),
        (lambda: A + 1, "'class:0' has a sum with another objective, not with 1; "),
        (lambda: 1 + A, "'class:0' has a sum with another objective, not with 1; "),
        (lambda: A - 1, "'class:0' has a difference with another objective, not with 1; "),
        (lambda: 1 - A, "'class:0' has a difference with another objective, not with 1; "),
    ],
)
def test_arithmetic_that_no_objective_has(arithmetic, words):
    with pytest.raises(TargetError) as caught:
        arithmetic()
    assert words + OWN == str(caught.value)


def test_arithmetic_that_objectives_have(net, images):
    scores = [net.score(one, images) for one in (A, B)]
    for objective, expected in (
        (sum([A, B]), scores[0] + scores[1]),
        (A / 4, scores[0] / 4),
        (A * torch.tensor(2.0), scores[0] * 2),
        (-A, -scores[0]),
    ):
        torch.testing.assert_close(net.score(objective, images), expected)
    with pytest.raises(TargetError, match="'class:0' cannot be divided by zero"):
        A / 0


@pytest.mark.parametrize(
    ("read", "gave"),
    [
        (lambda acts: acts["output"].mean(), r"\(\)"),
        (lambda acts: acts["output"].mean(0), r"\(5,\)"),
        (lambda acts: float(acts["output"].detach().mean()), "a float"),
        (lambda _acts: None, "a NoneType"),
    ],
)
def test_an_objective_over_the_whole_batch(net, images, read, gave):
    own = convscope.Objective("own", ("output",), read)
    sentence = rf"The objective 'own' must give one number per image, shape \(3,\), but gave {gave}"
    for method in (convscope.saliency, convscope.cam):
        with pytest.raises(TargetError, match=sentence):
            method(net, images, own)


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda _: {}["nothing"], "KeyError: 'nothing'"),
        (lambda acts: acts["output"][:, 9], "IndexError: index 9 is out of bounds"),
        (lambda acts: acts["output"] @ acts["output"], "RuntimeError: .*mat1 and mat2 shapes"),
        (lambda acts: acts["output"].maen(1), "AttributeError: 'Tensor' object has no"),
    ],
)
def test_an_objective_that_raises(net, images, read, words):
    own = convscope.Objective("own", ("output",), read)
    for objective in (own, 2 * own, own + A):
        with pytest.raises(TargetError, match=rf"The objective '.*own.*' fails: {words}"):
            convscope.saliency(net, images, objective)
