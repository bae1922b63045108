"""Canvases, colours and spectra, against formulas written out and photographs to be fitted."""

import numpy as np
import pytest
import torch

from convscope.errors import NotApplicableError
from convscope.images.read import read
from convscope.synthesis.colour import mix_colours, mixing_matrix, separate_colours
from convscope.synthesis.parametrizations import Fourier, Phase, Pixels, Start, WithAlpha
from convscope.synthesis.presets import PRESETS
from convscope.synthesis.spectrum import frequencies, power_slope, sample_magnitude

SIZES = [(16, 16), (17, 17), (12, 19), (15, 8)]


def start(size=(16, 16), seeds=(0,), colours=3):
    return Start(seeds, size, colours)


def magnitude(size):
    return 1 / frequencies(size).clamp(min=1 / max(size)).expand(3, -1, -1)


@pytest.mark.parametrize("size", SIZES)
def test_canvases_give_pixels_of_their_size(size):
    for canvas in (Fourier(start(size)), Phase(start(size), magnitude(size))):
        pixels = canvas()
        assert (1, 3, *size) == pixels.shape
        assert pixels.min() >= 0
        assert pixels.max() <= 1


@pytest.mark.parametrize("size", SIZES)
def test_fourier_is_a_sum_of_waves_written_out(size):
    """An inverse Fourier transform as a double sum over all waves of a real picture."""
    height, width = size
    noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).double()
    half = torch.fft.rfft2(noise)  # of a real picture, so that no wave contradicts another
    canvas = Fourier(start(size))
    canvas.spectrum.data = torch.view_as_real(half / canvas.scale).float()
    y, x = np.mgrid[:height, :width]
    found = np.zeros((3, height, width), dtype=complex)
    for u in range(height):
        for v in range(width):
            own = (
                half[0, :, u, v] if v < half.shape[3] else half[0, :, -u % height, width - v].conj()
            )
            wave = np.exp(2j * np.pi * (u * y / height + v * x / width))
            found += own.resolve_conj().numpy()[:, None, None] * wave / np.sqrt(height * width)
    expected = (mix_colours(torch.tensor(found.real)[None]) / 4).sigmoid()
    torch.testing.assert_close(canvas().detach().double(), expected, rtol=1e-4, atol=1e-5)
    canvas.spectrum.data.zero_()
    torch.testing.assert_close(canvas().detach(), torch.full((1, 3, *size), 0.5))


def test_scale_of_waves():
    canvas = Fourier(start((12, 16)))
    assert 16 == canvas.scale[0, 0]
    torch.testing.assert_close(canvas.scale[6, 8], torch.tensor(2**0.5))


def test_it_starts_near_mid_grey():
    for side in (64, 128, 225):
        pixels = Fourier(start((side, side)))().detach()
        assert abs(float(pixels.mean()) - 0.5) < 0.02
        assert float(pixels.std()) < 0.04


@pytest.mark.parametrize("kind", ["pixels", "fourier"])
def test_a_photograph_can_be_written_on_it(kind):
    """Mean error below 0.01 after 1000 steps of Adam at 0.05."""
    photo = read("sample:china", 48)
    canvas = Fourier(start((48, 48))) if kind == "fourier" else Pixels(torch.full_like(photo, 0.5))
    optimizer = torch.optim.Adam(canvas.parameters(), lr=0.05 if kind == "fourier" else 0.01)
    for _ in range(1000):
        optimizer.zero_grad()
        (canvas() - photo).square().mean().backward()
        optimizer.step()
    assert float((canvas().detach() - photo).abs().mean()) < 0.01


def test_each_picture_has_the_noise_of_its_own_seed():
    together = Fourier(start(seeds=(5, 7, 5)))().detach()
    assert torch.equal(together[0], together[2])
    assert not torch.equal(together[0], together[1])
    assert torch.equal(together[1:2], Fourier(start(seeds=(7,)))())


def test_phase_keeps_the_strength_of_every_wave():
    """Whatever the phases, the picture before standardising has the given spectrum."""
    size = (16, 15)
    canvas = Phase(start(size), magnitude(size))
    waves = torch.polar(canvas.magnitude.expand_as(canvas.phase), canvas.phase)
    back = torch.fft.rfft2(torch.fft.irfft2(waves, s=size)).abs()
    inside = (slice(None), slice(None), slice(1, 8), slice(1, 7))
    torch.testing.assert_close(back[inside], canvas.magnitude[None][inside], rtol=1e-3, atol=1e-3)


def test_colours_are_a_root_of_the_covariance_and_can_be_undone():
    assert mixing_matrix(3).norm(dim=0).max() == pytest.approx(1)
    assert float(mixing_matrix(3)[0, 0]) == pytest.approx(0.26 / 0.46195, rel=1e-4)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(separate_colours(mix_colours(x)), x, rtol=1e-4, atol=1e-5)
    one = torch.randn(2, 1, 4, 5)
    assert torch.equal(one, mix_colours(one))


def test_slopes_of_known_spectra():
    """White noise has 0; noise whose amplitude falls as 1/f has -2."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8, 3, 128, 128, generator=generator)
    assert float(power_slope(noise).mean()) == pytest.approx(0, abs=0.1)
    waves = torch.fft.rfft2(noise) / frequencies((128, 128)).clamp(min=1 / 128)
    pink = torch.fft.irfft2(waves, s=(128, 128))
    assert float(power_slope(pink).mean()) == pytest.approx(-2, abs=0.1)
    assert -3 < float(power_slope(read("sample:china", 224))[0]) < -1.5


def test_the_spectrum_of_samples_falls_with_frequency_at_any_size():
    for size in ((64, 64), (225, 130)):
        found = sample_magnitude(size)
        assert (3, size[0], size[1] // 2 + 1) == found.shape
        assert float(found[0, 2, 2]) > 5 * float(found[0, size[0] // 4, size[1] // 4])


def test_opacity_is_one_channel_more():
    colours, opacity = Fourier(start()), Fourier(start(seeds=(1,), colours=1))
    found = WithAlpha(colours, opacity)()
    assert (1, 4, 16, 16) == found.shape
    assert torch.equal(colours(), found[:, :3])
    assert torch.equal(opacity(), found[:, 3:])


def test_pixels_are_enlarged_by_cubic_interpolation():
    photo = read("sample:flower", 20)
    canvas = Pixels(photo, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    torch.testing.assert_close(canvas(), photo)
    larger = canvas.resized((30, 30))()
    expected = torch.nn.functional.interpolate(photo, (30, 30), mode="bicubic")
    torch.testing.assert_close(larger, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(NotApplicableError, match="A Phase canvas cannot be enlarged"):
        Phase(start(), magnitude((16, 16))).resized((30, 30))


@pytest.mark.parametrize("colours", [1, 2, 3, 5])
@pytest.mark.parametrize("plan", PRESETS.values(), ids=list(PRESETS))
def test_every_recipe_has_a_canvas_of_any_number_of_colours(plan, colours):
    assert (2, colours, 24, 24) == plan.canvas(start((24, 24), (0, 1), colours))().shape
