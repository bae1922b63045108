"""The memory format is the one that gives the right scores, and then the faster one."""

import pytest
import torch
from torch import nn

import convscope
from convscope.network import module

X = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def is_channels_last(x):
    return x.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture
def seconds(monkeypatch):
    """How long a pass takes in each format; set by the test."""
    times = {"contiguous": 1.0, "channels_last": 1.0}

    def timed(scores, x):
        return times["channels_last" if is_channels_last(x) else "contiguous"], scores(x)

    monkeypatch.setattr(module, "_timed", timed)
    return times


def preferred(scores=lambda x: x.mean((2, 3))):
    return module.preferred_memory_formats(scores, X).several


@pytest.mark.parametrize(
    ("contiguous", "channels_last", "expected"),
    [
        (0.9, 0.7, torch.channels_last),
        (0.9, 1.0, torch.channels_last),  # noise does not decide
        (0.9, 1.2, torch.contiguous_format),
        (0.01, 0.04, torch.channels_last),  # too fast to be worth timing
    ],
)
def test_the_faster_format_is_taken(seconds, contiguous, channels_last, expected):
    seconds.update(contiguous=contiguous, channels_last=channels_last)
    assert expected == preferred()


def test_one_image_has_a_format_of_its_own(seconds, monkeypatch):
    """In a batch channels last is faster, alone it is not, as ResNet-18 on some processors."""
    times = {(1, False): 0.1, (1, True): 0.2, (2, False): 0.2, (2, True): 0.2}
    monkeypatch.setattr(
        module, "_timed", lambda scores, x: (times[len(x), is_channels_last(x)], scores(x))
    )
    formats = module.preferred_memory_formats(lambda x: x.mean((2, 3)), torch.cat([X, X]))
    assert (torch.contiguous_format, torch.channels_last) == (formats.of(1), formats.of(2))


def test_a_format_with_other_scores_is_never_taken(seconds):
    seconds.update(contiguous=9.0, channels_last=1.0)
    assert torch.contiguous_format == preferred(
        lambda x: x.as_strided((1, 192), (192, 1))[:, :5]  # reads memory in its own order
    )


def test_a_module_that_flattens_with_view_stays_contiguous(seconds):
    seconds.update(contiguous=9.0, channels_last=1.0)
    assert torch.contiguous_format == preferred(lambda x: x.view(1, -1)[:, :5])


@pytest.mark.parametrize(
    ("contiguous", "channels_last", "expected"),
    [(7.0, 6.0, torch.channels_last), (5.0, 7.0, torch.contiguous_format)],
)
def test_a_slow_network_runs_once_in_each_format(seconds, contiguous, channels_last, expected):
    seconds.update(contiguous=contiguous, channels_last=channels_last)
    formats = []

    def scores(x):
        formats.append(is_channels_last(x))
        return x.mean((2, 3))

    assert expected == preferred(scores)
    assert [False, True] == formats


def test_the_time_is_that_of_one_pass():
    passes = []

    def scores(x):
        passes.append(x)
        return x.mean((2, 3))

    seconds, result = module._timed(scores, X)
    assert seconds >= 0
    assert 1 == len(passes)
    torch.testing.assert_close(X.mean((2, 3)), result)


class Watched(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head, self.formats = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), set()

    def forward(self, x):
        self.formats.add(is_channels_last(x))
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.mark.parametrize("given", [torch.contiguous_format, torch.channels_last])
def test_photographs_run_in_the_preferred_format_however_they_come(given):
    net = convscope.Network(Watched(), input_size=(8, 8))
    assert torch.channels_last == net.memory_format
    net.module.formats.clear()
    images = torch.rand(2, 3, 8, 8).contiguous(memory_format=given)
    convscope.cam(net, images, 1)
    assert {True} == net.module.formats
