"""How a picture is written down while it is made: the numbers that the ascent changes.

A canvas is called and gives (N, C, H, W) pixels. Each picture starts from noise of its own seed,
so that one made in a batch is the one made alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import NotApplicableError
from convscope.randomness import seeded
from convscope.synthesis.colour import mix_colours, separate_colours
from convscope.synthesis.spectrum import frequencies

Size = tuple[int, int]


@dataclass(frozen=True)
class Start:
    """What a canvas begins with.

    Attributes:
        seeds: one a picture.
        size: (height, width) in pixels.
        colours: channels of a picture.
        device: where it is made.
    """

    seeds: Sequence[int]
    size: Size
    colours: int = 3
    device: torch.device | None = None

    def noise(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """What `draw` makes of a generator for each seed, stacked; drawn on the processor, so that
        every device starts from the same numbers.
        """  # noqa: D205 - one sentence that needs two lines
        drawn = {seed: draw(seeded(seed)) for seed in dict.fromkeys(self.seeds)}
        return torch.stack([drawn[seed] for seed in self.seeds]).to(self.device)


class Canvas(nn.Module):
    """A picture as numbers to be changed; `forward` gives its pixels (N, C, H, W)."""

    @property
    def pixel_canvas(self) -> Pixels | None:
        """The canvas of pixels inside, where there is one: what corrections change."""
        return None

    def resized(self, size: Size) -> Canvas:
        """The same picture on a canvas of another size, where this kind can be enlarged.

        Raises:
            NotApplicableError: if it cannot.
        """
        msg = f"A {type(self).__name__} canvas cannot be enlarged to {size}: use a preset whose first is None."
        raise NotApplicableError(msg)


class Pixels(Canvas):
    """One number a pixel and colour, with nothing to keep it within [0, 1].

    Attributes:
        raw: (N, C, H, W); pixels are `centre + spread * raw`.
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self, pixels: Tensor, centre: Sequence[float] = (0.0,), spread: Sequence[float] = (1.0,)
    ) -> None:
        """Begin with `pixels` (N, C, H, W), counted from `centre` in units of `spread` (by colour)."""
        super().__init__()
        self.register_buffer("centre", pixels.new_tensor(centre).view(-1, 1, 1))
        self.register_buffer("spread", pixels.new_tensor(spread).view(-1, 1, 1))
        self.raw = nn.Parameter((pixels - self.centre) / self.spread)

    @property
    def pixel_canvas(self) -> Pixels:
        """Itself."""
        return self

    def forward(self) -> Tensor:
        """The pixels."""
        return self.centre + self.spread * self.raw

    def resized(self, size: Size) -> Pixels:
        """Enlarged by cubic interpolation."""
        with torch.no_grad():
            pixels = F.interpolate(self(), size, mode="bicubic", align_corners=False)
        return Pixels(pixels, self.centre.flatten().tolist(), self.spread.flatten().tolist())


class Fourier(Canvas):
    """Waves of all lengths and independent colours, squashed into [0, 1].

    Each wave is scaled by its length, as photographs are, so that large shapes move as easily as
    small ones; Olah et al. 2017, doi:10.23915/distill.00007.

    Attributes:
        spectrum: (N, C, H, W // 2 + 1, 2), real and imaginary parts.
    """

    scale: Tensor

    def __init__(self, start: Start, *, decay: float = 1.0, spread: float = 0.01) -> None:
        """Begin with noise of deviation `spread`; a wave's scale falls as frequency to `decay`."""
        super().__init__()
        self.size, self.decay = start.size, decay
        length = frequencies(start.size).clamp(min=1 / max(start.size)) ** -decay
        self.register_buffer("scale", length.to(start.device))
        shape = (start.colours, *length.shape, 2)
        self.spectrum = nn.Parameter(
            spread
            * start.noise(
                lambda generator: torch.randn(shape, generator=generator, dtype=torch.float32)
            )
        )

    def forward(self) -> Tensor:
        """The pixels."""
        waves = torch.view_as_complex(self.spectrum) * self.scale
        return mix_colours(torch.fft.irfft2(waves, s=self.size, norm="ortho") / 4).sigmoid()

    @torch.no_grad()
    def resized(self, size: Size) -> Fourier:
        """Enlarged by cubic interpolation before it is squashed, and written as waves again."""
        count, colours = self.spectrum.shape[:2]
        larger = Fourier(Start([0] * count, size, colours, self.spectrum.device), decay=self.decay)
        values = F.interpolate(self().logit(1e-6), size, mode="bicubic", align_corners=False)
        waves = torch.fft.rfft2(4 * separate_colours(values), norm="ortho") / larger.scale
        larger.spectrum.copy_(torch.view_as_real(waves))
        return larger


class Phase(Canvas):
    """Waves of fixed strength, of which only the places change (MACO).

    The strengths are those of photographs, so the picture keeps their look whatever is asked;
    Fel et al. 2023, arXiv:2306.06805.

    Attributes:
        phase: (N, C, H, W // 2 + 1), angles.
    """

    magnitude: Tensor

    def __init__(self, start: Start, magnitude: Tensor) -> None:
        """Begin with random angles under the strengths `magnitude` (C, H, W // 2 + 1)."""
        super().__init__()
        self.size = start.size
        shape = (start.colours, *frequencies(start.size).shape)
        self.phase = nn.Parameter(
            start.noise(
                lambda generator: (
                    torch.pi * (2 * torch.rand(shape, generator=generator, dtype=torch.float32) - 1)
                )
            )
        )
        self.register_buffer("magnitude", magnitude.to(self.phase))

    def forward(self) -> Tensor:
        """The pixels."""
        waves = torch.polar(self.magnitude.expand_as(self.phase), _standard(self.phase))
        return mix_colours(_standard(torch.fft.irfft2(waves, s=self.size))).sigmoid()


class Grey(Canvas):
    """A canvas of one colour, shown as so many equal ones."""

    def __init__(self, canvas: Canvas, colours: int) -> None:
        """Show `canvas`, of one colour, in `colours`."""
        super().__init__()
        self.canvas, self.colours = canvas, colours

    @property
    def pixel_canvas(self) -> Pixels | None:
        """The pixels that are shown in all colours."""
        return self.canvas.pixel_canvas

    def forward(self) -> Tensor:
        """The pixels."""
        return self.canvas().expand(-1, self.colours, -1, -1)

    def resized(self, size: Size) -> Grey:
        """The canvas inside enlarged."""
        return Grey(self.canvas.resized(size), self.colours)


class WithAlpha(Canvas):
    """A canvas with another beside it that says how opaque each pixel is: (N, C + 1, H, W)."""

    def __init__(self, colours: Canvas, opacity: Canvas) -> None:
        """Put them together."""
        super().__init__()
        self.colours, self.opacity = colours, opacity

    @property
    def pixel_canvas(self) -> Pixels | None:
        """The pixels of the colours; the opacity is nobody's to correct."""
        return self.colours.pixel_canvas

    def forward(self) -> Tensor:
        """Colours and opacity."""
        return torch.cat([self.colours(), self.opacity()], 1)

    def resized(self, size: Size) -> WithAlpha:
        """Both enlarged."""
        return WithAlpha(self.colours.resized(size), self.opacity.resized(size))


def _standard(values: Tensor) -> Tensor:
    """Each picture's numbers with mean 0 and deviation 1."""
    axes = tuple(range(1, values.dim()))
    mean = values.mean(axes, keepdim=True)
    return (values - mean) / (values.std(axes, keepdim=True) + 1e-5)
