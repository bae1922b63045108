"""Text of options as values, each kind read in one place."""

from types import SimpleNamespace

import pytest

from convscope.cli import parsers
from convscope.errors import ArgumentError

OPTION = SimpleNamespace(opts=["-o", "--option"])


@pytest.mark.parametrize(
    ("parser", "text", "expected"),
    [
        (parsers.integers, "3", [3]),
        (parsers.integers, "0-3, 8,21", [0, 1, 2, 3, 8, 21]),
        (parsers.means, "0.5", (0.5,)),
        (parsers.means, "0.485,0.456,0.406", (0.485, 0.456, 0.406)),
        (parsers.shares, "0.25,0.5", (0.25, 0.5)),
        (parsers.names, "conv:1, conv:2", ["conv:1", "conv:2"]),
        (parsers.name_or_names, "conv:1", "conv:1"),
        (parsers.name_or_names, "conv:1,conv:2", ["conv:1", "conv:2"]),
        (parsers.integer_or_name, "2", 2),
        (parsers.integer_or_name, "colour", "colour"),
        (parsers.pixels, "224", 224),
        (parsers.pixels, "240X320", (240, 320)),
        (parsers.cells, "0", 0),
        (parsers.shard, "2/8", (2, 8)),
        (parsers.login, "anna:a:b", ("anna", "a:b")),
        (parsers.integers, None, None),
    ],
)
def test_what_is_read(parser, text, expected):
    assert expected == parser(OPTION, text)


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (parsers.integers, "3-1"),
        (parsers.integers, "3-"),
        (parsers.integers, "-1"),
        (parsers.integers, "1_0"),
        (parsers.integers, "a"),
        (parsers.integers, ""),
        (parsers.means, "0.5;0.5"),
        (parsers.shares, "half"),
        (parsers.names, "conv:1,,conv:2"),
        (parsers.names, ""),
        (parsers.pixels, "0"),
        (parsers.pixels, "20000"),
        (parsers.pixels, "1x2x3"),
        (parsers.cells, "3x"),
        (parsers.shard, "two"),
        (parsers.shard, "2"),
    ],
)
def test_what_is_refused(parser, text):
    with pytest.raises(ArgumentError, match="^--option must be ") as error:
        parser(OPTION, text)
    assert str(error.value).endswith(f", not {text!r}.")


def test_a_login_is_not_repeated():
    with pytest.raises(ArgumentError) as error:
        parsers.login(OPTION, "secret-word")
    assert "--option must be a user and a password, as anna:secret-word." == str(error.value)
