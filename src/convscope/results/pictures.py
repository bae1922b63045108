"""Several pictures that belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from convscope.render.colour import Floats
from convscope.render.grid import scaled, sheet
from convscope.results.base import Result, as_array
from convscope.results.recipe import Recipe


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
        scale: "own" or "common" range of the tiles.
        clip: share of the values drawn within range, where zero is mid-grey.
    """

    values: Tensor
    recipe: Recipe
    captions: Sequence[str] = ()
    tiles: str = "images"
    signed: bool = False
    scale: str = "own"
    clip: float = 1.0

    def picture(self, index: int = 0, *, columns: int | None = None, tile: int = 64) -> Image.Image:
        """Draw all tiles on one sheet; a tile that is the same everywhere is crossed out.

        Args:
            index: which photograph, where tiles are channels.
            columns: tiles a row; None makes the sheet square.
            tile: pixels of a tile's longer side, at least.
        """
        tiles = self.tile_arrays(index)
        flat = [i for i, t in enumerate(tiles) if t.min() == t.max()]
        drawn = scaled(tiles, self.scale, signed=self.signed, clip=self.clip)
        return sheet(list(drawn), columns=columns, tile=tile, captions=self.captions, empty=flat)

    def tile_arrays(self, index: int = 0) -> Floats:
        """The tiles' numbers as (n, h, w, 1 or 3)."""
        if self.tiles == "channels":
            return as_array(self.values[index])[..., None]
        return as_array(self.values.permute(0, 2, 3, 1))

    def words(self) -> str:
        """What is shown and how many."""
        count = len(self.tile_arrays())
        where = self.recipe.parameters.get("layer", "")
        return f"{self.recipe.method} {where}: {count} pictures ({self.recipe.network})"

    def __repr__(self) -> str:
        """Shape and origin."""
        return f"Pictures({tuple(self.values.shape)}, {self.words()})"

    def _arrays(self) -> Mapping[str, Any]:
        return {"values": as_array(self.values)}


@dataclass(frozen=True, eq=False)
class Strip(Result):
    """Pictures of different sizes side by side, as one channel through all layers.

    Attributes:
        values: (N, h, w) each.
        captions: one for each.
        recipe: how they were made.
    """

    values: Sequence[Tensor]
    captions: Sequence[str]
    recipe: Recipe

    def picture(
        self, index: int = 0, *, columns: int | None = None, tile: int = 128
    ) -> Image.Image:
        """Draw one photograph's maps, each in its own range."""
        tiles = [as_array(value[index])[None, ..., None] for value in self.values]
        flat = [i for i, t in enumerate(tiles) if t.min() == t.max()]
        drawn = [scaled(t)[0] for t in tiles]
        return sheet(drawn, columns=columns, tile=tile, captions=self.captions, empty=flat)

    def words(self) -> str:
        """What is shown and how many."""
        return f"{self.recipe.method}: {len(self.values)} maps ({self.recipe.network})"

    def __repr__(self) -> str:
        """Count and origin."""
        return f"Strip({self.words()})"

    def _arrays(self) -> Mapping[str, Any]:
        names = [caption.split(" ")[0].replace(":", "_") for caption in self.captions]
        return {name: as_array(value) for name, value in zip(names, self.values, strict=True)}
