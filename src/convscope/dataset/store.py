"""A survey as a folder: what it is about, and finished parts that are never half written.

    manifest.json            network, photographs, parameters, versions
    parts/00003.safetensors one part of the photographs: a tally a layer, codes and predictions
    unfinished.safetensors   the same of the part that is being worked on, now and then
    survey.safetensors       all parts together, and which photographs were skipped
    summary.json             skipped files, and numbers of each channel as a table
    .lock, .lock-holder      held by the run that works in the folder

A file that is there is whole, for it was renamed into place, and carries its digest, so that rot
is noticed. Whoever stops the work at any moment loses at most the last seconds, and what comes out
is the same bit for bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convscope.atomic_write import cannot_be_written, is_draft, write_atomically
from convscope.dataset.folder_lock import HOLDER, LOCK, only_run_in
from convscope.dataset.manifest import Manifest, differences, different_facts, json_bytes
from convscope.dataset.part import TABLE, DamagedError, Part, facts_of
from convscope.dataset.seal import UNSEALED, is_intact, seal
from convscope.dataset.source import digest
from convscope.errors import ArgumentError, LoadError

MANIFEST, UNFINISHED, MERGED, SUMMARY = (
    *("manifest.json", "unfinished.safetensors"),
    *("survey.safetensors", "summary.json"),
)
_PART = re.compile(r"\d{5,}\.safetensors")
AGAIN = "run the same survey again to recompute what is damaged; the rest is kept"


@dataclass(frozen=True)
class Store:
    """The folder of one survey."""

    folder: Path

    def manifest(self) -> Manifest | None:
        """What the folder holds; None where it holds no survey.

        Raises:
            LoadError: if it is damaged, or of another version.
        """
        try:
            return self._manifest()
        except ValueError as error:
            if isinstance(error, LoadError):
                raise
            msg = f"{self.folder / MANIFEST} is damaged; {AGAIN}."
            raise LoadError(msg) from None

    def _manifest(self) -> Manifest | None:
        """The same, with a ValueError where it is damaged."""
        try:
            content = (self.folder / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            msg = f"{self.folder} cannot be read ({getattr(error, 'strerror', None) or error})."
            raise LoadError(msg) from None
        try:
            return Manifest.read(content)
        except LoadError as error:
            msg = f"{self.folder} holds a survey, but {error}"
            raise LoadError(msg) from None

    @contextmanager
    def taken_up(self, expected: Manifest) -> Iterator[Manifest]:
        """Begin the survey that is wanted, or go on with it, while this run alone works in the folder.

        A manifest that is missing or damaged is made again where whole parts prove that they are
        of this survey. Drafts of runs that were killed are swept.

        Yields:
            What is worked on: `wanted` but for rounding.

        Raises:
            ArgumentError: if the folder holds something else, which is said before anything is
                written there, or another run works in it.
            LoadError: if another version wrote it, or it is damaged and nothing proves what it was.
        """
        self._judge(expected)
        with only_run_in(self.folder) as alone:
            there = self._judge(expected)  # again: a moment ago another run may have worked here
            if alone:
                for draft in filter(is_draft, self._inside()):
                    draft.unlink(missing_ok=True)
            if there is None:
                write_atomically(self.folder / MANIFEST, expected.content())
            yield replace(there or expected, place=expected.place)

    def _judge(self, expected: Manifest) -> Manifest | None:
        """What the folder holds of the survey that is wanted; None where its manifest is to be made."""
        try:
            there, damaged = self._manifest(), False
        except LoadError:
            raise
        except ValueError:
            there, damaged = None, True
        if there is not None:
            if differing := differences(there, expected):
                raise ArgumentError(self._another(differing))
            return there
        self._refuse_foreign()
        if self._prove(expected):
            return None
        if damaged:
            msg = f"{self.folder / MANIFEST} is damaged, or not a survey's, and no intact part shows what it was; choose another folder with --out."
            raise LoadError(msg)
        if self._results():
            raise ArgumentError(self._foreign())
        return None

    def _prove(self, expected: Manifest) -> bool:
        """Whether a whole part shows that this is the survey that is wanted.

        Raises:
            ArgumentError: if one shows that it is another.
        """
        proven = False
        for file in self._parts():
            try:
                facts = facts_of(file.read_bytes())["survey"]
            except (DamagedError, OSError):
                continue
            if differing := different_facts(facts, expected.facts, place=expected.place):
                raise ArgumentError(self._another(differing))
            proven = True
        return proven

    def _another(self, differing: Sequence[str]) -> str:
        return (
            f"{self.folder} holds another survey: {'; '.join(differing)}. "
            "Choose another folder with --out, or delete this one."
        )

    def _foreign(self) -> str:
        return f"{self.folder} contains files that are not a survey's; choose an empty or a new folder with --out."

    def _refuse_foreign(self) -> None:
        """Refuse a folder of other things."""
        try:
            if self.folder.is_dir():
                inside = list(self._inside())
            elif self.folder.exists():
                msg = f"{self.folder} is a file; a survey needs a folder."
                raise ArgumentError(msg)
            else:
                return
        except OSError as error:
            raise ArgumentError(cannot_be_written(self.folder, error)) from None
        if not all(map(self._is_own, inside)):
            raise ArgumentError(self._foreign())

    def _inside(self) -> Iterator[Path]:
        """All that lies in the folder and in `parts`, but `parts` itself."""
        for path in self.folder.iterdir():
            if path.name == "parts" and path.is_dir():
                yield from path.iterdir()
            else:
                yield path

    def _is_own(self, path: Path) -> bool:
        if path.parent == self.folder:
            own = (MANIFEST, UNFINISHED, MERGED, SUMMARY, LOCK, HOLDER)
            return path.name in own or is_draft(path)
        return _PART.fullmatch(path.name) is not None or is_draft(path)

    def _parts(self) -> list[Path]:
        """The files of all parts, the unfinished one's too."""
        result = sorted(p for p in self.folder.glob("parts/*") if _PART.fullmatch(p.name))
        return [
            *result,
            *([self.folder / UNFINISHED] if (self.folder / UNFINISHED).exists() else []),
        ]

    def _results(self) -> list[Path]:
        """All files of a survey but its manifest."""
        tables = [self.folder / name for name in (MERGED, SUMMARY)]
        return [*self._parts(), *(path for path in tables if path.exists())]

    def part_file(self, number: int) -> Path:
        """The file of one part, or of all together."""
        if number == TABLE:
            return self.folder / MERGED
        return self.folder / "parts" / f"{number:05}.safetensors"

    def put(self, manifest: Manifest, part: Part) -> None:
        """File one part, or all together."""
        write_atomically(self.part_file(part.number), part.content(manifest))
        self.forget_unfinished()

    def put_unfinished(self, manifest: Manifest, part: Part) -> None:
        """File what there is of the part that is being worked on."""
        write_atomically(self.folder / UNFINISHED, part.content(manifest), durable=False)

    def whole(self, manifest: Manifest, number: int) -> Part | None:
        """One part, or all together; None where it is missing, unfinished or damaged."""
        part = self._read(self.part_file(number), manifest)
        seen = len(manifest.numbers(number)) if number != TABLE else 0
        return part if part and (part.number, part.seen) == (number, seen) else None

    def part(self, manifest: Manifest, number: int) -> Part:
        """One part.

        Raises:
            LoadError: if it is missing or damaged.
        """
        part = self.whole(manifest, number)
        if part is None:
            msg = f"{self.part_file(number)} is missing or damaged; {AGAIN}."
            raise LoadError(msg)
        return part

    def forget_unfinished(self) -> None:
        """Delete what there is of a part that is finished by now."""
        (self.folder / UNFINISHED).unlink(missing_ok=True)

    def unfinished(self, manifest: Manifest) -> Part | None:
        """What there is of the part that was being worked on; None where nothing usable is."""
        part = self._read(self.folder / UNFINISHED, manifest)
        return part if part and part.seen % manifest.batch == 0 else None

    @staticmethod
    def _read(file: Path, manifest: Manifest) -> Part | None:
        try:
            return Part.read(file.read_bytes(), manifest)
        except (OSError, DamagedError):
            return None

    def note(self, manifest: Manifest, summary: dict[str, Any]) -> None:
        """File the summary as JSON with its digest and what survey it is of."""
        about = {"digest": UNSEALED, "survey": _identity(manifest)}
        write_atomically(self.folder / SUMMARY, seal(json_bytes({**about, **summary})))

    def has_summary(self, manifest: Manifest) -> bool:
        """Whether there is a summary that is whole and of this survey."""
        try:
            content = (self.folder / SUMMARY).read_bytes()
            result = json.loads(content) if is_intact(content) else None
        except (OSError, ValueError):
            return False
        survey = result.get("survey") if isinstance(result, dict) else None
        return isinstance(survey, dict) and not different_facts(survey, _identity(manifest))

    def damaged(self) -> list[str]:
        """The names of all files that are not whole, and of lost parts of a finished survey.

        Raises:
            LoadError: if there is no survey, or another version wrote it.
        """
        try:
            manifest = self._manifest()
        except LoadError:
            raise
        except ValueError:
            results = [MANIFEST, *(self._name(p) for p in self._results() if not _intact(p))]
            return sorted(results)
        if manifest is None and not self._results():
            raise LoadError(no_survey_in(self.folder))
        if manifest is None:
            return [MANIFEST]
        numbers = [n for n in manifest.parts if self.part_file(n).exists()]
        if self.part_file(TABLE).exists():
            numbers = sorted({*numbers, *manifest.own, TABLE})
        results = [
            self._name(self.part_file(n)) for n in numbers if self.whole(manifest, n) is None
        ]
        for name, whole in (
            (UNFINISHED, self.unfinished(manifest)),
            (SUMMARY, self.has_summary(manifest)),
        ):
            if (self.folder / name).exists() and not whole:
                results.append(name)
        return sorted(results)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def discard(self) -> None:
        """Delete what was filed."""
        for file in (*self._results(), self.folder / MANIFEST):
            file.unlink(missing_ok=True)


def _identity(manifest: Manifest) -> dict[str, Any]:
    return {**manifest.facts, "shard": manifest.shard}


def _intact(file: Path) -> bool:
    try:
        return is_intact(file.read_bytes())
    except OSError:
        return False


def locate_parts(folders: Sequence[Path]) -> dict[int, tuple[Store, Manifest]]:
    """Where each part of one survey lies that was run in several folders.

    Raises:
        LoadError: if a folder holds no survey.
        ArgumentError: if they belong to different surveys, or parts are missing.
    """
    parts = [(Store(folder), open_manifest(folder)) for folder in folders]
    first = parts[0][1]
    for store, manifest in parts[1:]:
        if differing := differences(manifest, first, without=("shard", "photographs")):
            msg = f"{store.folder} does not belong to {folders[0]}: {'; '.join(differing)}."
            raise ArgumentError(msg)
        if digest(manifest.items, times=False) != digest(first.items, times=False):
            msg = f"{store.folder} does not belong to {folders[0]}: its photographs are different."
            raise ArgumentError(msg)
    results = {n: pair for pair in parts for n in first.parts if pair[0].part_file(n).exists()}
    if missing := [n for n in first.parts if n not in results]:
        msg = f"{len(missing)} of {len(first.parts)} parts are missing (the first is {missing[0]}); finish the runs with --shard first."
        raise ArgumentError(msg)
    return dict(sorted(results.items()))


def open_manifest(folder: Path) -> Manifest:
    """What a folder holds; LoadError where that is no survey."""
    manifest = Store(folder).manifest()
    if manifest is None:
        raise LoadError(no_survey_in(folder))
    return manifest


def no_survey_in(folder: Path) -> str:
    """What to say of a folder without a survey."""
    return f"{folder} holds no survey; 'convscope survey' makes one."
