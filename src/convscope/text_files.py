"""Text and tables as people's programs write them: byte order marks, UTF-16, quotes, semicolons."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence

DELIMITERS = ",;\t"
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode_text(content: bytes, *, keep_bytes: bool = False) -> str:
    """Bytes of a file as text, without a byte order mark.

    Args:
        content: UTF-8, or UTF-16 or UTF-32 with a mark; everything else is taken for Windows' and
            ISO's western letters.
        keep_bytes: keep what is not UTF-8 as surrogates instead, as Python does in names of files.

    Raises:
        ValueError: if it is not text.
    """
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding, "surrogateescape" if keep_bytes else "strict")
    except UnicodeDecodeError:
        text = content.decode("latin-1" if encoding == "utf-8" else encoding)
    if "\0" in text:
        msg = "it holds bytes that are not text"
        raise ValueError(msg)
    return text


def table_rows(text: str) -> list[list[str]]:
    """The rows of a CSV file, whose cells commas, semicolons or tabs separate; blank ones are []."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    delimiter = find_delimiter([line for line in lines if line.strip()])
    rows = csv.reader([line + "\n" for line in lines], delimiter=delimiter, skipinitialspace=True)
    return [[cell.strip() for cell in row] for row in rows]


def find_delimiter(lines: Sequence[str]) -> str:
    """What most lines hold outside quotes: a tab, or else a semicolon, or else a comma."""
    for mark in reversed(DELIMITERS):
        split = csv.reader(lines, delimiter=mark, skipinitialspace=True)
        if 2 * sum(len(row) > 1 for row in split) > len(lines):
            return mark
    return ","
