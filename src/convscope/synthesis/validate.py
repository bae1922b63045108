"""Checks of a caller's preset, steps and size."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral

from torch import Tensor

from convscope.errors import ArgumentError, NotApplicableError
from convscope.images.pixel_values import is_unit
from convscope.network.network import Network
from convscope.synthesis.presets import PRESETS, Preset

MIN_SIDE, MAX_SIDE = 8, 4096  # pixels of a side


def check_photograph(pixels: Tensor, what: str) -> None:
    """Refuse images whose values are not those of pixels, between which `what` keeps its own.

    Raises:
        NotApplicableError: if values do not lie in [0, 1].
    """
    if not is_unit(pixels):
        low, high = (float(end) for end in pixels.aminmax())
        msg = f"{what} makes pixels in [0, 1], but the values of this image run from {low:.6g} to {high:.6g}; it is for photographs."
        raise NotApplicableError(msg)


def resolve_preset(preset: str | Preset, steps: int | None) -> Preset:
    """A preset by name, with as many steps as asked for.

    Raises:
        ArgumentError: if there is no such preset, or fewer than one step.
    """
    if isinstance(preset, str) and preset not in PRESETS:
        msg = f"There is no preset {preset!r}; there are {', '.join(PRESETS)}."
        raise ArgumentError(msg)
    resolved = PRESETS[preset] if isinstance(preset, str) else preset
    if steps is not None and (not isinstance(steps, Integral) or steps < 1):
        msg = f"steps must be at least 1, not {steps}."
        raise ArgumentError(msg)
    return resolved if steps is None else replace(resolved, steps=steps)


def resolve_size(
    net: Network, preset: Preset, size: int | tuple[int, int] | None
) -> tuple[int, int]:
    """(height, width) of the picture in pixels.

    Raises:
        ArgumentError: if it is none that can be made.
    """
    objective = (preset.size or net.input_size) if size is None else size
    sides = tuple(objective) if isinstance(objective, tuple | list) else (objective, objective)
    if len(sides) != 2 or not all(_is_side(side) for side in sides):
        msg = f"The size of a picture must be from {MIN_SIDE} to {MAX_SIDE} pixels, as 224 or (240, 320), not {size!r}."
        raise ArgumentError(msg)
    return int(sides[0]), int(sides[1])


def _is_side(side: object) -> bool:
    return isinstance(side, Integral) and MIN_SIDE <= int(side) <= MAX_SIDE


def scale_to_side(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A size in proportion whose longer side is `side`.

    >>> scale_to_side((200, 100), 61)
    (61, 30)
    """
    return max(1, round(size[0] * side / max(size))), max(1, round(size[1] * side / max(size)))
