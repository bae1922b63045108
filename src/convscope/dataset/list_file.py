"""A list of photographs and their labels, as spreadsheets and scripts write it.

    img/a.png,cat                 a path, or a path and a label, with a comma, semicolon or tab
    "img/c, d.png";dog;train      quotes as in CSV; further columns are passed over
    img/a.png 3                   a space too, where no file has the whole name

A first line of heads ("path,label", "id;breed") says which columns are meant; without one, the path
is in the column whose cells are names of pictures, the label beside it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from convscope.errors import ImageError, printable
from convscope.images.decode import is_picture_name
from convscope.text_files import decode_text, find_delimiter

_PATH_HEADS = (
    *("path", "filepath", "file_path", "image_path", "img_path", "file", "filename", "file_name"),
    *("image", "img", "image_name", "photo", "photograph", "picture", "image_id", "img_id", "id"),
    "name",
)
_LABEL_HEADS = (
    *("label", "labels", "class", "class_name", "classname", "category", "target", "species"),
    *("breed", "y", "class_id", "label_id"),
)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".tif")  # of files that lists name without

Entry = tuple[str, str | None]


def read_list(file: Path) -> list[Entry]:
    """The photographs that a list names, relative to its folder, with their labels.

    Raises:
        ImageError: if it is not a list, or lists nothing.
    """
    shown = printable(str(file))
    try:
        text = decode_text(file.read_bytes(), keep_bytes=True)
    except (OSError, ValueError):
        msg = f"{shown} is not a list of photographs: it must be text with one path per line."
        raise ImageError(msg) from None
    # Only what ends a line in a list ends it here: names hold other separators, and any bytes.
    lines = text.replace("\r\n", "\n").split("\n")
    named = [line for line in lines if line.strip() and not line.startswith("#")]
    try:
        entries = _entries(file.parent, named)
    except csv.Error as error:
        msg = f"{shown} cannot be read as a list of photographs ({error})."
        raise ImageError(msg) from None
    if not entries:
        msg = f"{shown} lists no photographs; write one path per line, followed by a tab and its label."
        raise ImageError(msg)
    return entries


def _entries(folder: Path, lines: Sequence[str]) -> list[Entry]:
    delimiter = find_delimiter(lines)
    rows = [_cells(folder, line, delimiter) for line in lines]
    path, label, headed = _columns(folder, rows)
    return [
        (_existing_name(folder, row[path]), (row[label] or None) if label < len(row) else None)
        for row in rows[headed:]
        if path < len(row) and row[path]
    ]


def _cells(folder: Path, line: str, delimiter: str) -> list[str]:
    """A line as cells; the name of a file may hold what separates others."""
    for name in (line, line.strip()):
        if _is_file(folder, name):
            return [name]
    mark = "\t" if "\t" in line else delimiter
    cells = [
        cell.strip() for cell in next(csv.reader([line], delimiter=mark, skipinitialspace=True))
    ]
    if len(cells) == 1:
        name, _, label = cells[0].rpartition(" ")
        if name and _is_file(folder, name.strip()):
            return [name.strip(), label]
    return cells


def _columns(folder: Path, rows: Sequence[Sequence[str]]) -> tuple[int, int, bool]:
    """The numbers of the columns of paths and of labels, and whether the first line names them."""
    if not rows:
        return 0, 1, False
    heads = [cell.lower().replace(" ", "_") for cell in rows[0]]
    headed = not any(_names_picture(folder, cell) for cell in rows[0]) and any(
        head in (*_PATH_HEADS, *_LABEL_HEADS) for head in heads
    )
    body = rows[headed:][:1000]
    width = max(map(len, rows[:1000]))
    pictures = [
        sum(_names_picture(folder, row[k]) for row in body if k < len(row)) for k in range(width)
    ]
    path = pictures.index(max(pictures)) if width else 0
    if headed and not any(pictures):
        path = _first_column(heads, _PATH_HEADS, 0)
    label = _first_column(heads, _LABEL_HEADS, -1) if headed else -1
    if label in (-1, path):
        label = 0 if path > 0 else 1
    return path, label, headed


def _first_column(heads: Sequence[str], known: Sequence[str], otherwise: int) -> int:
    return next((heads.index(head) for head in known if head in heads), otherwise)


def _names_picture(folder: Path, cell: str) -> bool:
    return is_picture_name(Path(cell.replace("\\", "/"))) or (bool(cell) and _is_file(folder, cell))


def _existing_name(folder: Path, name: str) -> str:
    """A name as the file has it: Windows writes other slashes, some lists no suffix."""
    for form in (name, name.replace("\\", "/")):
        for suffix in ("", *_SUFFIXES):
            if _is_file(folder, form + suffix):
                return form + suffix
            if is_picture_name(Path(form)):
                break
    return name


def _is_file(folder: Path, name: str) -> bool:
    return os.path.isfile(folder / name)  # noqa: PTH113 - answers "no" where Path raises
