"""Images of any number of bands: satellites, depth, optical flow, spectrograms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import convscope as cs
from convscope import Network
from convscope.errors import ArgumentError, ImageError, NotApplicableError
from convscope.images.fill import fill_images
from convscope.render.bands import as_colours, words_for_bands

SIZE, BANDS, CAUSE, DECOY = 24, 13, 7, 2
LEVELS = torch.linspace(0.2, 3.0, BANDS).view(1, -1, 1, 1)  # of the bands, which differ


def scenes(count, seed):
    """Noise of 13 bands; a bright square in band 7 makes class 1, one in band 2 never matters.

    Returns:
        Images, classes, and where the square of band 7 begins.
    """
    generator = torch.Generator().manual_seed(seed)
    x = LEVELS + 0.1 * torch.randn(count, BANDS, SIZE, SIZE, generator=generator)
    classes = torch.arange(count) % 2
    corners = torch.randint(2, SIZE - 8, (count, 4), generator=generator)
    for image, label, (a, b, c, d) in zip(x, classes, corners.tolist(), strict=True):
        image[DECOY, c : c + 6, d : d + 6] += 0.8
        if label:
            image[CAUSE, a : a + 6, b : b + 6] += 0.8
    return x, classes, corners[:, :2]


def make():
    return nn.Sequential(
        nn.BatchNorm2d(BANDS), nn.Conv2d(BANDS, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """A network that learnt which square matters."""
    torch.manual_seed(0)
    with torch.enable_grad():
        module = make()
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        for step in range(60):
            x, classes, _ = scenes(32, step)
            optimizer.zero_grad()
            F.cross_entropy(module(x), classes).backward()
            optimizer.step()
    module.eval()
    with torch.no_grad():
        x, classes, _ = scenes(64, 1000)
        assert (module(x).argmax(1) == classes).float().mean() > 0.95
    return module


@pytest.fixture
def net(trained):
    with pytest.warns(UserWarning, match="No mean and std"):
        return cs.load(trained, size=SIZE, labels="nothing,square")


def test_the_band_that_matters(net):
    x, _, _ = scenes(8, 2000)
    for method in ("occlusion", "gradient", "integrated"):
        table = cs.band_importance(net, x[1::2], "square", method=method)
        assert max(table.rows, key=lambda row: row[3])[0] == CAUSE, method
        assert sum(table.column("share")) == pytest.approx(1)


@pytest.mark.parametrize("method", ["gradcam", "layercam", "occlusion"])
def test_the_place_that_matters(net, method):
    x, _, corners = scenes(8, 3000)
    if method == "occlusion":
        heat = cs.occlusion(net, x[1::2], "square", window=6, stride=3)
    else:
        heat = cs.cam(net, x[1::2], "square", method=method)
    for values, (top, left) in zip(heat.placed(), corners[1::2].tolist(), strict=True):
        row, column = divmod(int(values.argmax()), SIZE)
        assert top - 3 <= row < top + 9
        assert left - 3 <= column < left + 9


def test_band_importance_equals_its_loop(net):
    """Each band covered by its own mean, one by one, in float64."""
    x, _, _ = scenes(2, 4000)
    found = cs.band_importance(net, x, "square").column("value")
    module = make().double()
    module.load_state_dict({k: v.double() for k, v in net.module.state_dict().items()})
    module.eval()
    falls = torch.zeros(2, BANDS, dtype=torch.float64)
    for image in range(2):
        for band in range(BANDS):
            covered = x[image : image + 1].double()
            before = module(covered)[0, 1]
            covered[:, band] = covered[:, band].mean()
            falls[image, band] = before - module(covered)[0, 1]
    torch.testing.assert_close(torch.tensor(found).double(), falls.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 13, 20])
def test_a_mean_for_each_channel(channels):
    torch.manual_seed(0)
    own = nn.Sequential(
        nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    mean, std = torch.linspace(100, 900, channels), torch.linspace(10, 50, channels)
    if channels == 1:
        mean, std = mean / 1000, std / 1000
    x = mean.view(1, -1, 1, 1) + std.view(1, -1, 1, 1) * torch.rand(2, channels, 16, 16)
    net = cs.load(own, mean=mean.tolist(), std=std.tolist(), size=16)
    assert channels == net.channels
    with torch.no_grad():
        expected = own((x - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1))
    torch.testing.assert_close(net.activations(x, ["output"])["output"], expected)


class Mixed(nn.Module):
    """Something before the first convolution that changes the number of channels."""

    def __init__(self, before, channels):
        super().__init__()
        self.before, self.conv = before, nn.Conv2d(channels, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.conv(self.before(x)).relu().mean((2, 3)))


class Coordinates(nn.Module):
    def forward(self, x):
        rows = torch.linspace(-1, 1, x.shape[2]).view(1, 1, -1, 1).expand(len(x), 1, -1, x.shape[3])
        return torch.cat([x, rows, rows.transpose(2, 3)], 1)


@pytest.mark.parametrize(
    ("before", "inside"),
    [(nn.PixelUnshuffle(2), 4 * BANDS), (Coordinates(), BANDS + 2), (nn.BatchNorm2d(BANDS), BANDS)],
)
def test_what_comes_before_the_first_convolution(before, inside):
    torch.manual_seed(0)
    own = Mixed(before, inside).eval()
    x = torch.rand(2, BANDS, 16, 16)
    net = Network(own, input_size=(16, 16))
    assert BANDS == net.bands
    with torch.no_grad():
        expected = own(x)
    torch.testing.assert_close(net.activations(x, ["output"])["output"], expected)


class Transposed(nn.Module):
    """A spectrogram (1, T, F) with a norm over its frequencies, as audio networks have it."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv, self.head = nn.BatchNorm2d(20), nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        x = self.norm(x.transpose(1, 3)).transpose(1, 3)
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.fixture
def decibels():
    torch.manual_seed(0)
    own = Transposed()
    own.train()
    own(torch.randn(8, 1, 30, 20) * 20 - 40)
    with pytest.warns(UserWarning, match="No mean and std"):
        return cs.load(own.eval(), size=(30, 20))


def test_decibels_are_passed_as_they_are(decibels, tmp_path):
    x = torch.randn(2, 1, 30, 20) * 20 - 40
    np.save(tmp_path / "sound.npy", x[0, 0].numpy())
    with torch.no_grad():
        expected = decibels.module(x)
    for given, wanted in (
        (x, expected), (x[0], expected[:1]), (x[0, 0].numpy(), expected[:1]),
        (tmp_path / "sound.npy", expected[:1]), (list(x.numpy()), expected),
    ):  # fmt: skip
        pixels = decibels.as_pixels(given)
        found = decibels.activations(pixels, ["output"])["output"]
        torch.testing.assert_close(found, wanted)


def test_a_network_that_normalises_pixels_wants_pixels(decibels):
    """Where mean and std of pixels were given, other values are a mistake."""
    net = cs.load(decibels.module, mean=0.5, std=0.25, size=(30, 20))
    with pytest.raises(ImageError, match=r"must lie in \[0, 1\]"):
        cs.predict(net, torch.randn(1, 1, 30, 20) * 20 - 40)


def test_a_window_shows_the_mean_where_there_is_no_grey(decibels):
    x = torch.randn(1, 1, 30, 20) * 20 - 40
    heat = cs.occlusion(decibels, x, 1, window=5, stride=5)
    assert "mean" == heat.recipe.parameters["fill"]
    with torch.no_grad():
        covered = x.clone()
        covered[..., 5:10, 10:15] = x.mean()
        fall = float(decibels.module(x)[0, 1] - decibels.module(covered)[0, 1])
    assert fall == pytest.approx(float(heat.values[0, 7, 12]), abs=1e-4)
    with pytest.raises(
        ArgumentError, match=r"^grey is 0\.5 where pixels lie in \[0, 1\], but these"
    ):
        cs.occlusion(decibels, x, 1, fill="grey")


def test_noise_lies_between_the_ends_of_each_band():
    x = LEVELS + 0.1 * torch.rand(1, BANDS, SIZE, SIZE)
    noise = fill_images(x, "noise", (SIZE, SIZE), 0)
    assert bool((noise >= x.amin((2, 3), keepdim=True)).all())
    assert bool((noise <= x.amax((2, 3), keepdim=True)).all())


def test_files_of_bands(net, tmp_path):
    """The same numbers from an array, .npy, .npz, a TIFF of pages and one of bands."""
    tifffile = pytest.importorskip("tifffile")
    x, _, _ = scenes(1, 5000)
    array = x[0].numpy()
    np.save(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", array.transpose(1, 2, 0))
    np.savez(tmp_path / "c.npz", image=array)
    tifffile.imwrite(tmp_path / "d.tif", array, photometric="minisblack")
    tifffile.imwrite(
        tmp_path / "e.tiff",
        array.transpose(1, 2, 0),
        photometric="minisblack",
        planarconfig="contig",
    )
    sources = [array, array.transpose(1, 2, 0), x, x[0], *sorted(tmp_path.iterdir())]
    for source in sources:
        assert torch.equal(x, net.as_pixels(source)), source
    both = net.as_pixels([tmp_path / "a.npy", array])
    assert torch.equal(torch.cat([x, x]), both)


def test_a_tiff_of_pages_needs_no_further_package(net, tmp_path, monkeypatch):
    monkeypatch.setattr("convscope.images.bands.find_spec", lambda _name: None)
    x, _, _ = scenes(1, 5000)
    first, *others = [Image.fromarray(band) for band in x[0].numpy()]
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    assert torch.equal(x, net.as_pixels(tmp_path / "pages.tif"))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 9, 9), np.float32), r"^This array has the shape \(4, 9, 9\), but the network takes 13 bands: \(13, H, W\) or \(H, W, 13\)\.$"),
        (np.zeros((13, 9, 13), np.float32), r"^This array has the shape \(13, 9, 13\), so either its first or its last axis could be that of the bands; "),
        (np.full((13, 9, 9), np.nan, np.float32), r"^This array holds 1,053 of 1,053 values that are not finite "),
        (np.zeros((13, 9, 9), np.uint16), r"^This array holds integers of type uint16, from 0 to 0; say which values are 0 and 1, as in read\(\.\.\., range=\(0, 10000\)\) "),
    ],
)  # fmt: skip
def test_what_is_no_image_of_these_bands(net, array, message):
    with pytest.raises(ImageError, match=message):
        net.read(array)


def test_counts_with_a_range(net):
    counts = np.full((13, SIZE, SIZE), 2500, np.uint16)
    assert float(net.read(counts, range=(0, 10000)).max()) == pytest.approx(0.25)


def test_a_range_of_the_network(trained, tmp_path):
    """It holds for integers and files; arrays and tensors of floats stay as they are, alone or not."""
    net = cs.load(trained, mean=0, std=1, size=SIZE, range=(0, 10000))
    counts = np.full((13, SIZE, SIZE), 2500, np.int32)
    assert float(net.read(counts).max()) == pytest.approx(0.25)
    floats = counts.astype(np.float32)
    np.save(tmp_path / "scene.npy", floats)
    assert float(net.read(tmp_path / "scene.npy").max()) == pytest.approx(0.25)
    for given in (floats, torch.from_numpy(floats)[None], [floats]):
        assert float(net.as_pixels(given).max()) == 2500
    counts[0, 0, 0] = 12000
    with pytest.warns(
        UserWarning, match=r"^This array: 1 of 7,488 values lie outside \[0, 10000\]"
    ):
        net.read(counts)
    np.save(tmp_path / "wrong.npy", floats[:4])
    with pytest.raises(
        ImageError, match=r"^wrong\.npy has the shape \(4, 24, 24\), but the network"
    ):
        net.read(tmp_path / "wrong.npy")


def test_a_photograph_is_refused(net):
    with pytest.raises((ImageError, NotApplicableError), match="13"):
        cs.predict(net, "sample:china")


def test_means_and_channels_that_disagree():
    own = nn.Sequential(nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = cs.load(own, mean=[0.5] * 6, std=0.25, size=16)
    with pytest.raises(NotApplicableError, match=r"^Sequential takes images of 4 channels, but mean and std have 6 numbers\.$"):  # fmt: skip
        _ = net.layers


def test_filters_band_by_band(net):
    pictures = cs.filters(net)
    assert (8 * BANDS, 1, 3, 3) == tuple(pictures.values.shape)
    weight = net.module[1].weight.detach()
    torch.testing.assert_close(pictures.values[BANDS + CAUSE, 0], weight[1, CAUSE])
    assert "1, band 7" == pictures.captions[BANDS + CAUSE]
    assert BANDS == pictures.columns


def test_bands_as_colours():
    """Each band from its 2nd to its 98th percentile."""
    image = np.random.default_rng(0).normal(size=(13, 10, 10))
    drawn = as_colours(image, (3, 2, 1))
    low, high = np.percentile(image[2], (2, 98))
    np.testing.assert_allclose(
        drawn[..., 1], ((image[2] - low) / (high - low)).clip(0, 1), atol=1e-6
    )
    assert np.array_equal(as_colours(image, 5)[..., 0], as_colours(image, 5)[..., 2])
    assert "Drawn in band 5, stretched from its 2nd to its 98th percentile." == words_for_bands(
        13, 5
    )
    photo = np.random.default_rng(0).random((3, 4, 4))
    np.testing.assert_allclose(as_colours(photo), photo.transpose(1, 2, 0), atol=1e-6)
    with pytest.raises(ArgumentError, match="from 0 to 12, not"):
        as_colours(image, (13, 1, 2))


def test_pictures_say_which_bands_they_show(net):
    x, _, _ = scenes(2, 6000)
    heat = cs.cam(net, x, "square")
    assert heat.picture(bands=(7, 2, 0)).size == heat.picture().size
    bare = heat.picture(1, bands=7, opacity=0, caption=False, colourbar=False)
    expected = (as_colours(x[1].numpy(), 7) * 255 + 0.5).astype(np.uint8)
    assert np.array_equal(np.asarray(bare), expected)


def test_everything_else_runs(net):
    """Methods, tour and synthesis; photographs are what dreams and inversion are for."""
    x, _, _ = scenes(2, 7000)
    assert cs.compare(net, x[1:]).picture().width
    assert (2, BANDS, SIZE, SIZE) == tuple(
        cs.synthesize(net, ["conv:2:1", "conv:2:2"], size=SIZE, steps=2).values.shape
    )
    assert cs.synthesize(net, "conv:2:1", size=SIZE, steps=2).picture().width
    cs.check(net, x[1:])
    cs.deconv_strongest(net, x[1:], "conv:2", top=2).picture()
    cs.cam_across_layers(net, x[1:]).picture()
    cs.occlusion_panels(net, x[1:], 1, window=8, stride=8).picture()
    with pytest.raises(NotApplicableError, match="^Inversion makes pixels in"):
        cs.invert(net, x[1:])


class Scaled(nn.Module):
    """Writes into its input, but only where values exceed 1."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        if x.max() > 1:
            x /= 255
        return self.head(self.conv(x).relu().mean((2, 3)))


def test_a_module_that_writes_into_some_inputs():
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="No mean and std"):
        net = cs.load(Scaled().eval(), size=16)
    x = torch.rand(1, 1, 16, 16) * 255
    before = x.clone()
    heat = cs.occlusion(net, x, 1, window=4, stride=4)
    with torch.no_grad():
        covered = x.clone()
        covered[..., 4:8, 8:12] = x.mean()
        fall = float(net.module(x.clone())[0, 1] - net.module(covered)[0, 1])
    assert fall == pytest.approx(float(heat.values[0, 5, 9]), abs=1e-6)
    assert torch.equal(before, x)
    assert torch.equal(before, heat.images)
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net.module(given * 1)[0, 1], given)
    torch.testing.assert_close(cs.saliency(net, x, 1).values, gradient.abs()[:, 0])


def test_a_score_that_no_band_changes():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.stack([x.mean((1, 2, 3)) * 1e-9 + 7, x.mean((1, 2, 3)) * 0], 1)

    net = Network(Constant(), input_size=(8, 8))
    found = cs.band_importance(net, torch.rand(1, 3, 8, 8), 0)
    assert [0, 0, 0] == found.column("value") == found.column("share")


def test_masked_values_are_refused(net):
    array = np.ma.masked_greater(np.ones((BANDS, 8, 8), np.float32), 0.5)
    with pytest.raises(ImageError, match=r"^832 of 832 values of this array are masked; fill them"):
        net.read(array)
    with pytest.raises(ImageError, match="are masked"):
        cs.read(array[0])


def test_further_pages_are_named(tmp_path):
    pages = [Image.new("L", (9, 9), k) for k in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(
        UserWarning, match=r"stack\.tif holds 3 pages, of which the first is read\.$"
    ):
        cs.read(tmp_path / "stack.tif")


def test_a_photograph_beside_values_as_they_are(decibels):
    both = decibels.as_pixels([torch.full((1, 30, 20), -40.0), "sample:china"])
    assert (2, 1, 30, 20) == tuple(both.shape)
    grey = decibels.as_pixels("sample:china")
    torch.testing.assert_close(
        both[1:], (grey * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    )
