"""A mapping that cannot be changed and that explains itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class DocumentedMapping(Mapping[str, T]):
    """Names and what they stand for, with a docstring of its own, which `help` shows.

    A constant has no docstring that can be read at run time; a public one needs it.

    >>> DocumentedMapping({"one": 1}, "Numbers by name.").__doc__
    'Numbers by name.'
    """

    def __init__(self, entries: Mapping[str, T], doc: str) -> None:
        """Keep a copy of the entries.

        Args:
            entries: name -> what it stands for.
            doc: the docstring.
        """
        self._entries = dict(entries)
        self.__doc__ = doc

    def __getitem__(self, name: str) -> T:
        """What a name stands for."""
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """The names, in order."""
        return iter(self._entries)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._entries)

    def __repr__(self) -> str:
        """The names."""
        return f"{type(self).__name__}({', '.join(self._entries)})"
