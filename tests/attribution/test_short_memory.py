"""A graphics processor that runs out of memory: batches are halved, and the map stays the same."""

import pytest
import torch
from torch import nn

import convscope
from convscope.attribution.rise import rise
from convscope.errors import StoppedError
from convscope.execution.incremental.recompute import IncrementalForward
from tests.execution.windows import scores_under_windows


class Small(nn.Module):
    """Refuses more than `room` pictures at once, as a full graphics processor does."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)
        self.room, self.refused = 1 << 20, 0

    def forward(self, x):
        if len(x) > self.room:
            self.refused += 1
            raise torch.OutOfMemoryError
        return self.head(self.conv(x).relu().mean((2, 3)))


WORK = {
    "gradcam": convscope.cam,
    "fullgrad": lambda net, x: convscope.cam(net, x, method="fullgrad"),
    "scorecam": lambda net, x: convscope.cam(net, x, method="scorecam"),
    "gradient": convscope.saliency,
    "guided": lambda net, x: convscope.saliency(net, x, method="guided"),
    "smoothgrad": lambda net, x: convscope.saliency(net, x, method="smoothgrad", samples=9),
    "vargrad": lambda net, x: convscope.saliency(net, x, method="vargrad", samples=9),
    "integrated": lambda net, x: convscope.saliency(net, x, method="integrated", samples=9),
    "occlusion": lambda net, x: convscope.occlusion(net, x, "probability:1", window=8, stride=4),
    "occlusion of a channel": lambda net, x: convscope.occlusion(
        net, x, "conv:1:2", window=8, stride=4
    ),
    "rise": lambda net, x: rise(net, x, masks=20),
}


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("room", [2, 3])
def test_halved_batches_give_the_same_map(name, room):
    torch.manual_seed(0)
    net = convscope.Network(Small().eval(), name="small", input_size=(16, 16))
    photos = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = WORK[name](net, photos).values
    net.module.room = room
    found = WORK[name](net, photos).values
    assert net.module.refused > 0
    # A drop is a small difference of probabilities, each rounded to half a unit in its last place.
    rounding = torch.finfo(torch.float32).eps / 2 if name == "occlusion" else 0
    atol = rounding + 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(expected, found, rtol=1e-5, atol=atol)


def test_a_picture_that_does_not_fit_alone_is_an_error():
    net = convscope.Network(Small().eval(), name="small", input_size=(16, 16))
    assert len(net.layers)
    photo = torch.rand(1, 3, 16, 16)
    convscope.saliency(net, photo)
    net.module.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        convscope.saliency(net, photo)


def test_incremental_occlusion_halves_its_batches_too(monkeypatch):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 4)
    )
    net = convscope.Network(module.eval(), name="small", input_size=(16, 16))
    photo = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    corners = [(y, x) for y in range(0, 13, 2) for x in range(0, 13, 2)]
    plain, asked = IncrementalForward.scores, []

    def scores(self, which):
        asked.append(len(which))
        if len(which) > 3:
            raise torch.OutOfMemoryError
        return plain(self, which)

    grey = torch.full((1, 3, 16, 16), 0.5)
    settings = {"algorithm": "incremental"}
    expected = scores_under_windows(net, photo, corners, (4, 4), grey, **settings)
    monkeypatch.setattr(IncrementalForward, "scores", scores)
    found = scores_under_windows(net, photo, corners, (4, 4), grey, **settings)
    assert max(asked) > 3
    torch.testing.assert_close(expected, found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["smoothgrad", "vargrad", "integrated"])
def test_averaged_gradients_tell_how_far_they_are_and_stop(method):
    net = convscope.Network(Small().eval(), name="small", input_size=(16, 16))
    photos, seen = torch.rand(2, 3, 16, 16), []
    ask = {"method": method, "samples": 20}
    convscope.saliency(net, photos, **ask, progress=lambda *told: seen.append(told))
    assert [10, 20, 30, 40] == [done for done, _, _ in seen]
    assert {(40, "gradients")} == {told[1:] for told in seen}
    answers = iter([False, True])
    with pytest.raises(StoppedError, match="after 10 of 40 gradients"):
        convscope.saliency(net, photos, **ask, should_stop=lambda: next(answers))
    assert not net.module.conv._forward_hooks
