"""How many channels a network takes: three of colours, one of grey, or any number of bands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convscope.errors import NotApplicableError
from convscope.images.bands import COLOURS
from convscope.tracing.capture import first_channels

MAX_CHANNELS = 16  # that are tried where no layer says how many it takes
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, for networks that take grey pictures


@dataclass(frozen=True)
class InputChannels:
    """How many channels images have, and how many the module takes.

    Attributes:
        images: of the images that are given. 3 for networks of grey pictures too: colours become
            grey by their luma.
        module: of what reaches the module, after normalisation; None: it takes what it gets.
    """

    images: int
    module: int | None

    @classmethod
    def find(
        cls,
        module: nn.Module,
        preprocess: Callable[[Tensor], Tensor],
        grey: Callable[[int], Tensor],
        name: str,
        given: int | None = None,
    ) -> InputChannels:
        """Try a module with grey images, of three channels first.

        Args:
            module: in eval mode.
            preprocess: images -> what reaches the module.
            grey: number of channels -> a grey image of these.
            name: of the network, for errors.
            given: the number of channels for which mean and deviation were given; None: any.

        Raises:
            NotApplicableError: if images of no number of channels can be brought to the module.
        """
        count = given or COLOURS
        x = _tried(preprocess, grey(count))
        if x is None:  # a function of the user's that takes other images than those of colours
            counts = (n for n in range(1, MAX_CHANNELS + 1) if n != count)
            tries = ((n, _tried(preprocess, grey(n))) for n in counts)
            count, x = next(((n, y) for n, y in tries if y is not None), (count, None))
        if x is None:
            x = preprocess(grey(count))  # which raises what is wrong
        expected = expected_channels(module, x)
        if expected in (None, x.shape[1]) or (expected == 1 and x.shape[1] == COLOURS):
            return cls(count, expected)
        for other in (expected, *range(1, MAX_CHANNELS + 1)):
            y = None if given else _tried(preprocess, grey(other))
            if y is not None and y.shape[1] == expected:
                return cls(other, expected)
        how = (
            f"mean and std have {given} numbers"
            if given
            else f"its normalisation gives {x.shape[1]}"
        )
        msg = f"{name} takes images of {expected} channels, but {how}."
        raise NotApplicableError(msg)


def _tried(preprocess: Callable[[Tensor], Tensor], image: Tensor) -> Tensor | None:
    try:
        x = preprocess(image)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever a user's function raises
        return None
    return x


def expected_channels(module: nn.Module, x: Tensor) -> int | None:
    """How many input channels a module expects; None where it takes `x` and does not say more.

    The first convolution or norm says it; of a module that begins otherwise and cannot compute on
    `x`, it is the first number of channels that it can compute on.

    Args:
        module: in eval mode.
        x: a normalized image.

    Raises:
        NotApplicableError: if it takes its pictures as (N, H, W, C).
    """
    if x.dim() != 4:  # `normalize` made something else of the picture, as numbers of a palette
        module(x)
        return None
    try:
        channels = first_channels(module, x)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a user's module raises
        if (accepted := _accepted_channels(module, x)) is None:
            _refuse_channels_last(module, x)
            _refuse_channels_last(module, x[:, :1])
            raise
        return accepted
    if channels is None:
        return None
    reached, expected = channels
    if reached in (expected, x.shape[1]):
        return x.shape[1] if reached == expected else expected
    for count in _before_first_layer(x.shape[1], reached, expected):
        if computes(module, x[:, :1].repeat(1, count, 1, 1)):
            return count
    _refuse_channels_last(module, x[:, :1].repeat(1, expected, 1, 1))  # rows taken for channels
    module(x)  # which raises what is wrong
    return expected


def _before_first_layer(count: int, reached: int, expected: int) -> Iterator[int]:
    """The channels of an image of which `expected` may reach the first layer.

    Of `count` channels `reached` did: something multiplies them, as space to depth does, or adds to
    them, as the coordinates of CoordConv.

    >>> list(_before_first_layer(3, 12, 52)), list(_before_first_layer(3, 5, 15))
    ([13, 43], [9, 13])
    """
    if expected * count % reached == 0:
        yield expected * count // reached
    if expected > reached - count > 0:
        yield expected - (reached - count)


def _accepted_channels(module: nn.Module, x: Tensor) -> int | None:
    """The first number of channels on which a module can compute; None if there is none."""
    for count in range(1, MAX_CHANNELS + 1):
        if computes(module, x[:, :1].repeat(1, count, 1, 1)):
            return count
    return None


def _refuse_channels_last(module: nn.Module, x: Tensor) -> None:
    """Refuse a module that cannot compute on `x` (1, C, H, W) unless its channels are last.

    Raises:
        NotApplicableError: if it is one.
    """
    if not computes(module, x) and computes(module, x.permute(0, 2, 3, 1)):
        msg = (
            "This network takes its pictures as (N, H, W, C), but they come as (N, C, H, W); wrap it in "
            "a module whose forward passes on x.permute(0, 2, 3, 1)."
        )
        raise NotApplicableError(msg)


def computes(module: nn.Module, x: Tensor) -> bool:
    """Whether a module runs on `x` without an error."""
    try:
        module(x)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever a user's module raises
        return False
    return True


def convert_channels(x: Tensor, expected: int | None, name: str) -> Tensor:
    """An image with the channels a network expects: colour becomes grey where it expects one.

    Raises:
        NotApplicableError: if one cannot be converted into the other.
    """
    if expected == 1 and x.shape[1] == COLOURS:
        return (x * x.new_tensor(_LUMA_WEIGHTS).view(3, 1, 1)).sum(1, keepdim=True)
    if expected is not None and x.shape[1] != expected:
        msg = f"{name} takes images of {expected} channels, but these have {x.shape[1]}."
        raise NotApplicableError(msg)
    return x
