"""Finding the scores in whatever a module returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from convscope.errors import NotApplicableError


class Detections(Tensor):
    """What a detector found, (N, most, 6): score, left, top, right, bottom, number of the class.

    The surest stand first; where a photograph has fewer, the rest is 0.
    """


Selector = int | str | Callable[[Any], Tensor] | None


def scores_in(output: Any, selector: Selector = None) -> Tensor:
    """The tensor of scores in a module's output.

    A tensor is taken as it is, an object or dictionary with `logits` (Hugging Face, Inception)
    or `out` (segmentation) by that name, torchvision's detections as `Detections`, a
    container with one tensor by that tensor.

    Args:
        output: what the module returned.
        selector: a place, a key or attribute, or a function, where the above is not enough.

    Raises:
        NotApplicableError: if several tensors could be meant; the message lists them.
    """
    if selector is not None:
        return _selected(output, selector)
    if isinstance(output, Tensor):
        return output
    if _is_detection(output):
        return _detections(output)
    parts = _parts(output)
    for name in ("logits", "out"):
        found = parts.get(name, getattr(output, name, None))
        if isinstance(found, Tensor):
            return found
    tensors = {name: value for name, value in parts.items() if isinstance(value, Tensor)}
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    raise NotApplicableError(_ambiguous(output, tensors))


def _ambiguous(output: Any, tensors: dict[Any, Tensor]) -> str:
    kind = type(output).__name__
    if not tensors:
        return (
            f"The network returns a {kind} in which no tensor was found; give a function that "
            "takes the scores out of it, as output=function."
        )
    shapes = ", ".join(f"{name!r} {tuple(value.shape)}" for name, value in tensors.items())
    return (
        f"The network returns a {kind} of {len(tensors)} tensors ({shapes}); say which holds the "
        "scores, as output=0, output='name' or a function."
    )


def _is_detection(output: Any) -> bool:
    """What torchvision's detectors return: a dictionary of boxes for each photograph."""
    return (
        isinstance(output, list)
        and len(output) > 0
        and all(isinstance(one, Mapping) and {"boxes", "scores"} <= set(one) for one in output)
    )


def _detections(output: list[Mapping[str, Tensor]]) -> Tensor:
    found = [_rows_of(one) for one in output]
    return pad_sequence(found, batch_first=True).as_subclass(Detections)


def _rows_of(one: Mapping[str, Tensor]) -> Tensor:
    scores, boxes = one["scores"], one["boxes"]
    labels = one.get("labels", torch.zeros_like(scores))
    return torch.cat([scores[:, None], boxes.to(scores), labels[:, None].to(scores)], 1)


def _parts(output: Any) -> dict[Any, Any]:
    if isinstance(output, Mapping):
        return dict(output)
    if hasattr(output, "_asdict"):
        return dict(output._asdict())
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    return dict(vars(output)) if hasattr(output, "__dict__") else {}


def _selected(output: Any, selector: int | str | Callable[[Any], Tensor]) -> Tensor:
    if isinstance(output, Tensor) and not callable(selector):
        msg = f"output={selector!r} is not needed: the network returns one tensor, of shape {tuple(output.shape)}."
        raise NotApplicableError(msg)
    try:
        if callable(selector):
            found = selector(output)
        elif isinstance(output, Mapping) or isinstance(selector, int):
            found = output[selector]
        else:
            found = getattr(output, selector)
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        msg = f"output={selector!r} does not fit what the network returns, a {type(output).__name__} ({error})."
        raise NotApplicableError(msg) from None
    if not isinstance(found, Tensor):
        msg = f"output={selector!r} gives a {type(found).__name__}, not a tensor of scores."
        raise NotApplicableError(msg)
    return found
