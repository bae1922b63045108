"""Every way to name a layer, and what the table says of it."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision import models

import convscope
from convscope.errors import LayerNotFoundError, NotApplicableError
from convscope.tracing.receptive_field import pixel_box

# index in features, address of the value, shape, receptive field, stride, centre of unit 0
VGG16 = [
    (0, "conv:1", (64, 224, 224), 3, 1, 0),
    (2, "conv:2", (64, 224, 224), 5, 1, 0),
    (4, "stage:3", (64, 112, 112), 6, 2, 0.5),
    (5, "conv:3", (128, 112, 112), 10, 2, 0.5),
    (7, "conv:4", (128, 112, 112), 14, 2, 0.5),
    (9, "stage:6", (128, 56, 56), 16, 4, 1.5),
    (10, "conv:5", (256, 56, 56), 24, 4, 1.5),
    (12, "conv:6", (256, 56, 56), 32, 4, 1.5),
    (14, "conv:7", (256, 56, 56), 40, 4, 1.5),
    (16, "stage:10", (256, 28, 28), 44, 8, 3.5),
    (17, "conv:8", (512, 28, 28), 60, 8, 3.5),
]
STAGES = [1, 3, 4, 6, 8, 9, 11, 13, 15, 16, 18, 20, 22, 23, 25, 27, 29, 30]


@pytest.fixture(scope="module")
def vgg16():
    return convscope.Network(models.vgg16(init_weights=False), name="vgg16")


@pytest.mark.parametrize(
    ("index", "address", "shape", "receptive_field", "stride", "offset"), VGG16
)
def test_vgg16_as_published(vgg16, index, address, shape, receptive_field, stride, offset):
    row = vgg16.layers.find(address)
    assert (f"features.{index}", index) == (row.name, row.index)
    assert (shape, receptive_field, stride, offset) == (
        row.shape,
        row.receptive_field,
        row.stride,
        row.offset,
    )


def test_vgg16_has_eighteen_stages(vgg16):
    assert STAGES == [row.index for row in vgg16.layers.stages]
    assert 13 == len(vgg16.layers.convs)
    assert 138_357_544 == sum(row.parameters for row in vgg16.layers if row.kind != "block")


def test_three_names_of_one_layer(vgg16):
    layers = vgg16.layers
    assert layers.find("stage:18") == layers.find("features.30")
    assert layers.find("conv:5") == layers.find("features.10")
    assert "features.29" == layers.default.name


@pytest.mark.parametrize(
    ("make", "convs", "default"),
    [
        (models.resnet18, 20, "layer4"),
        (lambda: models.inception_v3(init_weights=False), 94, "Mixed_7c"),
        (models.densenet121, 120, "act:121"),
        (models.mobilenet_v2, 52, "features.18.2"),
    ],
    ids=["resnet18", "inception_v3", "densenet121", "mobilenet_v2"],
)
def test_known_networks(make, convs, default):
    net = convscope.Network(make(), input_size=(299, 299))
    assert convs == len(net.layers.convs)
    assert default == net.layers.default.name


def test_convolutions_count_as_they_run_not_as_they_are_registered():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Conv2d(4, 2, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.second(self.first(x)).mean((2, 3))

    net = convscope.Network(Backwards(), input_size=(8, 8))
    assert ["first", "second"] == [row.name for row in net.layers.convs]


def test_addresses_of_tiny(net):
    found = {address: net.layers.find(address).name for address in net.layers.addresses}
    assert ("stem", "mid", "last") == tuple(found[f"conv:{k}"] for k in (1, 2, 3))
    # stem's ReLU is the first run of a shared module; mid's norm is followed by a sum
    stages = [net.layers.find(f"stage:{k}").name for k in range(1, 6)]
    assert ["act#1", "pool#1", "norm", "act", "pool"] == stages
    assert "unused" not in found


def test_values_at_addresses(net, images):
    module = net.module.eval()
    acts = net.activations(images, ["conv:1", "stage:1", "stage:2", "stage:3", "act:2", "act#2"])
    stem = module.stem(images)
    pooled = F.max_pool2d(stem.relu(), 2)
    torch.testing.assert_close(acts["conv:1"], stem)
    torch.testing.assert_close(acts["stage:1"], stem.relu())
    torch.testing.assert_close(acts["stage:2"], pooled)
    torch.testing.assert_close(acts["stage:3"], module.norm(module.mid(pooled)))
    summed = F.relu(module.norm(module.mid(pooled)) + pooled)
    torch.testing.assert_close(acts["act:2"], summed)
    torch.testing.assert_close(acts["act#2"], module.last(summed).relu())


def test_unknown_layers_name_the_closest(net):
    with pytest.raises(LayerNotFoundError) as caught:
        net.layers.find("conv:9")
    assert str(caught.value) == (
        "There is no layer 'conv:9'; the closest are conv:3, conv:2, conv:1. "
        "The command 'convscope layers' and net.layers list them all."
    )
    with pytest.raises(KeyError):
        net.layers.find("")


def test_the_table_leaves_the_network_as_it_was(net):
    from tests.conftest import assert_untouched, state_of

    before = state_of(net.module)
    _ = net.layers
    assert_untouched(before, net.module)


def test_a_network_without_maps_has_no_default(images):
    net = convscope.Network(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), input_size=(16, 16))
    with pytest.raises(NotApplicableError, match="cannot be determined automatically"):
        _ = net.layers.default
    assert [] == net.layers.stages


class Odd(nn.Module):
    """Uneven kernels, dilation, padding "same", ceil mode, branches, padding and slicing."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(3, 4, (1, 5), stride=(1, 2), padding=(0, 2))
        self.far = nn.Conv2d(4, 4, 3, dilation=2, padding="same")
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.left = nn.Conv2d(4, 3, 1)
        self.right = nn.Conv2d(4, 3, 5, padding=2)
        self.mean = nn.AvgPool2d(2)

    def forward(self, x):
        x = torch.relu(self.far(torch.relu(self.wide(x))))
        x = self.pool(F.pad(x, (1, 0, 2, 0)))
        x = torch.cat([self.left(x), self.right(x)], 1)
        return self.mean(x[:, :, 1::2, ::2])


@pytest.mark.parametrize("address", ["wide", "far", "pool", "left", "right", "mean"])
@pytest.mark.parametrize("place", [(0, 0), (3, 4), (6, 3)])
def test_receptive_fields_equal_the_reach_of_gradients(address, place):
    """The slow twin: which pixels have a gradient, with weights that can cancel nothing."""
    torch.manual_seed(0)
    module = Odd()
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.1, 1)
    net = convscope.Network(module, input_size=(40, 44))
    # averages instead of maxima: a maximum sends its gradient to one winner only
    module.pool = nn.AvgPool2d(3, 2, ceil_mode=True)
    pixels = torch.rand(1, 3, 40, 44, requires_grad=True)
    value = net.activations(pixels, [address])[address]
    row, column = place[0] % value.shape[2], place[1] % value.shape[3]
    (gradient,) = torch.autograd.grad(value[0, :, row, column].sum(), pixels)
    rows, columns = (gradient[0].abs().sum(0) > 0).nonzero().T
    reach = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    assert tuple(int(v) for v in reach) == pixel_box(net.layers.field(address), row, column, 40, 44)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "alexnet", "resnet18", "googlenet"])
def test_the_box_of_a_cell_holds_all_of_its_gradient(name):
    """In known networks, for cells at the corner, in the middle and at the other corner."""
    torch.manual_seed(0)
    more = {"init_weights": False} if name == "googlenet" else {}
    module = torchvision.models.get_model(name, weights=None, **more).eval()
    net = convscope.Network(module, name=name, input_size=(224, 224))
    pixels = torch.rand(1, 3, 224, 224, requires_grad=True)
    convs = [row.address for row in net.layers.convs]
    seen = 0
    for address in dict.fromkeys((convs[0], convs[1], convs[len(convs) // 2], convs[-1])):
        value = net.activations(pixels, [address])[address]
        height, width = value.shape[2:]
        for row, column in ((0, 0), (height // 2, width // 2), (height - 1, width - 1)):
            cell = value[0, :, row, column].sum()
            (gradient,) = torch.autograd.grad(cell, pixels, retain_graph=True)
            top, left, bottom, right = pixel_box(net.layers.field(address), row, column, 224, 224)
            inside = gradient[0, :, top:bottom, left:right].abs()
            assert float(gradient.abs().sum()) == pytest.approx(float(inside.sum()), rel=1e-6)
            edges = (inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1])
            seen += all(float(edge.max()) > 0 for edge in edges)  # and no row of it is idle
    assert seen >= 6


def test_a_pooled_gate_sees_the_whole_image():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.gate = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
            self.after = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.conv(x)
            return self.after(x * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()).mean((2, 3))

    net = convscope.Network(Gated(), input_size=(12, 12))
    assert 3 == net.layers.find("conv").receptive_field
    assert net.layers.find("after").receptive_field is None


@pytest.mark.parametrize("split", [lambda x: x.chunk(2, 1), lambda x: x.split(2, 1)])
def test_a_network_that_splits_its_channels_is_followed_to_the_end(split):
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(2, 6, 3)
            self.head = nn.Linear(6, 5)

        def forward(self, x):
            a, b = split(F.relu(self.first(x)))
            return self.head(F.relu(self.last(a + b)).mean((2, 3)))

    net = convscope.Network(Halves(), input_size=(12, 12))
    assert "act:2" == net.layers.default.name
    assert 5 == net.layers.find("last").receptive_field


def test_values_with_another_first_axis_hold_no_maps_of_photographs():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.head = (
                nn.Conv2d(3, 4, 3, padding=1),
                nn.LayerNorm(4),
                nn.Linear(4, 5),
            )

        def forward(self, x):
            x = self.conv(x).flatten(2).transpose(1, 2)
            x = self.norm(x.reshape(4 * len(x), -1, 4)).reshape(len(x), -1, 4)
            return self.head(x.mean(1))

    net = convscope.Network(Windows(), input_size=(8, 8))
    assert net.layers.layout("norm") is None
    with pytest.raises(NotApplicableError):
        convscope.cam(net, torch.rand(1, 3, 8, 8), 1, layer="norm")
