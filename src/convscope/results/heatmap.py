"""Heat maps: where in a photograph the evidence is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.images.resize import height_and_width
from convscope.network.rounding import is_constant
from convscope.render.colour import as_bytes
from convscope.render.grid import scaled, sheet
from convscope.render.overlay import overlay, without_evidence
from convscope.results.base import Result, as_array
from convscope.results.recipe import Recipe

NO_EVIDENCE = "no positive evidence"
CLIP = 0.998  # of a projection, the few strongest of whose pixels would leave all others grey


@dataclass(frozen=True, eq=False)
class Heatmap(Result):
    """Where in each photograph the evidence lies.

    Attributes:
        values: (N, h, w), signed, in the method's own unit, never normalised.
        images: (N, 3, H, W) photographs, pixels in [0, 1].
        recipe: how it was made.
        projection: (N, 3, H, W), signed, what a method gives colour by colour; None where it
            gives none.
        zero: (N,), the value that stands for no evidence; None: 0.

    Example:
        >>> import convscope as cs
        >>> heat = cs.cam(cs.load(), "sample:china", "class:church")
        >>> heat.values.shape, heat.images.shape
        (torch.Size([1, 9, 9]), torch.Size([1, 3, 144, 144]))
        >>> heat.resized((144, 144)).values.shape
        torch.Size([1, 144, 144])
        >>> heat.picture().size
        (144, 144)
    """

    values: Tensor
    images: Tensor
    recipe: Recipe
    projection: Tensor | None = None
    zero: Tensor | None = None

    def has_evidence(self, index: int = 0) -> bool:
        """Whether any value of a map is above zero, or what stands for it."""
        if self.zero is not None and self.is_flat(index):
            return False  # the value that stands for zero is its mean
        return bool(self.evidence(index).max() > 0)

    def is_flat(self, index: int = 0) -> bool:
        """Whether a map has the same value, other than 0, everywhere but for rounding."""
        low, high = (float(end) for end in self.values[index].aminmax())
        return self.values[index].numel() > 1 and (low, high) != (0, 0) and is_constant([low, high])

    def evidence(self, index: int = 0) -> Tensor:
        """The part of one map that speaks for the answer, (h, w), at least 0."""
        floor = 0 if self.zero is None else self.zero[index]
        return (self.values[index] - floor).clamp(min=0)

    def picture(
        self,
        index: int = 0,
        *,
        opacity: float = 0.5,
        colours: str = "heat",
        base: str = "colour",
        scale: float | None = None,
    ) -> Image.Image:
        """Draw the positive part of one map over its photograph.

        Args:
            index: which photograph.
            opacity: share of the heat map, 0 to 1.
            colours: "heat", "reds", "grey", "signed", or a colour map of matplotlib.
            base: "colour" or "grey", how the photograph is shown.
            scale: the value drawn hottest; None takes the map's largest.

        Returns:
            The size of the photograph. A map without positive evidence says so in words.
        """
        photo = as_array(_in_colour(self.images[index]))
        heat = as_array(self.evidence(index))
        top = float(heat.max()) if scale is None else scale
        if not self.has_evidence(index) or not top > 0:
            return without_evidence(photo, NO_EVIDENCE)
        share = (heat / top).clip(0, 1)
        return overlay(photo, share, opacity=opacity, colours=colours, base=base)

    def side_by_side(
        self, *, opacity: float = 0.5, colours: str = "heat", scale: float | None = None
    ) -> Image.Image:
        """All maps in a row, each drawn as `picture` does."""
        drawn = [
            np.asarray(self.picture(i, opacity=opacity, colours=colours, scale=scale))
            for i in range(len(self.values))
        ]
        captions = self.recipe.parameters.get("captions", ())
        tiles = [tile.astype(np.float32) / 255 for tile in drawn]
        return sheet(tiles, columns=len(tiles), captions=captions)

    def projected(self, index: int = 0) -> Image.Image:
        """Draw the projection of one photograph in its own colours; zero is mid-grey.

        Raises:
            NotApplicableError: if the method gives no colours.
        """
        if self.projection is None:
            msg = f"{self.recipe.method} gives no projection in colour; picture() draws its map."
            raise NotApplicableError(msg)
        found = as_array(_in_colour(self.projection[index]))
        if not found.any():
            return without_evidence(as_array(_in_colour(self.images[index])), NO_EVIDENCE)
        return Image.fromarray(as_bytes(scaled(found[None], signed=True, clip=CLIP)[0]))

    def resized(self, size: int | tuple[int, int]) -> Heatmap:
        """The maps at another size, signed as they are, for arithmetic at the pixels.

        Values between cells are interpolated bilinearly, cells taken as small squares (PyTorch's
        `align_corners=False`); where a map shrinks, each value is a mean over what it covers.
        Photographs and recipe stay; the recipe tells the size as `resized`.

        Args:
            size: (height, width), or the side of a square.

        Raises:
            ArgumentError: if it is no whole number above 0, or two of these.

        >>> import torch
        >>> from convscope import Recipe
        >>> heat = Heatmap(torch.tensor([[[-1.0, 1.0]]]), torch.zeros(1, 3, 8, 8), Recipe("m", "n", ""))
        >>> heat.resized((1, 4)).values.tolist()
        [[[-1.0, -0.5, 0.5, 1.0]]]
        """
        sides = height_and_width(size)
        found = F.interpolate(self.values[:, None], sides, mode="bilinear", antialias=True)[:, 0]
        parameters = {**self.recipe.parameters, "resized": sides}
        return replace(self, values=found, recipe=replace(self.recipe, parameters=parameters))

    def words(self) -> str:
        """Method, question, and where the map is strongest."""
        what = f"{self.recipe.method} map for {self.recipe.objective} ({self.recipe.network})"
        if self.is_flat():
            return f"{what}: flat, the same everywhere"
        if not self.has_evidence():
            return f"{what}: {NO_EVIDENCE}"
        height, width = self.values.shape[-2:]
        place = int(self.values[0].argmax())
        down, across = (place // width + 0.5) / height, (place % width + 0.5) / width
        return f"{what}, strongest {down:.0%} from the top and {across:.0%} from the left"

    def __repr__(self) -> str:
        """Shape and question."""
        return f"Heatmap({tuple(self.values.shape)}, {self.words()})"

    def __len__(self) -> int:
        """How many photographs."""
        return len(self.values)

    def _some(self, numbers: list[int]) -> Heatmap:
        captions = self.recipe.parameters.get("captions")
        recipe = self.recipe
        if captions is not None:
            own = {**recipe.parameters, "captions": [captions[k] for k in numbers]}
            recipe = replace(recipe, parameters=own)
        projection = None if self.projection is None else self.projection[numbers]
        zero = None if self.zero is None else self.zero[numbers]
        return Heatmap(self.values[numbers], self.images[numbers], recipe, projection, zero)

    def _array(self) -> NDArray[Any]:
        return as_array(self.values)


def _in_colour(picture: Tensor) -> Tensor:
    """(C, H, W) -> (H, W, 3); other numbers of channels are shown by their mean."""
    if picture.shape[0] != 3:
        picture = picture.mean(0, keepdim=True).expand(3, -1, -1)
    return picture.permute(1, 2, 0)
