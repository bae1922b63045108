"""Commands over several photographs: one start of the network, one photograph after another."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from convscope.cli import show
from convscope.cli.arguments import refuse_if
from convscope.cli.naming import STDIN, explained, label_of, slug, stems_of
from convscope.cli.output import Output

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from convscope.cli.options import NetworkOptions
    from convscope.images.original import Original
    from convscope.network.network import Network
    from convscope.objectives.explained import Explained
    from convscope.progress import Progress
    from convscope.results import Result

Answering = Callable[["Network", "Tensor", "Progress | None"], "Answer"]
"""Network, one photograph (1, C, H, W) and where to report progress -> answer."""

_SIDE, _SMALL_SIDE, _MANY = 192, 96, 400  # of a contact sheet: pixels of a picture; of very many


@dataclass(frozen=True)
class Answer:
    """What a command found for one photograph.

    Attributes:
        result: it.
        drawing: options of its picture.
        more: what else its line of JSON holds.
    """

    result: Result
    drawing: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        """Write it."""
        return self.result.save(path, **self.drawing)

    def thumbnail(self) -> Image.Image:
        """Its bare picture, small."""
        from convscope.results import Heatmap

        bare: dict[str, Any] = {**self.drawing, "caption": False}
        if isinstance(self.result, Heatmap):
            bare |= {"colourbar": False}
            if bare.pop("together", False):
                return _thumbnail(self.result.side_by_side(**bare))
            bare["over"] = "input"
        return _thumbnail(self.result.picture(**bare))

    def over_originals(self, originals: Sequence[Original]) -> Answer:
        """The same with the photograph before it was resized, over which a map can be drawn."""
        from convscope.results import Heatmap

        if not isinstance(self.result, Heatmap):
            return self
        if not originals and self.drawing.get("over") == "original":  # an image of bands has none
            return replace(self, drawing={**self.drawing, "over": "input"})
        if len(self.result) != len(originals):
            return self
        return replace(self, result=replace(self.result, originals=originals))


@dataclass(frozen=True)
class Batch:
    """Photographs, and what becomes of their answers.

    Attributes:
        photos: paths, samples, folders and "-".
        method: of the answers.
        output: where they are written; None: they are only shown.
        name: the middle of the files' names; None: the method.
        asks: whether something is explained, after which the file is named.
        target: what; None: the predicted class of each photograph.
        fit: how photographs are fitted to the network.
        as_json: whether a line of JSON is printed for each.
        sheet: where the contact sheet goes.
        say: prints an answer for people, given the photograph's name.
    """

    photos: Sequence[str]
    method: str
    output: Output | None
    name: str | None = None
    asks: bool = True
    target: str | None = None
    fit: str = "crop"
    as_json: bool = False
    sheet: Output | None = None
    say: Callable[[Answer, str], None] | None = None

    def run(self, options: NetworkOptions, answer: Answering) -> None:
        """Answer for one photograph after the other.

        One of several that cannot be read, or has no answer, is said and passed over.

        Raises:
            ArgumentError: if a file exists, or several photographs would go to one.
            ImageError: if the only photograph cannot be read.
            Exit: with code 2, if some of several were passed over.
        """
        from convscope.errors import ImageError, NotApplicableError, printable

        photos = list_photographs(self.photos)
        self._check(len(photos))
        several, failed, cards = len(photos) > 1, 0, []
        with show.progress("running the network") as bar:
            net = options.load()
            names = stems_of(photos)
            self._refuse_existing(net, names)
            for number, (photo, name) in enumerate(zip(photos, names, strict=True)):
                if several:
                    bar(number, len(photos), printable(photo))
                try:
                    card = self._answer(net, photo, name, answer, bar, several=several)
                except (ImageError, NotApplicableError) as error:
                    if not several:
                        raise
                    failed += 1
                    with bar.paused():
                        typer.echo(f"convscope: {_about(photo, error)}", err=True)
                else:
                    cards += card
        if self.sheet is not None and cards:
            self._write_sheet(cards)
        if failed:
            words = f"Passed over {failed} of {len(photos)} photographs."
            typer.echo(f"convscope: {words}", err=True)
            raise typer.Exit(2)

    def _check(self, count: int) -> None:
        """Refuse options that contradict each other.

        Raises:
            ArgumentError: if they do.
        """
        out = self.output.out if self.output else None
        refuse_if(
            (
                self.output is not None and self.output.is_stdout and self.as_json,
                "--json and --out - both write to standard output; leave one out.",
            ),
            (
                self.output is not None and count > 1 and not self.output.takes_several,
                f"--out {out} is one file, but there are {count} photographs: name a folder, as --out pictures/, or leave it out.",
            ),
            (
                self.sheet is not None and self.sheet.is_stdout,
                "--sheet needs a file, as --sheet sheet.png.",
            ),
        )
        if self.sheet is not None:
            self.sheet.file("contact-sheet")

    def _refuse_existing(self, net: Network, names: Sequence[str]) -> None:
        """Look at all files before the first is written, where their names are known by then."""
        if self.output is None or (self.asks and self.target is None):
            return
        label = None if self.target is None else label_of(net, self.target)
        for name in names:
            self.output.file(self._named(name, label))

    def _named(self, name: str, label: str | None) -> str:
        return "-".join(
            [name, slug(self.name or self.method), *([] if label is None else [slug(label)])]
        )

    def _answer(
        self,
        net: Network,
        photo: str,
        name: str,
        answer: Answering,
        bar: show.Bar,
        *,
        several: bool,
    ) -> list[tuple[Image.Image, str]]:
        """Answer for one photograph.

        Returns:
            Its picture on the contact sheet and the words below, where there is one.
        """
        source = source_of(photo)
        pixels = net.read(source, fit=self.fit)
        what = explained(net, pixels, self.target) if self.asks else None
        file = self.output and self.output.file(self._named(name, what.label if what else None))
        result = answer(net, pixels, None if several else bar)
        result = result.over_originals(net.originals(source, fit=self.fit))
        with bar.paused():
            written = file.write(result.save) if file else None
            self._print(photo, result, what, written)
        if self.sheet is None:
            return []
        words = f"{what} · {name}" if what else name
        return [(result.thumbnail(), words)]

    def _print(
        self, photo: str, answer: Answer, what: Explained | None, written: Path | None
    ) -> None:
        from convscope.errors import printable

        if self.as_json:
            typer.echo(json.dumps(self._record(photo, answer, what, written)))
            return
        if self.say is not None and not (self.output and self.output.is_stdout):
            self.say(answer, printable(photo))
        show.print_path(written)
        if self.say is None:
            typer.echo(answer.result.words(), err=True)

    def _record(
        self, photo: str, answer: Answer, what: Explained | None, written: Path | None
    ) -> dict[str, Any]:
        """One line of JSON."""
        explained = {
            "label": what and what.label,
            "class": what and what.class_id,
            "score": what and what.score,
            "probability": what and what.probability,
        }
        return {
            "photograph": photo,
            "method": self.method,
            "layer": answer.result.recipe.parameters.get("layer"),
            **(explained if self.asks else {}),
            **answer.more,
            "file": None if written is None else str(written),
        }

    def _write_sheet(self, cards: Sequence[tuple[Image.Image, str]]) -> None:
        from convscope.render.encode import encode
        from convscope.results.base import write_by_suffix

        if self.sheet is not None:
            page = contact_sheet([card for card, _ in cards], [words for _, words in cards])
            form = {".png": lambda: encode(page, "png")}
            written = self.sheet.file("contact-sheet").write(
                lambda path: write_by_suffix(path, form)
            )
            show.print_path(written, err=self.as_json)


def list_photographs(photos: Sequence[str]) -> list[str]:
    """Folders as the photographs in them, all else as it is.

    Raises:
        ArgumentError: if there is none, or standard input is named twice.
        ImageError: if a folder holds none.
    """
    from convscope.images.read import list_images

    refuse_if((photos.count(STDIN) > 1, "- is standard input, which holds one photograph."))
    results: list[str] = []
    for photo in photos:
        is_folder = photo != STDIN and os.path.isdir(os.path.expanduser(photo))  # noqa: PTH111, PTH112 - of any text
        results += map(str, list_images(Path(photo).expanduser())) if is_folder else [photo]
    return results


def source_of(photo: str) -> str | bytes:
    """What `net.read` takes for a photograph of the command line: its name, or standard input.

    Raises:
        ImageError: if nothing comes in.
    """
    from convscope.errors import ImageError
    from convscope.images.decode import MAX_BYTES

    if photo != STDIN:
        return photo
    if sys.stdin is None or sys.stdin.isatty():
        msg = "- is standard input, which is a terminal: send a photograph there, as in: cat me.jpg | convscope predict -"
        raise ImageError(msg)
    content = sys.stdin.buffer.read(MAX_BYTES + 1)  # what is more is refused where it is decoded
    if not content:
        msg = "- is standard input, which is empty."
        raise ImageError(msg)
    return content


def _about(photo: str, error: Exception) -> str:
    """A sentence on one of several photographs, which says which."""
    from convscope.errors import printable

    name, sentence = printable(photo), str(error)
    return sentence if name in sentence else f"{name}: {sentence}"


def _thumbnail(picture: Image.Image) -> Image.Image:
    """A copy small enough to be kept until the end."""
    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    return small


def contact_sheet(pictures: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Pictures on one page, each whole, with a line below it."""
    import numpy as np
    from PIL import Image, ImageOps

    from convscope.render.grid import sheet
    from convscope.render.theme import THEMES

    side = _SIDE if len(pictures) <= _MANY else _SMALL_SIDE
    cells = [
        ImageOps.pad(picture, (side, side), Image.Resampling.LANCZOS, color=THEMES["light"].paper)
        for picture in pictures
    ]
    tiles = [np.asarray(cell, dtype=np.float32) / 255 for cell in cells]
    return sheet(tiles, tile=side, gap=6, captions=captions, theme="light")
