"""What is no address of a layer is refused in one sentence by every method that reads layers."""

import pytest
import torch
from torch import nn

import convscope as cs
from convscope.errors import LayerNotFoundError

ONE = {
    "find": lambda net, _images, layer: net.layers.find(layer),
    "channel": lambda net, images, layer: net.score(cs.channel(layer, 0), images),
    "filters": lambda net, _images, layer: cs.filters(net, layer),
    "maps": cs.maps,
    "caricature": lambda net, images, layer: cs.caricature(net, images[:1], layer, steps=1),
    "synthesize_layer": lambda net, _images, layer: cs.synthesize_layer(net, layer, steps=1),
}
SEVERAL = {
    "activations": lambda net, images, layers: net.activations(images, layers),
    "cam": lambda net, images, layers: cs.cam(net, images, 1, layer=layers),
    "cam_across_layers": lambda net, images, layers: cs.cam_across_layers(
        net, images, 1, layers=layers
    ),
    "channel_across_layers": lambda net, images, layers: cs.channel_across_layers(
        net, images, 0, layers=layers
    ),
    "invariance": lambda net, images, layers: cs.invariance(net, [images[0]], layers=layers),
    "invert": lambda net, images, layers: cs.invert(net, images[:1], layers, steps=1),
    "synthesize_across_layers": lambda net, _images, layers: cs.synthesize_across_layers(
        net, 0, layers=layers, steps=1
    ),
}


@pytest.mark.parametrize("layer", [-1, 2.5, "conv:99", ["conv:1"], ("conv:1",), {}])
@pytest.mark.parametrize("call", ONE.values(), ids=ONE)
def test_one_layer(net, images, call, layer):
    with pytest.raises(LayerNotFoundError) as caught:
        call(net, images, layer)
    assert str(caught.value).startswith(f"There is no layer {layer!r}; the closest are ")


@pytest.mark.parametrize("layers", [-1, 0, 2.5, "conv:99", ["conv:1", -1], ("conv:1", None)])
@pytest.mark.parametrize("call", SEVERAL.values(), ids=SEVERAL)
def test_several_layers(net, images, call, layers):
    with pytest.raises(LayerNotFoundError, match=r"There is no layer (-1|0|2.5|'conv:99'|None); "):
        call(net, images, layers)


@pytest.mark.parametrize("name", ["activations", "cam_across_layers", "invariance"])
def test_a_single_address_is_a_list_of_one(net, images, name):
    SEVERAL[name](net, images, "conv:1")


class Named(nn.Module):
    """Its modules bear the names of the pixels and of the scores."""

    def __init__(self):
        super().__init__()
        self.input, self.output = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.output(self.input(x).relu()).mean((2, 3)))


LAYER_METHODS = {
    "find": ONE["find"],
    "maps": cs.maps,
    **{name: SEVERAL[name] for name in SEVERAL if name != "activations"},
    "eigencam": lambda net, images, layer: cs.cam(net, images, 1, method="eigencam", layer=layer),
    "scorecam": lambda net, images, layer: cs.cam(net, images, 1, method="scorecam", layer=layer),
}


@pytest.mark.parametrize("call", LAYER_METHODS.values(), ids=LAYER_METHODS)
def test_pixels_and_scores_are_no_layers(net, images, call):
    for word, meaning in (("input", "the pixels"), ("output", "the network's scores")):
        with pytest.raises(LayerNotFoundError) as caught:
            call(net, images, word)
        assert str(caught.value) == (
            f"'{word}' stands for {meaning}, not for a layer. The command 'convscope layers' and "
            "net.layers list the layers."
        )


@pytest.mark.parametrize(("name", "address"), [("input", "conv:1"), ("output", "conv:2")])
def test_a_module_of_such_a_name_is_a_layer(name, address):
    module = Named()
    net, x = cs.Network(module, input_size=(16, 16)), torch.rand(1, 3, 16, 16)
    for layer in (name, getattr(module, name)):
        assert torch.equal(cs.maps(net, x, address).values, cs.maps(net, x, layer).values)
        for method in ("gradcam", "eigencam"):
            expected = cs.cam(net, x, 1, method=method, layer=address).values
            assert torch.equal(expected, cs.cam(net, x, 1, method=method, layer=layer).values)
    values = net.activations(x, ["input", "output"])  # where pixels and scores can be read
    assert torch.equal(x, values["input"])
    torch.testing.assert_close(values["output"], module(x))


def test_a_last_map_called_output_is_the_default_layer():
    net, x = cs.Network(Named(), input_size=(16, 16)), torch.rand(1, 3, 16, 16)
    found = cs.cam(net, x, 1)
    assert torch.equal(cs.cam(net, x, 1, layer="conv:2").values, found.values)
    assert "output#1" == found.recipe.parameters["layer"]
    cs.occlusion_panels(net, x, 1, window=8, stride=8)
