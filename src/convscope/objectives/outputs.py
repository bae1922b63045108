"""Find the scores in a module's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from convscope.errors import NotApplicableError


class Detections(Tensor):
    """Detections, (N, max boxes, 6): score, left, top, right, bottom, number of the class.

    Highest score first; padded with 0.
    """


Selector = int | str | Callable[[Any], Tensor] | None


def scores_in(output: Any, selector: Selector = None) -> Tensor:
    """The tensor of scores in a module's output.

    A tensor is returned as it is, an object or dictionary with `logits` (Hugging Face, Inception)
    or `out` (segmentation) by that name, torchvision's detections as `Detections`, a
    container with one tensor by that tensor.

    Args:
        output: what the module returned.
        selector: an index, a key or attribute, or a function, where the above is ambiguous.

    Raises:
        NotApplicableError: if several tensors could be meant; the message lists them.
    """
    if selector is not None:
        return _select(output, selector)
    if isinstance(output, Tensor):
        return output
    if _is_detection(output):
        return _detections(output)
    parts = _output_fields(output)
    for name in ("logits", "out"):
        scores = parts.get(name, getattr(output, name, None))
        if isinstance(scores, Tensor):
            return scores
    tensors = {name: value for name, value in parts.items() if isinstance(value, Tensor)}
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    raise NotApplicableError(_ambiguous(output, tensors))


def with_batch_axis(output: Tensor, count: int) -> Tensor:
    """An output for `count` images; the axis that `squeeze` takes from a single image is back."""
    squeezed = count == 1 and 1 not in output.shape and not isinstance(output, Detections)
    return output[None] if squeezed else output


def with_image_axis(value: Tensor, count: int | None) -> Tensor:
    """A layer's value; numbers of a single image that `squeeze` left alone are a row again."""
    return value[None] if count == 1 and value.dim() == 1 and len(value) > 1 else value


def steps_before_images(
    shape: Sequence[int], one_image: Sequence[int] | None, count: int
) -> int | None:
    """How many steps an output (T, N, ...) has, with time or crops before the images; None if none.

    Args:
        shape: of the output for `count` images.
        one_image: of the output for one image; None where it is unknown.
        count: how many images.
    """
    if one_image is None or len(one_image) < 2 or len(shape) != len(one_image):
        return None
    steps, images, *rest = one_image
    is_first = steps > 1 and images == 1 and list(shape) == [steps, count, *rest]
    return steps if is_first else None


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
        and all(
            isinstance(image, Mapping) and {"boxes", "scores"} <= set(image) for image in output
        )
    )


def _detections(output: list[Mapping[str, Tensor]]) -> Tensor:
    rows = [_detection_rows(image) for image in output]
    return pad_sequence(rows, batch_first=True).as_subclass(Detections)


def _detection_rows(image: Mapping[str, Tensor]) -> Tensor:
    scores, boxes = image["scores"], image["boxes"]
    labels = image.get("labels", torch.zeros_like(scores))
    return torch.cat([scores[:, None], boxes.to(scores), labels[:, None].to(scores)], 1)


def _output_fields(output: Any) -> dict[Any, Any]:
    if isinstance(output, Mapping):
        return dict(output)
    if hasattr(output, "_asdict"):
        return dict(output._asdict())
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    if is_dataclass(output):  # also with slots
        return {one.name: getattr(output, one.name) for one in fields(output)}
    return dict(vars(output)) if hasattr(output, "__dict__") else {}


def _select(output: Any, selector: int | str | Callable[[Any], Tensor]) -> Tensor:
    if isinstance(output, Tensor) and not callable(selector):
        msg = f"output={selector!r} is not needed: the network returns one tensor, of shape {tuple(output.shape)}."
        raise NotApplicableError(msg)
    try:
        if callable(selector):
            scores = selector(output)
        elif isinstance(output, Mapping) or isinstance(selector, int):
            scores = output[selector]
        else:
            scores = getattr(output, selector)
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        msg = f"output={selector!r} does not fit what the network returns, a {type(output).__name__} ({error})."
        raise NotApplicableError(msg) from None
    if not isinstance(scores, Tensor):
        msg = f"output={selector!r} gives a {type(scores).__name__}, not a tensor of scores."
        raise NotApplicableError(msg)
    return scores
