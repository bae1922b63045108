"""Names of classes, from whatever people keep them in."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from convscope.errors import LoadError, printable
from convscope.text_files import decode_text, table_rows

Labels = Sequence[str] | Mapping[int, str] | Mapping[str, int] | str | Path

IMAGENET = "imagenet"
_MAPPING_KEYS = (
    *("id2label", "label2id", "idx_to_class", "idx2label", "class_to_idx"),
    *("classes", "labels", "names", "categories"),
)
_NAME_COLUMNS = ("name", "label", "class", "class_name", "classname", "category", "names", "labels")
_OTHER_FILES = (".yaml", ".yml", ".pbtxt", ".xml", ".html", ".toml", ".mat", ".xlsx", ".pdf")
_MAX_CLASSES = 1_000_000


def read_labels(labels: Labels) -> tuple[str, ...]:
    """Class names in the order of their numbers; "" for a class without one.

    Args:
        labels: names in order; "cat,dog"; {number: name} or {name: number}; "imagenet"; or a file: a
            name a line, where a blank line stands for a class without a name, a CSV file with a column of
            names and perhaps one of numbers, or JSON with a list or a dict of them.

    Raises:
        LoadError: if they cannot be read.
    """
    if isinstance(labels, str) and labels.lower() == IMAGENET:
        return imagenet_labels()
    if isinstance(labels, str) and "," in labels and not os.path.exists(labels):  # noqa: PTH110 - of any text
        return tuple(name.strip() for name in labels.split(","))
    if isinstance(labels, str | Path):
        return _from_file(Path(labels).expanduser())
    return _in_order(labels, "labels")


def imagenet_labels() -> tuple[str, ...]:
    """The thousand classes of ImageNet, as torchvision names them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def misfit(labels: Sequence[str], outputs: int, name: str) -> str | None:
    """One sentence where the number of names is not that of a network's outputs."""
    if len(labels) == outputs:
        return None
    count = f"{len(labels)} name{'s' * (len(labels) != 1)}"
    what = f"labels holds {count}, but {name} has {outputs} output{'s' * (outputs != 1)}"
    if outputs == 1 < len(labels):
        return f"{what}: give the one name of what a high score means, as labels=['yes']."
    if len(labels) < outputs:
        return f"{what}: classes from {len(labels)} on go by their numbers."
    return f"{what}: names from {labels[outputs]!r} on are left out, and the others may be shifted."


def _from_file(path: Path) -> tuple[str, ...]:
    shown = printable(str(path))
    if not path.is_file():
        msg = f'There is no label file {shown}; "imagenet" are those of ImageNet.'
        raise LoadError(msg)
    if path.suffix.lower() in _OTHER_FILES:
        msg = f"{shown} cannot be read as labels: give text with a name a line, CSV or JSON."
        raise LoadError(msg)
    try:
        text = decode_text(path.read_bytes())
        result = _parsed(text, path.suffix.lower())
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        msg = f"{shown} cannot be read as labels ({error})."
        raise LoadError(msg) from None
    names = _in_order(result, shown)
    if not any(names):
        msg = f"{shown} holds no names."
        raise LoadError(msg)
    return names


def _parsed(text: str, suffix: str) -> Any:
    """A list or a mapping of names, out of a file."""
    if suffix == ".json":
        return json.loads(text)
    if text.lstrip().startswith(("{", "[")):  # a dict as Python prints it, or JSON by another name
        try:
            return json.loads(text)
        except ValueError:
            return ast.literal_eval(text.strip())
    if suffix in (".csv", ".tsv"):
        return _from_table(table_rows(text))
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _from_table(rows: list[list[str]]) -> list[str] | dict[int, str]:
    """The names of a CSV file; by their numbers where a column holds them.

    Raises:
        ValueError: if it has several columns and none is called as names are.
    """
    while rows and not any(rows[-1]):
        rows.pop()
    heads = [cell.lower() for cell in rows[0]] if rows else []
    column = next((heads.index(head) for head in _NAME_COLUMNS if head in heads), None)
    body = rows if column is None else rows[1:]
    if all(len(row) <= 1 for row in body):
        return [row[0] if row else "" for row in body]
    full = [row for row in body if any(row)]
    width = min(map(len, full))
    numbered = [k for k in range(width) if all(row[k].isdecimal() for row in full)]
    if column is None and not numbered and len({len(row) for row in full}) == 1 and len(full) > 1:
        numbered = [k for k in range(width) if all(row[k].isdecimal() for row in full[1:])]
        full = full[1:] if numbered else full  # a line of heads
    if column is None:
        named = [k for k in range(width) if k not in numbered]
        if len(named) != 1:
            msg = f"it has {width} columns; head the one of names with 'name'"
            raise ValueError(msg)
        column = named[0]
    if not numbered or numbered == [column]:
        return [row[column] if len(row) > column else "" for row in body]
    return _by_number(((int(row[numbered[0]]), row[column]) for row in full), "it")


def _in_order(result: Any, shown: str) -> tuple[str, ...]:
    """Names in the order of their numbers, out of a list or a mapping.

    Raises:
        LoadError: if it is neither.
    """
    if isinstance(result, Mapping):
        inner = next((result[key] for key in _MAPPING_KEYS if _holds_names(result.get(key))), None)
        return _in_order(inner, shown) if inner is not None else _from_mapping(result, shown)
    if isinstance(result, bytes | set | frozenset) or not isinstance(result, Iterable):
        msg = f"{shown} must be names in order, or {{number: name}}, not a {type(result).__name__}."
        raise LoadError(msg)
    names = list(result)
    if names and all(isinstance(one, Mapping) and {"id", "name"} <= one.keys() for one in names):
        return _from_mapping({one["id"]: one["name"] for one in names}, shown)
    return tuple(_name(one, shown) for one in names)


def _holds_names(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) and len(value) > 0


def _from_mapping(result: Mapping[Any, Any], shown: str) -> tuple[str, ...]:
    """Names out of {number: name} or {name: number}."""
    for pairs in (result.items(), [(value, key) for key, value in result.items()]):
        numbers = [_number(first) for first, _ in pairs]
        if all(number is not None for number in numbers):
            named = [
                (n or 0, _name(one, shown)) for n, (_, one) in zip(numbers, pairs, strict=True)
            ]
            try:
                by_number = _by_number(named, shown)
            except ValueError as error:
                msg = f"{error}."
                raise LoadError(msg) from None
            return tuple(by_number.get(k, "") for k in range(max(by_number, default=-1) + 1))
    msg = f"{shown} must map numbers to names, or names to numbers, as {{0: 'cat', 1: 'dog'}}."
    raise LoadError(msg)


def _by_number(pairs: Iterable[tuple[int, str]], shown: str) -> dict[int, str]:
    results: dict[int, str] = {}
    for number, name in pairs:
        if number in results or number >= _MAX_CLASSES:
            msg = f"{shown} gives two names to class {number}: {results.get(number)!r} and {name!r}"
            if number >= _MAX_CLASSES:
                msg = f"{shown} numbers a class {number}, which no network has"
            raise ValueError(msg)
        results[number] = name
    return results


def _number(value: Any) -> int | None:
    """A class's number from 0, also as text; None for everything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value) if value.strip().isdecimal() else None
    try:
        number = value.__index__()
    except AttributeError:
        return None
    return number if number >= 0 else None


def _name(value: Any, shown: str) -> str:
    """One name; of (WordNet's number, name) the name.

    Raises:
        LoadError: if it is something else.
    """
    if value is None:
        return ""
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
        value = value[-1]
    if isinstance(value, Mapping | list | tuple):
        msg = f"{shown} must hold names, not {printable(repr(value))[:60]}."
        raise LoadError(msg)
    return str(value).strip()
