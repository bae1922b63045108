"""Pictures: several images that belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convscope.render.colour import Floats, to_uint8
from convscope.render.figure import READABLE
from convscope.render.film import gif, mp4
from convscope.render.grid import enlarge_cells, grid_shape, normalize_tiles, sheet
from convscope.render.overlay import overlay, without_evidence
from convscope.results.base import Result, stack_arrays, to_numpy
from convscope.results.heatmap import NO_EVIDENCE
from convscope.results.placement_fields import placement_from, plain
from convscope.results.recipe import Recipe
from convscope.results.titles import title_of
from convscope.tracing.placement import Placement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TILE = 64  # pixels of a tile, at least
_GROUND = 0.85  # what is seen through a picture that is not opaque, 0 black to 1 white


@dataclass(frozen=True, eq=False)
class Pictures(Result):
    """Several small pictures: filters, activation maps, synthesized images.

    Attributes:
        values: (N, C, h, w), the true numbers, never normalised.
        recipe: how they were made.
        captions: one a tile, or none.
        tiles: "images" draws each of N as one tile (in colour where C is 3); "channels" draws
            the C maps of one photograph.
        signed: zero is drawn mid-grey.
        scale: "own" or "common" range of the tiles; "pixels" draws values in [0, 1] as they are.
        clip: share of the values drawn within range, where zero is mid-grey.
        shown: what is drawn instead of the values, of the same shape.
        columns: tiles a row, unless the drawing is told otherwise; None makes the sheet square.
        gap: pixels between tiles.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.maps(cs.load(), "sample:china", "stage:3")
        >>> pictures.values.shape
        torch.Size([1, 96, 36, 36])
        >>> pictures.picture(caption=False).size
        (742, 742)
        >>> pictures.save("maps.png").name
        'maps.png'
    """

    values: Tensor
    recipe: Recipe
    captions: Sequence[str] = ()
    tiles: str = "images"
    signed: bool = False
    scale: str = "own"
    clip: float = 1.0
    shown: Tensor | None = None
    columns: int | None = None
    gap: int = 2

    def picture(
        self,
        index: int = 0,
        *,
        columns: int | None = None,
        tile: int | None = None,
        caption: bool = True,
        theme: str = "light",
    ) -> Image.Image:
        """Draw all tiles on one sheet; a tile that is the same everywhere is crossed out.

        Args:
            index: which photograph, where tiles are channels.
            columns: tiles a row; None takes those of the pictures.
            tile: pixels of a tile's longer side, at least; None: as many as can be read.
            caption: whether a title stands above the sheet.
            theme: "light" or "dark" paper.
        """
        options = {"columns": columns, "tile": tile, "theme": theme}
        return super().picture(index, caption=caption, **options)

    def _draw(
        self,
        index: int = 0,
        *,
        columns: int | None = None,
        tile: int | None = None,
        theme: str = "light",
        numbered: bool = False,
    ) -> Image.Image:
        tiles = self.tile_arrays(index)
        numbers = [str(k) for k in range(len(tiles))] if numbered and len(tiles) > 1 else ()
        flat = [i for i, t in enumerate(tiles) if t.min() == t.max()]
        drawn = normalize_tiles(tiles, self.scale, signed=self.signed, clip=self.clip)
        columns = grid_shape(len(drawn), columns or self.columns)[1]
        return sheet(
            list(drawn),
            columns=columns,
            tile=tile or max(_TILE, READABLE // columns),
            gap=self.gap,
            captions=self.captions or numbers,
            empty=flat,
            theme=theme,
        )

    def figure(self, *args: Any, **drawing: Any) -> Figure:
        """The sheet with its title; tiles without words of their own carry their numbers.

        Args:
            *args: as of `picture`.
            **drawing: as of `picture`.
        """
        return super().figure(*args, numbered=True, **drawing)

    def _caption(self) -> tuple[str, str]:
        title, network = super()._caption()
        count = len(self.tile_arrays())
        return title, f"{count} {'picture' if count == 1 else 'pictures'} · {network}"

    def tile_arrays(self, index: int = 0) -> Floats:
        """The tiles' numbers as (n, h, w, 1 or 3)."""
        if self.tiles == "channels":
            return to_numpy(self.values[index])[..., None]
        drawn = self.values if self.shown is None else self.shown
        tiles = to_numpy(drawn.permute(0, 2, 3, 1))
        if self.scale == "pixels" and tiles.shape[3] in (2, 4):  # the last channel is opacity
            tiles = tiles[..., :-1] * tiles[..., -1:] + _GROUND * (1 - tiles[..., -1:])
        return tiles

    def _forms(self, **drawing: Any) -> dict[str, Callable[[], bytes]]:
        """Also the pictures one after the other, as .gif or .mp4."""
        films = {".gif": lambda: gif(self.frames()), ".mp4": lambda: mp4(self.frames())}
        return {**super()._forms(**drawing), **films}

    def frames(self, least: int = 128) -> list[Image.Image]:
        """Each tile by itself, its longer side at least so many pixels."""
        drawn = normalize_tiles(self.tile_arrays(), self.scale, signed=self.signed, clip=self.clip)
        return [enlarge_cells(to_uint8(tile), least) for tile in drawn]

    def words(self) -> str:
        """What is shown and how many."""
        count = len(self.tile_arrays())
        where = self.recipe.parameters.get("layer") or self.recipe.objective or ""
        noun = "picture" if count == 1 else "pictures"
        return self.recipe.annotated(
            f"{self.recipe.method} {where}: {count} {noun} ({self.recipe.network})"
        )

    def __repr__(self) -> str:
        """Shape and origin."""
        return f"Pictures({tuple(self.values.shape)}, {self.words()})"

    def __len__(self) -> int:
        """How many images; where tiles are channels, how many photographs."""
        return len(self.values)

    def _some(self, numbers: list[int]) -> Self:
        """Captions belong to the images unless the tiles are channels."""
        shown = None if self.shown is None else self.shown[numbers]
        own = self.tiles != "channels" and len(self.captions) == len(self.values)
        captions = [self.captions[k] for k in numbers] if own else self.captions
        return replace(self, values=self.values[numbers], shown=shown, captions=captions)

    def _array(self) -> NDArray[Any]:
        return to_numpy(self.values)


@dataclass(frozen=True, eq=False)
class Strip(Result):
    """Pictures of different sizes side by side, as one channel through all layers.

    Attributes:
        values: (N, h, w) each.
        captions: one for each.
        recipe: how they were made.
        images: (N, 3, H, W) photographs over which the maps are drawn; None: they stand alone.
        placements: where the cells of each map lie on them; None for a map where that is unknown.

    Example:
        >>> import convscope as cs
        >>> strip = cs.cam_across_layers(cs.load(), "sample:china")
        >>> len(strip), strip.captions[0]
        (8, 'conv:1')
        >>> strip.save("strip.png").name
        'strip.png'
    """

    values: Sequence[Tensor]
    captions: Sequence[str]
    recipe: Recipe
    images: Tensor | None = None
    placements: Sequence[Placement | None] = ()

    def picture(
        self,
        index: int = 0,
        *,
        columns: int | None = None,
        tile: int = 128,
        caption: bool = True,
        theme: str = "light",
    ) -> Image.Image:
        """Draw one photograph's maps, each in its own range.

        Args:
            index: which photograph.
            columns: maps in a row; None makes the sheet square.
            tile: pixels of a map's longer side, at least.
            caption: whether a title stands above the sheet.
            theme: "light" or "dark" paper.
        """
        options = {"columns": columns, "tile": tile, "theme": theme}
        return super().picture(index, caption=caption, **options)

    def _draw(
        self, index: int = 0, *, columns: int | None = None, tile: int = 128, theme: str = "light"
    ) -> Image.Image:
        tiles = [to_numpy(value[index])[None, ..., None] for value in self.values]
        flat = [i for i, t in enumerate(tiles) if t.min() == t.max()]
        drawn = [normalize_tiles(t)[0] for t in tiles]
        if self.images is not None:
            tile = max(tile, 200)
            drawn = [self._over(k, index, drawn[k]) for k in range(len(drawn))]
        return sheet(
            drawn, columns=columns, tile=tile, captions=self.captions, empty=flat, theme=theme
        )

    def _over(self, number: int, index: int, alone: Floats) -> Floats:
        """The evidence of one map over its photograph; the map alone where its place is unknown."""
        place, evidence = self.placements[number], self.values[number][index].clamp(min=0).cpu()
        if self.images is None or place is None:
            return alone
        photo = to_numpy(self.images[index].expand(3, -1, -1).permute(1, 2, 0))
        if evidence.any():
            heat = place.enlarge(evidence / evidence.max(), photo.shape[:2]).clamp(0, 1)
            tile = overlay(photo, to_numpy(heat))
        else:
            tile = without_evidence(photo, NO_EVIDENCE)
        return np.asarray(tile, dtype=np.float32) / np.float32(255)

    def _fields(self) -> Mapping[str, Any]:
        return {
            **super()._fields(),
            "placements": [place and plain(place) for place in self.placements],
        }

    @classmethod
    def _from_fields(cls, fields: Mapping[str, Any]) -> Self:
        values = fields["values"]
        places = [
            numbers and placement_from(numbers, (int(value.shape[-2]), int(value.shape[-1])))
            for numbers, value in zip(fields.get("placements", ()), values, strict=False)
        ]
        return cls(**{**fields, "placements": places})

    def _caption(self) -> tuple[str, str]:
        title = title_of(self.recipe.method)
        named = self.recipe.explained
        title = f"{title} for {named[0]}" if named else title
        return title, f"{len(self.values)} maps, each in its own scale · {self.recipe.network}"

    def words(self) -> str:
        """What is shown and how many."""
        return self.recipe.annotated(
            f"{self._caption()[0]}: {len(self.values)} maps ({self.recipe.network})"
        )

    def __repr__(self) -> str:
        """Count and origin."""
        return f"Strip({self.words()})"

    def __len__(self) -> int:
        """How many maps."""
        return len(self.values)

    def _some(self, numbers: list[int]) -> Self:
        captions = [self.captions[k] for k in numbers]
        places = [self.placements[k] for k in numbers] if self.placements else ()
        values = [self.values[k] for k in numbers]
        return replace(self, values=values, captions=captions, placements=places)

    def _array(self) -> NDArray[Any]:
        return stack_arrays([to_numpy(value) for value in self.values], "Maps")
