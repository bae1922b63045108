"""From the numbers that a picture holds to pixels in [0, 1].

What is black and what is white follows from the type of the numbers or from a range that is given,
never from the numbers of one picture: two pictures of one data set are read alike. Only NumPy is
needed, so that the child process of `decoding_process` starts quickly.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.errors import ArgumentError, ImageError

Range = tuple[float, float]
"""The values of black and white."""

CLIPPED_FRACTION = 0.01  # of the values may lie outside [0, 1], as after resampling
_ROUNDING = 1e-5  # outside [0, 1] by less than this is rounding
_BYTES_AND_WORDS = (np.dtype(np.uint8), np.dtype(np.uint16))
_USUAL_WHITES = (1, 255, 1023, 4095, 16383, 65535)
_EXACT_IN_FLOAT32 = 2  # bytes of a number


def checked_range(range: Any) -> Range | None:  # noqa: A002 - as the option is called
    """A range as two floats; None stays None.

    Raises:
        ArgumentError: if it is not two finite numbers, the larger one last.
    """
    if range is None:
        return None
    pair = tuple(range) if isinstance(range, tuple | list | np.ndarray) else ()
    real = all(isinstance(v, numbers.Real) and np.isfinite(float(v)) for v in pair)
    if len(pair) != 2 or not real or not float(pair[0]) < float(pair[1]):
        msg = f"range must be (low, high), the values of black and of white, not {range!r}."
        raise ArgumentError(msg)
    return float(pair[0]), float(pair[1])


def is_unit(values: Any) -> bool:
    """Whether all values of an array or tensor lie in [0, 1], as those of photographs do."""
    return bool(values.min() >= 0 and values.max() <= 1)


def refuse_masked(values: Any) -> None:
    """Refuse arrays of which parts are masked: what lies under the mask is no picture.

    Raises:
        ImageError: if they are.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        count = int(np.count_nonzero(np.ma.getmaskarray(values)))
        msg = f"{count:,} of {values.size:,} values of this array are masked; fill them first, as by array.filled(0)."
        raise ImageError(msg)


def scale_to_unit(
    values: NDArray[Any],
    range: Range | None = None,  # noqa: A002
    name: str = "This array",
) -> tuple[NDArray[np.float32], str | None]:
    """Values of any type as pixels in [0, 1].

    Bytes are divided by 255, uint16 by 65535, truth values are 0 and 1; floats lie in [0, 1]
    already, but for up to 1% of values, which are clipped. Everything else needs a range.

    Args:
        values: of one picture.
        range: the values of black and white; what lies beyond is clipped.
        name: what to call the picture in errors.

    Returns:
        The pixels, and one sentence where values were clipped.

    Raises:
        ImageError: if values are not finite, not of the range, or need one.
    """
    if values.dtype.kind not in "buif":
        msg = f"{name} holds values of type {values.dtype}, but pixels are numbers."
        raise ImageError(msg)
    if not values.size:
        return np.zeros(values.shape, np.float32), None
    _check_finite(values, name)
    if range is None:
        low, high = _range_of_type(values, name)
    else:
        low, high = _range_within_type(range, values, name)
    exact = values.dtype.itemsize <= _EXACT_IN_FLOAT32 or values.dtype == np.float32
    scaled: NDArray[Any] = values.astype(np.float32 if exact else np.float64)
    if (low, high) != (0, 1):  # in place, for pictures are large
        scaled -= low
        scaled /= high - low
    outside = int(np.count_nonzero((scaled < -_ROUNDING) | (scaled > 1 + _ROUNDING)))
    if range is None and outside > CLIPPED_FRACTION * values.size:
        raise ImageError(_needs_range(values, name))
    note = _clipped(values, outside, (low, high), name) if outside else None
    return np.clip(scaled, 0, 1, out=scaled).astype(np.float32, copy=False), note


def _check_finite(values: NDArray[Any], name: str) -> None:
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        msg = (
            f"{name} holds {bad:,} of {values.size:,} pixel values that are not finite (NaN or "
            "infinity); replace them first."
        )
        raise ImageError(msg)


def _range_of_type(values: NDArray[Any], name: str) -> Range:
    """Black and white of values whose type says it.

    Raises:
        ImageError: if it does not.
    """
    if values.dtype.kind in "bf":
        return 0, 1
    if values.dtype.newbyteorder("=") in _BYTES_AND_WORDS:
        return 0, float(np.iinfo(values.dtype).max)
    raise ImageError(_needs_range(values, name))


def _range_within_type(range: Range, values: NDArray[Any], name: str) -> Range:  # noqa: A002
    """A range, unless values of this type cannot reach its ends: it belongs to other pictures.

    Raises:
        ImageError: if so.
    """
    if values.dtype.kind == "f":
        return range
    info = None if values.dtype.kind == "b" else np.iinfo(values.dtype)
    least, most = (info.min, info.max) if info else (0, 1)
    if range[0] < least or range[1] > most:
        msg = (
            f"{name} holds values of type {values.dtype}, which run from {least} to {most}, so "
            f"{_written(range)} is not its range; leave it out, or give that of this picture."
        )
        raise ImageError(msg)
    return range


def _needs_range(values: NDArray[Any], name: str) -> str:
    low, high = float(values.min()), float(values.max())
    black, white = _likely_range(values)
    write = (
        f"say what is black and what is white, as in read(..., {_written((black, white))}), or with "
        f"--range {black:g} {white:g} in the command"
    )
    if values.dtype.kind != "f":
        return (
            f"{name} holds integers of type {values.dtype}, from {low:.0f} to {high:.0f}, whose white "
            f"is not known: {write}."
        )
    before = (
        " Pixels are given before any normalisation, which is the network's own first step."
        if low < 0
        else ""
    )
    return f"{name} holds pixels from {low:.6g} to {high:.6g}, but they must lie in [0, 1]: {write}.{before}"


def _likely_range(values: NDArray[Any]) -> Range:
    """What a person most likely has to write for such values."""

    def few(outside: NDArray[np.bool_]) -> bool:
        return bool(outside.mean() <= CLIPPED_FRACTION)

    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and low >= -0.5 and high <= 1.5:
        return 0.0, 1.0  # with an overshoot, which is clipped
    if few(values < 0):
        whites = (float(white) for white in _USUAL_WHITES if few(values > white))
        return 0.0, next(whites, high)
    if few(abs(values.astype(np.float64)) > 1):
        return -1.0, 1.0
    return low, high if high > low else low + 1


def _clipped(values: NDArray[Any], outside: int, range: Range, name: str) -> str:  # noqa: A002
    return (
        f"{name}: {outside:,} of {values.size:,} values lie outside "
        f"[{range[0]:g}, {range[1]:g}], from {float(values.min()):.6g} to {float(values.max()):.6g}, "
        "and were clipped."
    )


def _written(range: Range) -> str:  # noqa: A002
    """As a person types it."""
    return f"range=({range[0]:g}, {range[1]:g})"
