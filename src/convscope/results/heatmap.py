"""Heat maps: where in a photograph the evidence is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convscope.errors import ArgumentError, NotApplicableError
from convscope.images.resize import height_and_width
from convscope.network.rounding import is_constant
from convscope.render.colour import to_uint8
from convscope.render.grid import normalize_tiles, sheet
from convscope.render.overlay import overlay, unplaced, without_evidence
from convscope.results.base import Result, to_numpy
from convscope.results.recipe import Recipe
from convscope.tracing.placement import Axis, Placement

NO_EVIDENCE = "no positive evidence"
FLAT = "flat, the same everywhere"
UNPLACED = "where the cells lie on the photograph is unknown"
TILING = Placement(Axis(), Axis(), (0, 0))
"""Stands for cells that tile the photograph, whatever its size and theirs."""
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
        placement: where the cells of the maps lie on the photographs; None: unknown, and the maps
            are not laid over them. Left out, the cells tile the photographs.
        size: (H, W) of the photographs on which they are placed, so that `dataclasses.replace` with
            photographs of another size is refused; left out, that of `images`.

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
    placement: Placement | None = TILING
    size: tuple[int, int] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Cells tile the photographs where nothing else is said.

        Raises:
            ArgumentError: if the placement is that of maps or photographs of another size.
        """
        grid, size = _sides(self.values), _sides(self.images)
        if self.size not in (None, size):
            msg = f"These maps lie on photographs of {self.size}, not of {size}; heat.over(images) lays them over another copy."
            raise ArgumentError(msg)
        object.__setattr__(self, "size", size)
        if self.placement is TILING:
            object.__setattr__(self, "placement", Placement.tiling(grid, size))
        if self.placement is not None and self.placement.grid != grid:
            msg = f"This placement is that of maps of {self.placement.grid}, not of {grid}."
            raise ArgumentError(msg)

    def placed(self) -> Tensor:
        """The maps as large as the photographs, (N, H, W), every cell where it lies.

        Values between the centres of cells are bilinear; see `Placement.enlarge`.

        Raises:
            NotApplicableError: if it is unknown where the cells lie.
        """
        if self.placement is None:
            msg = f"{UNPLACED[0].upper()}{UNPLACED[1:]}, so this {self.recipe.method} map cannot be laid over it."
            raise NotApplicableError(msg)
        return self.placement.enlarge(self.values, _sides(self.images))

    def has_evidence(self, index: int = 0) -> bool:
        """Whether any value of a map is above zero, or what stands for it."""
        if self.zero is not None and self.is_flat(index):
            return False  # the value that stands for zero is its mean
        return bool(self.evidence(index).max() > 0)

    def is_flat(self, index: int = 0) -> bool:
        """Whether a map has the same value everywhere but for rounding, as one of a single cell."""
        low, high = (float(end) for end in self.values[index].aminmax())
        return is_constant([low, high])

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
            The size of the photograph. A map that is flat or has no positive evidence says so in
            words; one whose place is unknown is drawn alone, not over the photograph, and says so.
        """
        photo = to_numpy(_colour_gradient(self.images[index]))
        heat = to_numpy(self.evidence(index))
        top = float(heat.max()) if scale is None else scale
        if not self.has_evidence(index) or not top > 0:
            return without_evidence(photo, NO_EVIDENCE)
        if scale is None and self.is_flat(index):  # as hot everywhere as its own largest value
            return without_evidence(photo, FLAT)
        share = (heat / top).clip(0, 1)
        if self.placement is None:
            return unplaced(photo, share, UNPLACED, colours=colours)
        share = to_numpy(self.placement.enlarge(torch.from_numpy(share), _sides(self.images)))
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
        result = to_numpy(_colour_gradient(self.projection[index]))
        if not result.any():
            return without_evidence(to_numpy(_colour_gradient(self.images[index])), NO_EVIDENCE)
        return Image.fromarray(to_uint8(normalize_tiles(result[None], signed=True, clip=CLIP)[0]))

    def over(self, images: Tensor) -> Heatmap:
        """The same maps over the same photographs in another number of pixels.

        Every cell stays where it lies in the picture.

        Args:
            images: (N, 3, H, W), the same part of each photograph.

        >>> import torch
        >>> from convscope import Recipe
        >>> heat = Heatmap(torch.eye(2)[None], torch.zeros(1, 3, 8, 8), Recipe("m", "n", ""))
        >>> heat.over(torch.zeros(1, 3, 16, 16)).placed().shape
        torch.Size([1, 16, 16])
        """
        place = self.placement and self.placement.rescaled(_sides(self.images), _sides(images))
        return replace(self, images=images, placement=place, size=None)

    def resized(self, size: int | tuple[int, int]) -> Heatmap:
        """The maps at another size, signed as they are, for arithmetic at the pixels.

        They are the maps of the photographs at that size: every cell stays where it lies. Values
        between cells are interpolated bilinearly (where cells tile the photograph, as by PyTorch
        with `align_corners=False`); where a map shrinks, each value is a mean over what it covers.
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
        parameters = {**self.recipe.parameters, "resized": sides}
        recipe = replace(self.recipe, parameters=parameters)
        grid, size = _sides(self.values), _sides(self.images)
        if self.placement in (None, Placement.tiling(grid, size)):
            result = F.interpolate(self.values[:, None], sides, mode="bilinear", antialias=True)
            after = None if self.placement is None else TILING
            return replace(self, values=result[:, 0], recipe=recipe, placement=after)
        result = F.interpolate(self.placed()[:, None], sides, mode="bilinear", antialias=True)[:, 0]
        return replace(self, values=result, recipe=recipe, placement=TILING)

    def words(self) -> str:
        """Method, question, where the map is strongest; what else there is to say about it."""
        scores = self.recipe.scores_in_words()
        words = f"{self._place_in_words()}. {scores}" if scores else self._place_in_words()
        return self.recipe.annotated(words)

    def _place_in_words(self) -> str:
        captions = self.recipe.parameters.get("captions", ())
        target = captions[0] if len(captions) == 1 else self.recipe.objective
        what = f"{self.recipe.method} map for {target} ({self.recipe.network})"
        if self.is_flat():
            is_zero = self.zero is None and not self.values[0].any()
            return f"{what}: flat, 0 everywhere: {NO_EVIDENCE}" if is_zero else f"{what}: {FLAT}"
        if not self.has_evidence():
            return f"{what}: {NO_EVIDENCE}"
        row, column = divmod(int(self.values[0].argmax()), self.values.shape[-1])
        if self.placement is None:
            return f"{what}, strongest in cell {row},{column}; {UNPLACED}"
        centres = zip(self.placement.centre(row, column), _sides(self.images), strict=True)
        down, across = (min(max((c + 0.5) / length, 0), 1) for c, length in centres)
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
        values, images = self.values[numbers], self.images[numbers]
        return Heatmap(values, images, recipe, projection, zero, self.placement)

    def _fields(self) -> Mapping[str, Any]:
        place = self.placement
        plain = None if place is None else [*astuple(place.y), *astuple(place.x), place.sees_all]
        fields = {**super()._fields(), "placement": plain}
        del fields["size"]  # that of `images`
        return fields

    @classmethod
    def _from_fields(cls, fields: Mapping[str, Any]) -> Heatmap:
        numbers, placement = fields.get("placement"), None
        if numbers is not None:
            y, x, grid = Axis(*numbers[:3]), Axis(*numbers[3:6]), _sides(fields["values"])
            placement = Placement(y, x, grid, numbers[6])
        return cls(**{**fields, "placement": placement})

    def _array(self) -> NDArray[Any]:
        return to_numpy(self.values)


def _sides(picture: Tensor) -> tuple[int, int]:
    return int(picture.shape[-2]), int(picture.shape[-1])


def _colour_gradient(picture: Tensor) -> Tensor:
    """(C, H, W) -> (H, W, 3); other numbers of channels are shown by their mean."""
    if picture.shape[0] != 3:
        picture = picture.mean(0, keepdim=True).expand(3, -1, -1)
    return picture.permute(1, 2, 0)
