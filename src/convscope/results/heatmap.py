"""Heat maps: where in a photograph the evidence is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convscope.errors import ArgumentError, NotApplicableError
from convscope.images.original import Original
from convscope.images.resize import height_and_width
from convscope.network.rounding import is_constant
from convscope.render.bands import Bands, as_colours, is_photograph, words_for_bands
from convscope.render.colour import Floats, apply_colormap, to_grey, to_uint8
from convscope.render.figure import Panel, enlarge, enlargement, figure, to_image
from convscope.render.grid import normalize_tiles, sheet
from convscope.render.overlay import overlay, unplaced, without_evidence
from convscope.results.base import Result, encode_with_recipe, to_numpy
from convscope.results.colour_scale import ColourScale
from convscope.results.placement_fields import (
    originals_from,
    placement_from,
    plain,
    plain_originals,
)
from convscope.results.recipe import Recipe
from convscope.results.titles import title_of
from convscope.tracing.placement import Axis, Placement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_EVIDENCE = "no positive evidence"
FLAT = "flat, the same everywhere"
UNPLACED = "where the cells lie on the photograph is unknown"
TILING = Placement(Axis(), Axis(), (0, 0))
"""Stands for cells that tile the photograph, whatever its size and theirs."""
BY_ITS_LARGEST = ColourScale()
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
        originals: the photographs before they were resized, one for each; empty where unknown.
        colour_scale: what the strongest colour stands for, where the drawing is not told.
        size: (H, W) of the photographs on which they are placed, so that `dataclasses.replace` with
            photographs of another size is refused; left out, that of `images`.

    Example:
        >>> import convscope as cs
        >>> heat = cs.cam(cs.load(), "sample:china", "class:church")
        >>> heat.values.shape, heat.images.shape
        (torch.Size([1, 9, 9]), torch.Size([1, 3, 144, 144]))
        >>> heat.resized((144, 144)).values.shape
        torch.Size([1, 144, 144])
        >>> heat.picture(caption=False, colourbar=False).size
        (144, 144)
        >>> heat.save("church.svg", over="original").name
        'church.svg'
    """

    values: Tensor
    images: Tensor
    recipe: Recipe
    projection: Tensor | None = None
    zero: Tensor | None = None
    placement: Placement | None = TILING
    originals: Sequence[Original] = ()
    colour_scale: ColourScale = BY_ITS_LARGEST
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
        over: str = "input",
        opacity: float = 0.5,
        colours: str = "heat",
        base: str = "colour",
        scale: float | None = None,
        clip: float | None = None,
        projection: bool = False,
        bands: Bands = None,
        caption: bool = True,
        colourbar: bool = True,
        theme: str = "light",
    ) -> Image.Image:
        """Draw the positive part of one map over its photograph.

        Args:
            index: which photograph.
            over: "input", the pixels that the network saw, enlarged so that they can be read; or
                "original", the whole photograph at its own size, with the part that was seen framed.
            opacity: share of the heat map, 0 to 1.
            colours: "heat", "reds", "grey", "signed", or a colour map of matplotlib.
            base: "colour" or "grey", how the photograph is shown.
            scale: the value drawn hottest; None takes the map's largest, see `colour_scale`.
            clip: share of the pixels within the scale, instead of the method's own.
            projection: draw what the method gives colour by colour, see `projected`, and beside it
                the photograph.
            bands: of an image that is no photograph: the band drawn in grey, or the three drawn as
                red, green and blue, from 0; None draws the mean of all.
            caption: whether method, class, layer and network stand above it.
            colourbar: whether the scale stands beside it.
            theme: "light" or "dark" paper.

        Returns:
            Without caption and colour bar: as large as the photograph. A map that is flat or has
            no positive evidence says so in words; one whose place is unknown is drawn alone, not
            over the photograph, and says so.

        Raises:
            ArgumentError: if an option is outside its range.
            NotApplicableError: if `over` is "original" and the map was made of a tensor.
        """
        style = _Style(over, opacity, colours, base, scale, clip, projection, bands)
        if not caption and not colourbar:
            return self._bare(index, style)
        panels = self._panels(index, style, caption=caption, colourbar=colourbar)
        return to_image(figure(panels, theme=theme))

    def figure(self, index: int = 0, *, together: bool = False, **drawing: Any) -> Figure:
        """The same as a figure of matplotlib.

        Args:
            index: which photograph.
            together: all of them in a row, as `side_by_side` draws them.
            **drawing: as of `picture`, or of `side_by_side`.
        """
        theme, colourbar = drawing.pop("theme", "light"), drawing.pop("colourbar", True)
        style, caption = _Style(**drawing), True
        if together:
            return _row([self], style, caption=caption, colourbar=colourbar, theme=theme)
        panels = self._panels(index, style, caption=caption, colourbar=colourbar)
        return figure(panels, theme=theme)

    def side_by_side(
        self,
        *others: Heatmap,
        opacity: float = 0.5,
        colours: str = "heat",
        scale: float | None = None,
        caption: bool = True,
        colourbar: bool = True,
        theme: str = "light",
    ) -> Image.Image:
        """All maps in a row, in one scale.

        Args:
            others: further maps, of the same method.
            opacity: as in `picture`.
            colours: as in `picture`.
            scale: the value drawn hottest in all of them; None takes the largest of all.
            caption: whether words say what each explains.
            colourbar: whether the scale stands beside the last one.
            theme: "light" or "dark" paper.

        Raises:
            ArgumentError: if the maps are of different methods or units, whose values no scale holds.

        Example:
            >>> import convscope as cs
            >>> net = cs.load()
            >>> church = cs.cam(net, "sample:china", "church")
            >>> pump = cs.cam(net, "sample:china", "gas pump")  # far less, and it looks so
            >>> church.side_by_side(pump, caption=False, colourbar=False).size
            (294, 148)
        """
        heats = [self, *others]
        style = _Style(opacity=opacity, colours=colours, scale=scale)
        if caption or colourbar:
            return to_image(_row(heats, style, caption=caption, colourbar=colourbar, theme=theme))
        style = _in_one_scale(heats, style)
        tiles = [
            _unit(np.asarray(heat._bare(i, style)))  # noqa: SLF001
            for heat in heats
            for i in range(len(heat))
        ]
        return sheet(tiles, columns=len(tiles), theme=theme)

    def save(self, path: str | Path, **drawing: Any) -> Path:
        """Write a figure of each photograph, or with .npz all raw values and the recipe.

        Args:
            path: its ending says the form: .png, .jpg, .webp; .svg and .pdf, in which words and
                bars are vectors; .npz. Of several photographs the files are called `name-0.png`,
                `name-1.png` and so on.
            drawing: options of `picture`; `together=True` draws all photographs in one file, as
                `side_by_side` does.

        Returns:
            The file, or the first of them.

        Raises:
            ArgumentError: if the ending is another one.
        """
        path = Path(path)
        is_one = len(self) == 1 or "index" in drawing or drawing.get("together", False)
        if is_one or path.suffix.lower() == ".npz":
            return super().save(path, **drawing)
        files = [path.with_stem(f"{path.stem}-{i}") for i in range(len(self))]
        for i, file in enumerate(files):
            super().save(file, index=i, **drawing)
        return files[0]

    def _raster(
        self, kind: str, *, together: bool = False, index: int = 0, **drawing: Any
    ) -> bytes:
        if together:
            return encode_with_recipe(self.side_by_side(**drawing), self.recipe, kind)
        recipe = self.recipe.of_images([index])
        return encode_with_recipe(self.picture(index, **drawing), recipe, kind)

    def _vectors(self, form: str, **drawing: Any) -> bytes:
        if len(self) == 1 or drawing.get("together", False):
            return super()._vectors(form, **drawing)
        return self[drawing.pop("index", 0)]._vectors(form, **drawing)  # noqa: SLF001

    def _top(self, index: int, style: _Style) -> float:
        """The value drawn hottest; 0 where there is nothing to draw."""
        if style.scale is not None:
            return style.scale
        if not self.has_evidence(index):
            return 0.0
        scale = self.colour_scale
        scale = scale if style.clip is None else replace(scale, clip=style.clip)
        return scale.top(to_numpy(self.evidence(index)))

    def _notice(self, index: int, style: _Style, top: float) -> str:
        """What stands in the picture instead of colours; "" where there are colours to see."""
        if not self.has_evidence(index) or not top > 0:
            return NO_EVIDENCE
        return FLAT if style.scale is None and self.is_flat(index) else ""

    def _bare(self, index: int, style: _Style) -> Image.Image:
        if style.projection:
            return self.projected(index)
        photo, crop = self._photograph(index, style)
        top = self._top(index, style)
        notice = self._notice(index, style, top)
        if notice:
            return without_evidence(_unit(photo), notice)
        heat = self._relative(index, top)
        if self.placement is None:
            return unplaced(_unit(photo), heat, UNPLACED, colours=style.colours)
        return Image.fromarray(self._laid_over(self.placement, heat, style, photo, crop))

    def _panels(self, index: int, style: _Style, *, caption: bool, colourbar: bool) -> list[Panel]:
        """One map; what is drawn in its own colours stands beside the photograph that it is of."""
        panel = self._panel(index, style, caption=caption, colourbar=colourbar)
        if not style.projection:
            return [panel]
        photo, _ = self._photograph(index, replace(style, over="input"))
        return [panel, Panel(enlarge(photo, enlargement(*photo.shape[:2])), "Photograph")]

    def _panel(self, index: int, style: _Style, *, caption: bool, colourbar: bool) -> Panel:
        """One map as a panel of a figure, large enough to be read."""
        title, subtitle = self._words_above(index) if caption else ("", "")
        if style.projection:
            pixels = np.asarray(self.projected(index))
            pixels = enlarge(pixels, enlargement(*pixels.shape[:2]))
            note = "Grey is zero. " + self.recipe.note if caption else ""
            return Panel(pixels, title, subtitle, note=note.strip())
        photo, crop = self._photograph(index, style)
        times = enlargement(*photo.shape[:2])
        photo, (y, x, height, width) = enlarge(photo, times), crop
        crop = (times * y, times * x, times * height, times * width)
        top, bar = self._top(index, style), None
        notice = self._notice(index, style, top)
        if notice:
            pixels = to_uint8(0.6 * to_grey(_unit(photo)))
        elif self.placement is None:
            notice = UNPLACED
            cells = to_uint8(apply_colormap(self._relative(index, top), style.colours))
            size = (photo.shape[1], photo.shape[0])
            pixels = np.asarray(Image.fromarray(cells).resize(size, Image.Resampling.NEAREST))
        else:
            heat = self._relative(index, top)
            pixels = self._laid_over(self.placement, heat, style, photo, crop)
        if colourbar and notice in ("", UNPLACED):
            strongest = float(self.evidence(index).max())
            bar = self.colour_scale.bar(top, style.colours, strongest=strongest)
        frame = crop if style.over == "original" and _is_inside(crop, photo) else None
        note = self._note_below(index, style, top) if caption else ""
        return Panel(pixels, title, subtitle, bar, notice, frame, note)

    def _photograph(self, index: int, style: _Style) -> tuple[NDArray[np.uint8], Part]:
        """The photograph below a map, and which part of it the network saw."""
        if style.over == "input":
            photo = to_uint8(as_colours(to_numpy(self.images[index]), style.bands))
            return photo, (0.0, 0.0, float(photo.shape[0]), float(photo.shape[1]))
        if style.over != "original":
            msg = f"over must be 'input' or 'original', not {style.over!r}."
            raise ArgumentError(msg)
        if not self.originals:
            msg = (
                "The photograph before it was resized is unknown, because the map was made of a tensor; "
                "give the photograph itself, as cam(net, 'photo.jpg'), or draw with over='input'."
            )
            raise NotApplicableError(msg)
        return self.originals[index].open()

    def _relative(self, index: int, top: float) -> Floats:
        """A map's evidence in [0, 1], (h, w), relative to the value drawn hottest."""
        return (to_numpy(self.evidence(index)) / top).clip(0, 1)

    def _laid_over(
        self,
        placement: Placement,
        heat: Floats,
        style: _Style,
        photo: NDArray[np.uint8],
        crop: Part,
    ) -> NDArray[np.uint8]:
        """A map over a photograph of which the network saw a part."""
        (height, width), (top, left, tall, wide) = _sides(self.images), crop
        y, x = height / tall, width / wide  # pixels of the input for one of the photograph
        pixels = Placement(
            Axis(1, y, (0.5 - top) * y - 0.5), Axis(1, x, (0.5 - left) * x - 0.5), photo.shape[:2]
        )
        moved = to_numpy(placement.move(torch.from_numpy(heat), pixels).clamp(0, 1))
        options = {"colours": style.colours, "base": style.base}
        result = np.asarray(overlay(_unit(photo), moved, opacity=style.opacity, **options))
        if not _is_inside(crop, photo):
            return result
        dimmed = to_uint8(0.75 * _unit(photo))  # what the network did not see
        inside = tuple(
            slice(max(0, round(start)), round(start + length))
            for start, length in ((top, tall), (left, wide))
        )
        dimmed[inside] = result[inside]
        return dimmed

    def _words_above(self, index: int) -> tuple[str, str]:
        recipe = self.recipe
        layer = recipe.parameters.get("layer")
        known = recipe.explained[index] if recipe.explained else None
        title = f"{title_of(recipe.method)} for {known or self._target(index)}"
        number = f"class {known.class_id}" if known and known.class_id is not None else ""
        is_named = bool(number) and number not in str(known)
        parts = [number if is_named else "", f"layer {layer}" if layer else "", recipe.network]
        return title, " · ".join(filter(None, parts))

    def _target(self, index: int) -> str:
        captions = self.recipe.parameters.get("captions", ())
        return str(captions[index]) if captions else self.recipe.objective or "all"

    def _note_below(self, index: int, style: _Style, top: float) -> str:
        """What the picture does not show by itself."""
        strongest = float(self.evidence(index).max())
        clip = self.colour_scale.clip if style.clip is None else style.clip
        clipped = ""
        if style.scale is None and clip < 1 and strongest > top > 0:
            clipped = f"{clip:.0%} of the pixels lie within the scale; the largest value is {strongest:.3g}."
        image, drawn = to_numpy(self.images[index]), ""
        if style.over == "input" and not is_photograph(image, style.bands):
            drawn = words_for_bands(len(image), style.bands)
        scores = self.recipe.scores_in_words()
        return " ".join(filter(None, [clipped, drawn, scores, self.recipe.note]))

    def projected(self, index: int = 0) -> Image.Image:
        """Draw the projection of one photograph in its own colours; zero is mid-grey.

        Raises:
            NotApplicableError: if the method gives no colours.
        """
        if self.projection is None:
            msg = f"{self.recipe.method} gives no projection in colour; picture() draws its map."
            raise NotApplicableError(msg)
        result = to_numpy(_as_colours(self.projection[index]))
        if not result.any():
            return without_evidence(as_colours(to_numpy(self.images[index])), NO_EVIDENCE)
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
        named = self.recipe.explained
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        target = f"{named[0]}{more}" if named else self._target(0)
        what = f"{title_of(self.recipe.method)} for {target} ({self.recipe.network})"
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
        return replace(
            self,
            values=self.values[numbers],
            images=self.images[numbers],
            recipe=self.recipe.of_images(numbers),
            projection=None if self.projection is None else self.projection[numbers],
            zero=None if self.zero is None else self.zero[numbers],
            originals=[self.originals[k] for k in numbers] if self.originals else (),
        )

    def _fields(self) -> Mapping[str, Any]:
        """Plain data; of photographs the paths, for their pixels are those of others."""
        fields = {
            **super()._fields(),
            "placement": self.placement and plain(self.placement),
            "colour_scale": asdict(self.colour_scale),
            "originals": plain_originals(self.originals),
        }
        del fields["size"]  # that of `images`
        return fields

    @classmethod
    def _from_fields(cls, fields: Mapping[str, Any]) -> Heatmap:
        numbers, grid = fields.get("placement"), _sides(fields["values"])
        placement = None if numbers is None else placement_from(numbers, grid)
        originals = originals_from(fields.get("originals", ()))
        scale = ColourScale(**fields.get("colour_scale", {}))
        own = {"placement": placement, "originals": originals, "colour_scale": scale}
        return cls(**{**fields, **own})

    def _array(self) -> NDArray[Any]:
        return to_numpy(self.values)


Part = tuple[float, float, float, float]  # top, left, height and width


@dataclass(frozen=True)
class _Style:
    """How maps are drawn; see `Heatmap.picture`."""

    over: str = "input"
    opacity: float = 0.5
    colours: str = "heat"
    base: str = "colour"
    scale: float | None = None
    clip: float | None = None
    projection: bool = False
    bands: Bands = None


def _in_one_scale(heats: Sequence[Heatmap], style: _Style) -> _Style:
    """The style with one scale for all maps.

    Raises:
        ArgumentError: if their values have different meanings.
    """
    kinds = dict.fromkeys((heat.recipe.method, heat.colour_scale.unit) for heat in heats)
    if len(kinds) > 1:
        names = " and ".join(f"{method} ({unit})" if unit else method for method, unit in kinds)
        msg = f"One scale cannot hold maps of {names}, whose values have different meanings; draw each by picture()."
        raise ArgumentError(msg)
    if style.scale is not None:
        return style
    tops = [heat._top(i, style) for heat in heats for i in range(len(heat))]  # noqa: SLF001
    return replace(style, scale=max(tops) or None)


def _row(
    heats: Sequence[Heatmap], style: _Style, *, caption: bool, colourbar: bool, theme: str
) -> Figure:
    """All maps in rows of six at most, in one scale, whose bar stands beside the last."""
    style = _in_one_scale(heats, style)
    images = [(heat, i) for heat in heats for i in range(len(heat))]
    panels = [
        heat._panel(i, style, caption=caption, colourbar=colourbar and number == len(images))  # noqa: SLF001
        for number, (heat, i) in enumerate(images, 1)
    ]
    return figure(panels, theme=theme, columns=min(len(panels), 6))


def _unit(photo: NDArray[np.uint8]) -> Floats:
    """Bytes as numbers in [0, 1]."""
    return np.asarray(photo, dtype=np.float32) / np.float32(255)


def _is_inside(part: Part, photo: NDArray[np.uint8]) -> bool:
    """Whether a part is less than the photograph by a pixel or more."""
    top, left, height, width = part
    return (
        top >= 1
        or left >= 1
        or top + height <= photo.shape[0] - 1
        or left + width <= photo.shape[1] - 1
    )


def _sides(picture: Tensor) -> tuple[int, int]:
    return int(picture.shape[-2]), int(picture.shape[-1])


def _as_colours(picture: Tensor) -> Tensor:
    """(C, H, W) -> (H, W, 3); other numbers of channels are shown by their mean."""
    if picture.shape[0] != 3:
        picture = picture.mean(0, keepdim=True).expand(3, -1, -1)
    return picture.permute(1, 2, 0)
