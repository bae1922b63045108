"""Where cells lie, against the truth: maps of coordinates, and where the gradient of a cell lies."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope
from convscope.errors import NotApplicableError
from convscope.tracing.placement import Axis, Placement

SIDE = (24, 36)


def slow_enlarge(values, placement, size):
    """Each pixel by itself, in Python's floats."""
    (h, w), out = values.shape, torch.zeros(size, dtype=torch.float64)

    def neighbours(pixel, axis, cells, sees):
        place = (pixel - axis.offset) / axis.stride
        inner = min(max(place, 0), cells - 1)
        outside = abs(place - inner) * abs(axis.stride) - abs(axis.stride) / 2  # of the last cell
        fades = sees / 2 - abs(axis.stride) / 2
        share = 1 if outside <= 0 else max(1 - outside / fades, 0) if fades > 0 else 0
        low = min(math.floor(inner), cells - 1)
        upper = min(low + 1, cells - 1)
        return [(low, share * (1 - (inner - low))), (upper, share * (inner - low))]

    for row in range(size[0]):
        for column in range(size[1]):
            sees = [
                math.inf if placement.sees_all else axis.size for axis in (placement.y, placement.x)
            ]
            for i, a in neighbours(row, placement.y, h, sees[0]):
                for j, b in neighbours(column, placement.x, w, sees[1]):
                    out[row, column] += a * b * float(values[i, j])
    return out


@pytest.mark.parametrize(
    "placement",
    [
        Placement(Axis(16, 4, 7.5), Axis(9, 3, -2), (5, 6)),
        Placement(Axis(1, 4, 7.5), Axis(2, 5, 3), (5, 6)),
        Placement(Axis(3, -3, 20), Axis(4, 0.5, 11.25), (5, 6)),
        Placement(Axis(3, 2, 6), Axis(4, 4, 11), (5, 6), sees_all=True),
    ],
)
def test_maps_are_enlarged_as_pixel_by_pixel(placement):
    values = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(
        slow_enlarge(values, placement, SIDE), placement.enlarge(values, SIDE), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (7, 7), (24, 36), (5, 11)])
def test_cells_that_tile_the_picture_are_enlarged_as_torch_does(grid):
    values = torch.randn(2, *grid)
    expected = F.interpolate(values[:, None], SIDE, mode="bilinear", align_corners=False)[:, 0]
    found = Placement.tiling(grid, SIDE).enlarge(values, SIDE)
    torch.testing.assert_close(expected, found, rtol=0, atol=1e-5)


class Resized(nn.Module):
    """A picture is brought to a size, padded, and copied into the corner of a batch."""

    def forward(self, x):
        tall = [F.interpolate(one[None], scale_factor=2.0, mode="bilinear")[0] for one in x]
        batch = tall[0].new_full((len(tall), 3, 64, 96), 0)
        for k, one in enumerate(tall):
            batch[k, :, 3 : 3 + one.shape[1], 5 : 5 + one.shape[2]].copy_(one)
        return batch


class Canvas(nn.Module):
    """The same written as an assignment."""

    def forward(self, x):
        batch = torch.zeros(len(x), 3, 40, 50)
        batch[:, :, 3:27, 5:41] = x
        return batch


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Shifted(nn.Module):
    """Attention within shifted windows: a residual branch whose cells come back to their places."""

    def forward(self, x):
        y = x.permute(0, 2, 3, 1)
        n, h, w, c = y.shape
        part = y.roll((-1, -1), (1, 2)).view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5)
        part = part.reshape(-1, 4, c)
        part = (part @ part.transpose(1, 2)).softmax(-1) @ part
        part = part.view(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        y = y + 1e-3 * part.roll((1, 1), (1, 2))
        merged = [y[:, i::2, j::2, :] for i in (0, 1) for j in (0, 1)]
        return torch.cat(merged, -1).permute(0, 3, 1, 2)


class Merged(nn.Module):
    """Patches of two by two cells are merged by reshaping, as timm's Swin does."""

    def forward(self, x):
        y = x.permute(0, 2, 3, 1)
        n, h, w, c = y.shape
        tokens = y.reshape(n, h * w, c)
        y = (tokens + tokens.relu()).reshape(n, h, w, c)
        y = y.reshape(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return F.linear(y, torch.full((4, 4 * c), 0.5)).permute(0, 3, 1, 2)


WAYS = {
    "merged": Merged(),
    "shuffled channels": Function(
        lambda x: torch.cat([x, x], 1).view(len(x), 2, 3, *SIDE).transpose(1, 2).flatten(1, 2)
    ),
    "no padding": nn.Conv2d(3, 4, 5, stride=2),
    "padding": nn.Conv2d(3, 4, 3, stride=2, padding=1),
    "pooling": nn.MaxPool2d(2),
    "crop": Function(lambda x: x[..., 3:-2, 4:]),
    "rows for columns": Function(lambda x: x.transpose(2, 3)),
    "a convolution of columns": nn.Sequential(
        Function(lambda x: x.transpose(2, 3)), nn.Conv2d(3, 4, (5, 3), padding=(2, 1))
    ),
    "every other": Function(lambda x: x[:, :, ::2, 1::2]),
    "focus": Function(lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, 1::2]], 1)),
    "twice": nn.Upsample(scale_factor=2),
    "bilinear": nn.Upsample(scale_factor=1.5, mode="bilinear"),
    "corners": nn.Upsample(size=(47, 71), mode="bilinear", align_corners=True),
    "smaller": nn.Upsample(size=(12, 18), mode="bilinear"),
    "nearest of half": nn.Upsample(size=(12, 18)),
    "transposed": nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1),
    "transposed, whole": nn.ConvTranspose2d(3, 4, 3, stride=3),
    "pad": nn.ZeroPad2d((1, 2, 3, 4)),
    "reflect": nn.ReflectionPad2d((1, 2, 3, 4)),
    "channels last": Function(
        lambda x: F.pad(x.permute(0, 2, 3, 1)[:, 2:], (0, 0, 3, 0)).permute(0, 3, 1, 2)
    ),
    "pixel shuffle": nn.Sequential(nn.Conv2d(3, 12, 1), nn.PixelShuffle(2)),
    "pixel unshuffle": nn.PixelUnshuffle(2),
    "uneven pooling": nn.AdaptiveAvgPool2d((10, 15)),
    "flip": Function(lambda x: x.flip(3)),
    "there and back": Function(lambda x: x.flip(2).flip(2)),
    "roll": Function(lambda x: x.roll((2, -3), (2, 3))),
    "detector": Resized(),
    "canvas": Canvas(),
    "windows": Shifted(),
}


def network(way):
    torch.manual_seed(0)
    first = nn.Conv2d(3, 3, 1)
    channels = way(first(torch.zeros(1, 3, *SIDE))).shape[1]
    module = nn.Sequential(first, way, nn.Conv2d(channels, 2, 1), nn.ReLU())
    for name, parameter in module.named_parameters():
        nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 0.5)
    return convscope.Network(
        nn.Sequential(module, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4)),
        input_size=SIDE,
    )


@pytest.mark.parametrize("name", WAYS)
def test_cells_lie_where_their_gradient_has_its_centre(name):
    """A straight line through the centres of all inner cells, by least squares."""
    net = network(WAYS[name])
    placement = net.layers.placement("conv:2")
    pixels = (torch.rand(1, 3, *SIDE) + 1).requires_grad_()
    value = net.activations(pixels, ["conv:2"])["conv:2"]
    value = net.to_nchw(value, "conv:2", pixels)[0].sum(0)
    assert placement.grid == tuple(value.shape)
    centres = {}
    for row in range(value.shape[0]):
        for column in range(value.shape[1]):
            (g,) = torch.autograd.grad(value[row, column], pixels, retain_graph=True)
            weight = g[0].abs().sum(0).double()
            if weight.sum() == 0:
                continue
            found = [
                float((weight.sum(1 - k) * torch.arange(SIDE[k])).sum() / weight.sum())
                for k in (0, 1)
            ]
            centres[row, column] = found, placement.centre(row, column)
    inner = [
        [a - b for a, b in zip(*pair, strict=True)]
        for (row, column), pair in centres.items()
        if all(4 < p < length - 5 for p, length in zip(pair[1], SIDE, strict=True))
    ]
    assert len(inner) > 10
    off = torch.tensor(inner)
    assert off.mean(0).abs().max() < 0.15
    assert off.abs().max() <= 1.01


LOST = {
    "rot90": Function(lambda x: x.rot90(1, (2, 3))),
    "rows by number": Function(lambda x: x[:, :, torch.arange(23, -1, -1)]),
    "grid_sample": Function(
        lambda x: F.grid_sample(x, torch.linspace(-1, 1, 128).view(1, 8, 8, 2), align_corners=False)
    ),
    "with its mirror image": Function(lambda x: x + x.flip(3)),
    "rows for columns of a part": Function(lambda x: x[..., 2:].transpose(2, 3)),
}


@pytest.mark.parametrize("name", LOST)
def test_an_unknown_place_is_said_and_nothing_is_stretched(name, tmp_path):
    net = network(LOST[name])
    assert net.layers.placement("conv:2") is None
    pixels = torch.rand(1, 3, *SIDE)
    heat = convscope.cam(net, pixels, 0, layer="conv:2", method="eigencam")
    assert heat.placement is None
    assert heat.words().endswith("; where the cells lie on the photograph is unknown")
    alone = heat.picture(caption=False, colourbar=False).tobytes()
    other = convscope.cam(net, pixels, 0, layer="conv:2", method="eigencam")
    object.__setattr__(other, "images", 1 - pixels)
    assert (
        alone == other.picture(caption=False, colourbar=False).tobytes()
    )  # the photograph is not in it
    again = convscope.load_result(heat.save(tmp_path / "heat.npz"))
    assert again.placement is None
    for wanted in (
        heat.placed,
        lambda: convscope.cam(net, pixels, 0, layer="conv:2", method="scorecam"),
    ):
        with pytest.raises(NotApplicableError, match="is unknown|lie on it is unknown"):
            wanted()


def test_tokens_lie_on_the_grid_of_their_patches():
    from torchvision.models import VisionTransformer

    module = VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3)
    net = convscope.Network(module, input_size=(32, 32))
    name = net.layers.default.name
    assert (3.5, 11.5) == net.layers.placement(name).centre(0, 1)
    assert net.layers.placement(name).sees_all


def test_a_network_that_pads_to_the_size_is_read_at_the_size_of_the_pictures():
    """As TensorFlow's "same" padding does: the offset depends on the picture's size."""

    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 5, stride=4), nn.Linear(4, 3)

        def forward(self, x):
            short = [max((-(-n // 4) - 1) * 4 + 5 - n, 0) for n in x.shape[-2:]]
            x = F.pad(
                x,
                (short[1] // 2, short[1] - short[1] // 2, short[0] // 2, short[0] - short[0] // 2),
            )
            return self.head(self.conv(x).relu().mean((2, 3)))

    net = convscope.load(Same(), size=32, mean=0, std=1)
    for side, offset in ((32, 2), (33, 0), (35, 1)):
        found = convscope.cam(net, torch.rand(1, 3, side, side), 0, layer="conv")
        assert offset == found.placement.y.offset if side != 32 else 2 == found.placement.y.offset


def test_preprocessing_that_resizes_is_part_of_the_way():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 4, stride=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    net = convscope.Network(
        module, input_size=(64, 64), normalize=lambda x: F.interpolate(x, (32, 32), mode="bilinear")
    )
    assert (3.5, 11.5) == net.layers.placement("conv:1").centre(0, 1)


def test_tokens_lie_on_the_grid_of_all_convolutions_before_them_however_much_these_see():
    class Hybrid(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, stride=8)
            self.local = nn.Conv2d(8, 8, 3, padding=1)
            self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

        def forward(self, x):
            tokens = self.local(self.patches(x)).flatten(2).transpose(1, 2)
            mixed = tokens + F.scaled_dot_product_attention(tokens, tokens, tokens)
            return self.head(self.norm(mixed).mean(1))

    net = convscope.Network(Hybrid().eval(), input_size=(32, 32))
    assert (3.5, 11.5) == net.layers.placement("norm").centre(0, 1)


class Bright(nn.Module):
    """Answers to brightness, so that heat lies on the bright spot."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)
        nn.init.constant_(self.conv.weight, 0.1)
        nn.init.zeros_(self.conv.bias)
        nn.init.ones_(self.head.weight)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.mark.parametrize(
    "normalize",
    [
        lambda x: F.interpolate(x, (64, 64), mode="bilinear")[:, :, 4:-4, 4:-4],
        lambda x: x.flip(3),
        lambda x: x.transpose(2, 3),
        lambda x: (x - 0.1) / 0.5,
        lambda x: x.flatten(2).flip(2).view_as(x),
    ],
    ids=["resize and crop", "flip", "transpose", "values alone", "upside down"],
)
def test_a_first_step_that_moves_pixels_moves_the_place(normalize):
    """The size stays, the pixels do not; the heat lies on the spot, or nowhere."""
    x = torch.zeros(1, 3, 56, 56)
    x[:, :, 10:14, 38:42] = 1
    heat = convscope.cam(
        convscope.Network(Bright().eval(), normalize=normalize, input_size=(56, 56)), x, 0
    )
    if heat.placement is None:
        assert "is unknown" in heat.words()
        return
    placed = heat.placed()[0].clamp(min=0)
    strong = placed * (placed > 0.6 * placed.max())
    rows, columns = torch.arange(56)[:, None], torch.arange(56)
    centre = [float((strong * at).sum() / strong.sum()) for at in (rows, columns)]
    assert centre == pytest.approx([11.5, 39.5], abs=1)
