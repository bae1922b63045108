"""Networks that look numbers up in an embedding: label maps, and pictures of a palette."""

import pytest
import torch
from torch import nn

import convscope as cs
from convscope.errors import NotApplicableError


class Palette(nn.Module):
    """Takes (N, H, W) whole numbers; number 7 alone says class 1."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.conv = nn.Embedding(16, 6), nn.Conv2d(6, 8, 3, 2, 1)
        self.head = nn.Linear(8, 4)
        with torch.no_grad():
            self.embed.weight.zero_()[7] = 1
            self.conv.weight.abs_(), self.head.weight.abs_()

    def forward(self, numbers):
        return self.head(self.conv(self.embed(numbers).permute(0, 3, 1, 2)).relu().mean((2, 3)))


class FromFloats(Palette):
    """The same of floats in [0, 1], as `load` gives them."""

    def forward(self, x):
        return super().forward(numbers_of(x))


def numbers_of(x):
    return (15 * x[:, 0]).round().long()


@pytest.fixture
def photo():
    x = torch.full((1, 3, 24, 24), 3 / 15)
    x[..., 16:20, 4:8] = 7 / 15
    return x


NETWORKS = {
    "by normalize": lambda: cs.Network(Palette().eval(), normalize=numbers_of, input_size=(24, 24)),
    "inside": lambda: cs.load(FromFloats().eval(), mean=0.0, std=1.0, size=24),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_needs_no_gradient_at_the_pixels_works(name, photo):
    net, plain = NETWORKS[name](), Palette().eval()
    heat = cs.cam(net, photo, 1)
    a = plain.conv(plain.embed(numbers_of(photo)).permute(0, 3, 1, 2)).relu().detach()
    a.requires_grad_()
    (gradient,) = torch.autograd.grad(plain.head(a.mean((2, 3)))[0, 1], a)
    expected = (gradient.mean((2, 3), keepdim=True) * a).sum(1).detach()
    torch.testing.assert_close(expected, heat.values)
    y, x = divmod(int(heat.placed()[0].argmax()), 24)
    assert 16 <= y < 20
    assert 4 <= x < 8
    with torch.no_grad():
        clean, covered = plain(numbers_of(photo))[0, 1], photo.clone()
        covered[..., 16:20, 4:8] = 0.5
        drop = float(clean - plain(numbers_of(covered))[0, 1])
    found = cs.occlusion(net, photo, cs.logit(1), window=4, stride=4, reduce="sum")
    assert float(found.values[0, 17, 5]) == pytest.approx(drop, rel=1e-5)


@pytest.mark.parametrize("method", ["gradient", "smoothgrad", "integrated"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_needs_one_says_that_there_is_none(name, method, photo):
    with pytest.raises(
        NotApplicableError, match=r"^'class:1' does not depend on the pixels, or only"
    ):
        cs.saliency(NETWORKS[name](), photo, 1, method=method)


def test_masks_do_not_dim_numbers(photo):
    net = NETWORKS["by normalize"]()
    for call in (lambda: cs.cam(net, photo, 1, method="scorecam"), lambda: cs.rise(net, photo, 1)):
        with pytest.raises(
            NotApplicableError, match="whole numbers, as of a label map, which a mask"
        ):
            call()


def test_floats_where_numbers_belong_say_what_to_write(photo):
    net = cs.load(Palette().eval(), mean=0.0, std=1.0, size=24)
    with pytest.raises(
        NotApplicableError, match=r"^Palette takes whole numbers.* normalize=lambda x"
    ):
        cs.predict(net, photo)


def test_numbers_for_a_convolution_become_floats(photo):
    class Bytes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).mean((2, 3))

    module = Bytes().eval()
    net = cs.Network(module, normalize=lambda x: (255 * x).byte(), input_size=(24, 24))
    torch.testing.assert_close(
        module((255 * photo).byte().float()), net.activations(photo, ["output"])["output"]
    )


def test_copies_with_noise_that_a_network_refuses():
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            if (x.detach() > 1).any():
                msg = "values above 1"
                raise ValueError(msg)
            return self.conv(x).mean((2, 3))

    net = cs.load(Strict().eval(), mean=0.0, std=1.0, size=24)
    with pytest.raises(
        NotApplicableError, match=r"^Copies with noise have values outside \[0, 1\]"
    ):
        cs.saliency(net, torch.rand(1, 3, 24, 24), 1, method="smoothgrad")
