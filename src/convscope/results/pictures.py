"""Pictures: several images that belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convscope.errors import ArgumentError, NotApplicableError
from convscope.images.original import Original
from convscope.render.bands import as_colours, tiles_as_colours
from convscope.render.colour import Floats, to_uint8
from convscope.render.figure import READABLE
from convscope.render.film import gif, mp4
from convscope.render.grid import enlarge_cells, grid_shape, normalize_tiles, sheet
from convscope.render.overlay import overlay, without_evidence
from convscope.results.base import Result, stack_arrays, to_numpy
from convscope.results.colour_scale import ColourScale
from convscope.results.heatmap import NO_EVIDENCE, Heatmap
from convscope.results.placement_fields import (
    originals_from,
    placement_from,
    plain,
    plain_originals,
)
from convscope.results.recipe import Recipe
from convscope.results.titles import title_of
from convscope.tracing.placement import Placement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WITH_OPACITY = 4  # channels of a picture in colour that is not opaque
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
        images: (N, 3, H, W) photographs on which the maps of channels lie, where there are any.
        placement: where their cells lie on them; None: unknown.
        originals: the photographs before they were resized.

    Example:
        >>> import convscope as cs
        >>> pictures = cs.maps(cs.load(), "sample:china", "stage:3")
        >>> pictures.values.shape
        torch.Size([1, 96, 36, 36])
        >>> pictures.heatmap(5).save("channel.png", over="original").name
        'channel.png'
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
    images: Tensor | None = None
    placement: Placement | None = None
    originals: Sequence[Original] = ()

    def picture(
        self,
        index: int = 0,
        *,
        over: str = "alone",
        columns: int | None = None,
        tile: int | None = None,
        caption: bool = True,
        theme: str = "light",
    ) -> Image.Image:
        """Draw all tiles on one sheet; a tile that is the same everywhere is crossed out.

        Args:
            index: which photograph, where tiles are channels.
            over: "alone", or "input": maps of channels over the pixels that the network saw, each
                in its own scale (`heatmap` draws one over the original photograph).
            columns: tiles a row; None takes those of the pictures.
            tile: pixels of a tile's longer side, at least; None: as many as can be read.
            caption: whether a title stands above the sheet.
            theme: "light" or "dark" paper.

        Raises:
            ArgumentError: if `over` is something else.
            NotApplicableError: if these are no maps of channels, or their place is unknown.
        """
        options = {"over": over, "columns": columns, "tile": tile, "theme": theme}
        return super().picture(index, caption=caption, **options)

    def heatmap(self, number: int) -> Heatmap:
        """One channel's map as a heat map, which can be drawn over the original photograph.

        Args:
            number: of the tile, from 0.

        Raises:
            ArgumentError: if there is no such tile.
            NotApplicableError: if these are no maps of channels over photographs.
        """
        if self.tiles != "channels" or self.images is None:
            msg = f"{title_of(self.recipe.method)} are no maps over a photograph."
            raise NotApplicableError(msg)
        count = self.values.shape[1]
        if not 0 <= number < count:
            msg = f"There is no map {number}: there are {count}, numbered from 0."
            raise ArgumentError(msg)
        parameters = {**self.recipe.parameters}
        layer = parameters.get("layer", "")
        channel = int(self.captions[number]) if self.captions else number
        for chosen_by in ("channels", "strongest"):
            parameters.pop(chosen_by, None)
        recipe = replace(
            self.recipe,
            method="activation_map",
            objective=f"channel {channel} of {layer}",
            parameters={**parameters, "channel": channel},
        )
        values = self.values[:, number]
        unit = "activation, only above 0" if bool((values < 0).any()) else "activation"
        return Heatmap(
            values,
            self.images,
            recipe,
            placement=self.placement,
            originals=self.originals,
            colour_scale=ColourScale(unit),
        )

    def _draw(
        self,
        index: int = 0,
        *,
        over: str = "alone",
        columns: int | None = None,
        tile: int | None = None,
        theme: str = "light",
        numbered: bool = False,
    ) -> Image.Image:
        if over not in ("alone", "input"):
            msg = f"over must be 'alone' or 'input', not {over!r}; heatmap(number) draws one map over the original photograph."
            raise ArgumentError(msg)
        tiles = self.tile_arrays(index)
        numbers = [str(k) for k in range(len(tiles))] if numbered and len(tiles) > 1 else ()
        flat = [i for i, t in enumerate(tiles) if t.min() == t.max()]
        if over == "input":
            drawn = self._over_photograph(index)
        else:
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

    def _over_photograph(self, index: int) -> Floats:
        """Each channel's map over its photograph, (n, H, W, 3)."""
        heats = [self.heatmap(k) for k in range(self.values.shape[1])]
        heats[0].placed()  # refuses where the place is unknown
        drawn = [np.asarray(heat.picture(index, caption=False, colourbar=False)) for heat in heats]
        return np.stack(drawn).astype(np.float32) / np.float32(255)

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
        bands = self.recipe.parameters.get("bands")
        if self.scale == "pixels" and bands:
            return tiles_as_colours(to_numpy(drawn))
        if drawn.shape[1] > _WITH_OPACITY or bands:  # weights or gradients of many bands
            drawn = drawn.mean(1, keepdim=True)
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
        images = None if self.images is None else self.images[numbers]
        originals = [self.originals[k] for k in numbers] if self.originals else ()
        own = self.tiles != "channels" and len(self.captions) == len(self.values)
        captions = [self.captions[k] for k in numbers] if own else self.captions
        return replace(
            self,
            values=self.values[numbers],
            shown=shown,
            captions=captions,
            images=images,
            originals=originals,
        )

    def _fields(self) -> Mapping[str, Any]:
        place = self.placement and plain(self.placement)
        originals = plain_originals(self.originals)
        return {**super()._fields(), "placement": place, "originals": originals}

    @classmethod
    def _from_fields(cls, fields: Mapping[str, Any]) -> Self:
        numbers, values = fields.get("placement"), fields["values"]
        place = numbers and placement_from(numbers, (values.shape[-2], values.shape[-1]))
        originals = originals_from(fields.get("originals", ()))
        return cls(**{**fields, "placement": place, "originals": originals})

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
        photo = as_colours(to_numpy(self.images[index]))
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
