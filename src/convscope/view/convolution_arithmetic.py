"""The arithmetic of a convolution as an animation: which input cells make which output cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from convscope.errors import ArgumentError
from convscope.randomness import seeded
from convscope.render.sweep import Board, Numbers
from convscope.results import Film, Recipe

Size = int | tuple[int, int]
MAX_FRAMES = 2500  # more take minutes to watch
MAX_BYTES = 1 << 30  # bytes of all frames


@dataclass(frozen=True)
class Sweep:
    """A kernel that moves over an input; all fields are (rows, columns).

    Attributes:
        input: cells of the input.
        kernel: cells of the kernel.
        padding: empty cells at each side.
        stride: cells from one position of the kernel to the next.
        dilation: cells from one cell of the kernel to the next.
    """

    input: tuple[int, int]
    kernel: tuple[int, int]
    padding: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def output(self) -> tuple[int, int]:
        """Cells of the output; Dumoulin & Visin 2016, arXiv:1603.07285, relationship 15."""
        rows, columns = (
            (i + 2 * p - d * (k - 1) - 1) // s + 1
            for i, k, p, s, d in zip(
                self.input, self.kernel, self.padding, self.stride, self.dilation, strict=True
            )
        )
        return rows, columns

    def positions(self) -> Iterator[tuple[int, int]]:
        """The output's cells, row by row."""
        rows, columns = self.output
        yield from ((y, x) for y in range(rows) for x in range(columns))

    def taps(self, position: tuple[int, int]) -> list[tuple[int, int]]:
        """The cells of the padded input that make one cell of the output."""
        ys, xs = (
            [cell * s + d * k for k in range(length)]
            for cell, s, d, length in zip(
                position, self.stride, self.dilation, self.kernel, strict=True
            )
        )
        return [(y, x) for y in ys for x in xs]


def convolution_arithmetic(
    input: Size = 5,  # noqa: A002 - the field's own word
    *,
    kernel: Size = 3,
    padding: Size = 0,
    stride: Size = 1,
    dilation: Size = 1,
    numbers: bool = False,
    seed: int = 0,
) -> Film:
    """An animated convolution: which input cells each output cell depends on.

    Args:
        input: cells of the input, one number for a square, or (rows, columns); so all others.
        kernel: cells of the kernel.
        padding: empty cells at each side.
        stride: cells from one position of the kernel to the next.
        dilation: cells from one cell of the kernel to the next.
        numbers: write an example into the cells: small integers, their products and sums.
        seed: of these numbers.

    Returns:
        A film with a frame for each cell of the output.

    Raises:
        ArgumentError: if a size is out of range, the kernel does not fit into the padded input,
            or the output has too many cells to be watched.

    Example:
        >>> import convscope as cs
        >>> film = cs.convolution_arithmetic(5, kernel=3, padding=1, stride=2)
        >>> film.words()
        'input 5x5, kernel 3x3, padding 1, stride 2: output 3x3 (9 frames)'
        >>> film.save("convolution.gif").name
        'convolution.gif'
    """
    sweep = Sweep(
        _pair(input, "input", 1),
        _pair(kernel, "kernel", 1),
        _pair(padding, "padding", 0),
        _pair(stride, "stride", 1),
        _pair(dilation, "dilation", 1),
    )
    _check(sweep)
    example = _example(sweep, seed) if numbers else None
    board = Board(sweep.input, sweep.padding, sweep.output, summary(sweep), example)
    _check_memory(board.size, sweep)
    frames = list(board.frames((position, sweep.taps(position)) for position in sweep.positions()))
    return Film(frames, summary(sweep), _recipe(sweep, seed if numbers else None))


def summary(sweep: Sweep) -> str:
    """The five sizes and what comes out.

    >>> summary(Sweep((5, 5), (3, 3), (1, 1), (2, 2), (1, 1)))
    'input 5x5, kernel 3x3, padding 1, stride 2: output 3x3'
    """
    parts = [f"input {_dimensions(sweep.input)}", f"kernel {_dimensions(sweep.kernel)}"]
    steps = {"padding": (sweep.padding, 0), "stride": (sweep.stride, 1)}
    steps["dilation"] = (sweep.dilation, 1)
    for name, (size, default) in steps.items():
        if size != (default, default):
            parts.append(f"{name} {size[0] if size[0] == size[1] else _dimensions(size)}")
    return f"{', '.join(parts)}: output {_dimensions(sweep.output)}"


def _dimensions(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _pair(size: Size, name: str, least: int) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < least or max(pair) > 1000:
        msg = f"{name} must be a number from {least} to 1000, or one for rows and one for columns, not {size}."
        raise ArgumentError(msg)
    return pair[0], pair[1]


def _check(sweep: Sweep) -> None:
    extent = [d * (k - 1) + 1 for d, k in zip(sweep.dilation, sweep.kernel, strict=True)]
    padded = [i + 2 * p for i, p in zip(sweep.input, sweep.padding, strict=True)]
    if extent[0] > padded[0] or extent[1] > padded[1]:
        msg = (
            f"The kernel reaches over {extent[0]}x{extent[1]} cells, but the input with its padding "
            f"has {padded[0]}x{padded[1]}; make the kernel smaller or the padding larger."
        )
        raise ArgumentError(msg)
    frames = sweep.output[0] * sweep.output[1]
    if frames > MAX_FRAMES:
        msg = f"The output has {frames:,} cells, and each is a frame; at most {MAX_FRAMES:,} are allowed. Make the input smaller or the stride larger."
        raise ArgumentError(msg)


def _check_memory(size: tuple[int, int], sweep: Sweep) -> None:
    frames = sweep.output[0] * sweep.output[1]
    needed = 3 * size[0] * size[1] * frames
    if needed > MAX_BYTES:
        msg = f"{frames:,} frames of {size[0]} by {size[1]} pixels take {needed >> 20:,} MB; at most {MAX_BYTES >> 20} are allowed. Make the input smaller or the stride larger."
        raise ArgumentError(msg)


def _example(sweep: Sweep, seed: int) -> Numbers:
    """Small integers, and what torch computes from them."""
    generator = seeded(seed)
    values = torch.randint(0, 4, sweep.input, generator=generator)
    kernel = torch.randint(-1, 3, sweep.kernel, generator=generator)
    output = F.conv2d(
        values[None, None].double(),
        kernel[None, None].double(),
        padding=sweep.padding,
        stride=sweep.stride,
        dilation=sweep.dilation,
    )
    return Numbers(_integers(values), _integers(kernel), _integers(output[0, 0]))


def _integers(values: torch.Tensor) -> NDArray[np.int64]:
    return values.long().numpy()


def _recipe(sweep: Sweep, seed: int | None) -> Recipe:
    sizes = {name: list(size) for name, size in vars(sweep).items()}
    return Recipe(
        "convolution_arithmetic",
        "none",
        "",
        summary(sweep),
        sizes,
        seed,
        {"convscope": version("convscope")},
    )
