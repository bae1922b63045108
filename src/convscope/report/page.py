"""A page of chapters and figures as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from convscope.errors import printable
from convscope.render.encode import data_uri, encode
from convscope.results import Recipe
from convscope.results.base import write_by_suffix


@dataclass(frozen=True)
class Figure:
    """One picture with everything that a reader needs to judge it.

    Attributes:
        picture: what is drawn.
        title: a few words.
        alt: what it shows, for those who cannot see it.
        shows: one sentence, what it shows.
        trust: one sentence, how far to trust it.
        code: the library call that makes it.
        recipe: what made it; None for a photograph.
        under: a picture beneath it; then the reader fades between the two.
        pixels: draw cells with sharp edges.
        wide: take the whole width of the page.
    """

    picture: Image.Image
    title: str
    alt: str
    shows: str = ""
    trust: str = ""
    code: str = ""
    recipe: Recipe | None = None
    under: Image.Image | None = None
    pixels: bool = False
    wide: bool = False

    @property
    def uri(self) -> str:
        """The picture inside the page."""
        return picture_uri(self.picture, exact=self.pixels)

    @property
    def under_uri(self) -> str:
        """The picture beneath."""
        return picture_uri(self.under, exact=False) if self.under else ""


@dataclass(frozen=True)
class Box:
    """One layer in the strip that draws the network.

    Attributes:
        label: its address.
        shape: its output in words.
        kind: conv, pool, linear.
        height: share of the tallest box, for the size of its maps.
        width: share of the widest, for the number of its channels.
        note: more on demand.
    """

    label: str
    shape: str
    kind: str
    height: float
    width: float
    note: str


@dataclass(frozen=True)
class Chapter:
    """A heading, an introduction and figures.

    Attributes:
        anchor: name in the address of the page.
        title: the heading.
        intro: a paragraph.
        figures: in order.
        bars: (label, share, words) rows drawn as bars.
        boxes: the network as a strip.
        notes: sentences after the figures.
    """

    anchor: str
    title: str
    intro: str
    figures: Sequence[Figure] = ()
    bars: Sequence[tuple[str, float, str]] = ()
    boxes: Sequence[Box] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A page of chapters.

    Attributes:
        title: what it is.
        lead: the first paragraph.
        chapters: in order.
        facts: name -> value, in small print at the end.

    Example:
        >>> import convscope as cs
        >>> from sklearn.datasets import images  # a folder with two photographs
        >>> net = cs.load()
        >>> page = cs.channel_page(net, cs.survey(net, images.__path__[0]), "conv:1", 12, steps=2)
        >>> [chapter.title for chapter in page.chapters]
        ['Strongest patches', 'Pictures made for it', 'How often, and for which classes']
        >>> page.write("channel").name
        'index.html'
    """

    title: str
    lead: str
    chapters: Sequence[Chapter]
    facts: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        """The page as HTML."""
        environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_shown,
        )
        text = template("page.html")
        return environment.from_string(text).render(
            page=self,
            tokens=Markup(template("tokens.css")),  # noqa: S704 - a file of ours
        )

    def write(self, folder: str | Path) -> Path:
        """Write `folder`/index.html, and return its path."""
        return self.save(Path(folder) / "index.html")

    def save(self, path: str | Path) -> Path:
        """Write the page as a file that ends in .html.

        Raises:
            ArgumentError: if it ends otherwise, or cannot be written.
        """
        return write_by_suffix(Path(path), {".html": lambda: self.html().encode()})


def _shown(value: Any) -> Any:
    """Text of strangers, such as a file's name, as it may be shown; markup and code keep their lines."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.split("\n")))
    return value


def template(name: str) -> str:
    """A file of the folder `templates` as text."""
    return files("convscope.report").joinpath("templates", name).read_text("utf-8")


def picture_uri(picture: Image.Image, *, exact: bool) -> str:
    """A picture as a data URI: PNG where every cell counts, else JPEG."""
    if exact:
        return data_uri(encode(picture, "png", optimize=True), "image/png")
    return data_uri(encode(picture, "jpeg", quality=90), "image/jpeg")
