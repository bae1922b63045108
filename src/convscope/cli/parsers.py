"""Parsers of options: one for each kind of list, size and range.

They are typer callbacks, which know the option's name and let an error through as one sentence;
typer's own `parser=` would put it into a panel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    Integers = list[int]
    Floats = tuple[float, ...]
    Names = list[str]
    Size = int | tuple[int, int]
    Pair = tuple[int, int]
    IntegerOrName = int | str
    NameOrNames = str | list[str]
    FloatsOrName = tuple[float, ...] | str
    Login = tuple[str, str]
else:  # typer reads text, and hands the command what the callback made of it
    Integers = Floats = Names = Size = Pair = IntegerOrName = NameOrNames = Login = str
    FloatsOrName = str

IMAGENET = "imagenet"  # as loading.labels.IMAGENET, which would load torch
MAX_PIXELS = 16384  # of the side of a picture
T = TypeVar("T")


def _parser(
    convert: Callable[[str], T], expected: str, *, quote: bool = True
) -> Callable[[typer.CallbackParam, str | None], T | None]:
    """A callback that converts an option's text; None stays None.

    Args:
        convert: raises a ValueError where the text is of another kind.
        expected: what the option must be, for the error.
        quote: whether the error repeats the text, which may be a password.
    """

    def callback(param: typer.CallbackParam, value: str | None) -> T | None:
        if value is None:
            return None
        try:
            return convert(str(value))  # a default is a number
        except ValueError:
            from convscope.errors import ArgumentError

            instead = f", not {value!r}" if quote else ""
            msg = f"{max(param.opts, key=len)} must be {expected}{instead}."
            raise ArgumentError(msg) from None

    return callback


def _integer(text: str, low: int = 0, high: float = float("inf")) -> int:
    """An integer of digits only: `int` would accept signs, underscores and blanks too."""
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ValueError(text)
    return int(text)


def _integers(text: str) -> list[int]:
    results: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        start = _integer(first)
        results.extend(range(start, (_integer(last, start) if dash else start) + 1))
    return results


def _floats(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _means(text: str) -> tuple[float, ...] | str:
    return IMAGENET if text.strip().lower() == IMAGENET else _floats(text)


def _name(text: str) -> str:
    if not text.strip():
        raise ValueError(text)
    return text.strip()


def _names(text: str) -> list[str]:
    return [_name(part) for part in text.split(",")]


def _name_or_names(text: str) -> str | list[str]:
    result = _names(text)
    return result if len(result) > 1 else result[0]


def _integer_or_name(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _size(text: str, low: int, high: float) -> int | tuple[int, int]:
    rows, x, columns = text.lower().partition("x")
    if not x:
        return _integer(rows, low, high)
    return _integer(rows, low, high), _integer(columns, low, high)


def _shard(text: str) -> tuple[int, int]:
    first, _, count = text.partition("/")
    return _integer(first), _integer(count)


def _login(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not colon:
        raise ValueError(text)
    return user, password


bands = _parser(_integers, "one band, as 7, or three with commas, as 3,2,1")
integers = _parser(_integers, "numbers, as 0-15 or 3,8,21")
means = _parser(
    _means, "one number, one for each channel with commas, as 0.485,0.456,0.406, or imagenet"
)
shares = _parser(_floats, "shares with commas, as 0.25,0.5")
names = _parser(_names, "names with commas")
name_or_names = _parser(_name_or_names, "one name, or several with commas")
integer_or_name = _parser(_integer_or_name, "a number or a name")
pixels = _parser(
    lambda text: _size(text, 1, MAX_PIXELS),
    "a number of pixels, as 224, or height x width, as 240x320",
)
cells = _parser(
    lambda text: _size(text, 0, float("inf")), "a number, as 3, or rows x columns, as 3x5"
)
shard = _parser(_shard, "K/N, as 2/8 for the second of eight")
login = _parser(_login, "a user and a password, as anna:secret-word", quote=False)
