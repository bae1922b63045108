"""What is no address of a layer is refused in one sentence by every method that reads layers."""

import pytest

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
