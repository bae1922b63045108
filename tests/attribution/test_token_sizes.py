"""Transformers at other sizes than their own: tokens lie on the grid of the picture that is shown."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope as cs

SIZE, PATCH, WIDTH = 32, 4, 12
SHAPES = [(32, 32), (32, 36), (36, 32), (48, 32), (16, 64), (64, 64)]
GENERATOR = torch.Generator().manual_seed(0)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attn = (
            nn.LayerNorm(WIDTH),
            nn.MultiheadAttention(WIDTH, 2, batch_first=True),
        )
        self.norm2, self.mlp = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y)[0]
        return x + self.mlp(self.norm2(x)).relu()


class ViT(nn.Module):
    """Tokens of patches and a class token, with positions that are enlarged as needed."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, WIDTH, SIZE // PATCH, SIZE // PATCH))
        self.blocks = nn.Sequential(Block(), Block())
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def tokens(self, x):
        x = self.patches(x)
        x = x + F.interpolate(self.positions, x.shape[-2:], mode="bilinear")
        x = torch.cat([self.token.expand(len(x), -1, -1), x.flatten(2).mT], 1)
        return self.blocks[0](x)

    def rest(self, x):
        return self.head(self.norm(self.blocks[1](x))[:, 0])

    def forward(self, x):
        return self.rest(self.tokens(x))


class Merging(nn.Module):
    """Cells with their channels last, four of which become one, as in Swin."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, WIDTH, PATCH, PATCH), nn.LayerNorm(WIDTH)
        self.merge, self.last = nn.Linear(4 * WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def tokens(self, x):
        x = self.norm(self.patches(x).permute(0, 2, 3, 1))
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, i::2, j::2] for j in range(2) for i in range(2)]
        return self.last(self.merge(torch.cat(parts, -1)).relu())

    def rest(self, x):
        return self.head(x.relu().mean((1, 2)))

    def forward(self, x):
        return self.rest(self.tokens(x))


def loaded(kind):
    torch.manual_seed(0)
    module = kind().eval()
    return module, cs.load(module, mean=0.5, std=0.5, size=SIZE)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradcam_of_a_vision_transformer(shape):
    module, net = loaded(ViT)
    pixels = torch.rand(2, 3, *shape, generator=GENERATOR)
    a = module.tokens((pixels - 0.5) / 0.5).detach().requires_grad_()
    (g,) = torch.autograd.grad(module.rest(a)[:, 1].sum(), a)
    grid = shape[0] // PATCH, shape[1] // PATCH
    a, g = (v.detach()[:, 1:].mT.unflatten(2, grid) for v in (a, g))
    expected = (g.mean((2, 3), keepdim=True) * a).sum(1)
    heat = cs.cam(net, pixels, 1, layer="blocks.0")
    torch.testing.assert_close(heat.values, expected, rtol=1e-4, atol=1e-6)
    assert heat.picture(caption=False, colourbar=False).size == (shape[1], shape[0])
    scores = net.score(cs.channel("blocks.0", 2), pixels)
    torch.testing.assert_close(scores, a[:, 2].mean((1, 2)), rtol=1e-4, atol=1e-6)
    for method in ("scorecam", "ablationcam", "eigencam", "layercam"):
        assert (2, *grid) == cs.cam(net, pixels, 1, method=method, layer="blocks.0").values.shape


@pytest.mark.parametrize("shape", SHAPES)
def test_gradcam_of_cells_that_merge(shape):
    module, net = loaded(Merging)
    pixels = torch.rand(2, 3, *shape, generator=GENERATOR)
    a = module.tokens((pixels - 0.5) / 0.5).detach().requires_grad_()
    (g,) = torch.autograd.grad(module.rest(a)[:, 1].sum(), a)
    expected = (g.mean((1, 2), keepdim=True) * a).sum(3).detach()
    heat = cs.cam(net, pixels, 1, layer="last")
    torch.testing.assert_close(heat.values, expected, rtol=1e-4, atol=1e-6)
    assert heat.picture(caption=False, colourbar=False).size == (shape[1], shape[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_token_lies_where_its_patch_is(shape):
    _, net = loaded(ViT)
    pixels = torch.rand(1, 3, *shape, generator=GENERATOR)
    place = cs.cam(net, pixels, 1, layer="blocks.0").placement
    assert (5.5, 9.5) == place.centre(1, 2)


def test_maps_and_pictures_of_another_size():
    _, net = loaded(ViT)
    pictures = cs.maps(net, torch.rand(1, 3, 32, 36), "blocks.0")
    assert (1, WIDTH, 8, 9) == pictures.values.shape
    made = cs.synthesize(net, "blocks.0:3", steps=2, size=40)
    assert (1, 3, 40, 40) == made.values.shape
