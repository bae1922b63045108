"""Where results go: a file, a folder or standard output. Nothing is replaced unasked."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from convscope.cli.arguments import PICTURES

STDOUT = "-"
Save = Callable[[Path], Path]
"""Writes a result in the form that the path's suffix names."""


def _either(words: Sequence[str]) -> str:
    """Words as a choice: "png, jpg or npz"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


@dataclass(frozen=True)
class Output:
    """Where a command writes.

    Attributes:
        out: what `--out` names: a file, a folder (one that exists, or that ends in a slash), or "-" for
            standard output; None: a file in this folder, named after what it shows.
        kinds: the suffixes that can be written, the usual one first.
        force: whether files that exist may be replaced.
        suffix: of the files that are named here, and of what goes to standard output.
    """

    out: str | None
    kinds: tuple[str, ...]
    force: bool
    suffix: str

    @classmethod
    def of(cls, out: str | None, *kinds: str, force: bool = False, form: str | None = None) -> Self:
        """Read `--out`, `--force` and `--format`.

        Raises:
            ArgumentError: if a kind of file cannot be written, or nothing can be written there.
        """
        from convscope.errors import ArgumentError

        kinds = kinds or PICTURES
        suffix = kinds[0] if form is None else f".{form.lower().removeprefix('.')}"
        if suffix not in kinds:
            msg = f"--format must be {_either([k[1:] for k in kinds])}, not {form!r}."
            raise ArgumentError(msg)
        result = cls(out, kinds, force, suffix)
        if result.is_file:
            own = Path(out or "").suffix.lower()
            if own not in kinds:
                msg = f"--out {out} must end in {_either(kinds)}."
                raise ArgumentError(msg)
            if form is not None and own != suffix:
                msg = (
                    f"--out {out} and --format {form} name different kinds of files; leave one out."
                )
                raise ArgumentError(msg)
        if not result.is_stdout:
            check_writable(Path(out or "."), named=out)
        return result

    @classmethod
    def if_given(
        cls, out: str | None, *kinds: str, force: bool, form: str | None = None
    ) -> Self | None:
        """As `of`, for what is written only where an option asks for it."""
        return None if out is None and form is None else cls.of(out, *kinds, force=force, form=form)

    @property
    def is_stdout(self) -> bool:
        """Whether the result goes to standard output."""
        return self.out == STDOUT

    @property
    def is_file(self) -> bool:
        """Whether `--out` names one file."""
        return self.out is not None and not self.is_stdout and not self.is_folder

    @property
    def is_folder(self) -> bool:
        """Whether `--out` names a folder."""
        if self.out is None or self.is_stdout:
            return False
        with suppress(OSError, ValueError):
            return self.out.endswith(("/", "\\")) or Path(self.out).is_dir()
        return False

    @property
    def takes_several(self) -> bool:
        """Whether several files can be written there."""
        return self.out is None or self.is_folder

    def file(self, name: str) -> File:
        """Where a result that is called `name` goes.

        Raises:
            ArgumentError: if the file exists and may not be replaced.
        """
        named = f"{name}{self.suffix}"
        if self.is_stdout:
            return File(None, named)
        path = Path(self.out or "") if self.is_file else Path(self.out or "", named)
        refuse_existing(path, force=self.force)
        return File(path, path.name)


@dataclass(frozen=True)
class File:
    """One file to write.

    Attributes:
        path: where; None: to standard output.
        name: whose suffix says the form.
    """

    path: Path | None
    name: str

    def write(self, save: Save) -> Path | None:
        """Write a result; None where it went to standard output."""
        if self.path is not None:
            return save(self.path)
        with tempfile.TemporaryDirectory(prefix="convscope-") as folder:
            content = save(Path(folder, self.name)).read_bytes()
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return None


def file_if_given(
    out: str | None, name: str, *kinds: str, force: bool, form: str | None
) -> File | None:
    """Where a result that is called `name` goes, if an option asks for a file of it."""
    output = Output.if_given(out, *kinds, force=force, form=form)
    return None if output is None else output.file(name)


def refuse_existing(*paths: Path, force: bool) -> None:
    """Refuse files that exist, unless they may be replaced.

    Raises:
        ArgumentError: if one does.
    """
    from convscope.errors import ArgumentError

    for path in () if force else paths:
        if path.exists() or path.is_symlink():
            msg = f"{path} exists; add --force to replace it, or name another place with --out."
            raise ArgumentError(msg)


def check_writable(place: Path, named: object = None) -> None:
    """Refuse a place where nothing can be written, before any work starts.

    Raises:
        ArgumentError: if nothing can.
    """
    from convscope.errors import ArgumentError

    full = place.absolute()
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            full.stat()  # a name that cannot be: too long, or with a NUL
        folder = next(parent for parent in (full, *full.parents) if parent.is_dir())
        if any(parent.exists() and not parent.is_dir() for parent in full.parents):
            raise NotADirectoryError(20, "Not a directory")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        msg = f"{named or full} cannot be written ({why}); choose another path with --out."
        raise ArgumentError(msg) from None
