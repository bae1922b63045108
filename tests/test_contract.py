"""What every method promises; a new one is tested by being listed in the catalogue."""

import dataclasses
import json
from base64 import b64decode

import pytest
import torch

import convscope
from convscope import CATALOG
from convscope.errors import NotApplicableError
from tests.conftest import assert_untouched, state_of
from tests.results.alike import assert_equal

# The tiny network gives every picture one class and cannot be fooled; see test_invert_and_adversarial.
ENTRIES = [m for m in CATALOG.values() if m.name != "adversarial"]
OF_IMAGES = [m for m in ENTRIES if m.name != "filters" and m.family != "synthesis"]
NEEDED = {"channel": 1, "samples": 4, "window": 6, "stride": 4, "masks": 40}
FEW = {
    "steps": 3,
    "size": 16,
    "target": 2,
    "layers": ["mid"],
    "config": convscope.DreamConfig(steps=1),
}
_LAYERS = {"cam": "pool"}  # its head is one pooling and one linear layer from there on


def options(method, **more):
    """The parameters a method cannot do without on the tiny network."""
    needed = {**NEEDED, **FEW, "layer": _LAYERS.get(method.name, "mid"), **more}
    if method.name == "fullgrad" and "layer" not in more:
        needed.pop("layer")
    return {k: v for k, v in needed.items() if k in method.parameters}


def values(result):
    found = getattr(result, "values", None)
    if found is None:
        return [torch.tensor([row[3:] for row in result.rows])]
    return [found] if isinstance(found, torch.Tensor) else list(found)


@pytest.fixture(params=ENTRIES, ids=lambda m: m.name)
def method(request):
    return request.param


@pytest.fixture(params=OF_IMAGES, ids=lambda m: m.name)
def of_images(request):
    return request.param


def test_entries_say_what_they_are(method):
    assert method.family
    assert CATALOG[method.name] is method


def test_an_entry_of_a_preset_makes_no_other():
    """Its own defaults, given back to it, must not choose another preset."""
    for name in convscope.PRESETS:
        assert "preset" not in CATALOG[name].parameters


@pytest.mark.parametrize("how", ["fine", "bad layer", "bad shape", "interrupt", "failing module"])
def test_the_network_comes_back_untouched(method, how, net, images, monkeypatch):
    _ = net.layers
    before, photos = state_of(net.module), images.clone()
    given = options(method, layer="nowhere") if how == "bad layer" else options(method)
    x = images[:, :1] if how == "bad shape" else images
    with monkeypatch.context() as patch:
        if how in ("interrupt", "failing module"):
            error = KeyboardInterrupt if how == "interrupt" else RuntimeError
            fail = lambda *_: (_ for _ in ()).throw(error("in the middle"))
            for kind in (torch.nn.Linear, torch.nn.BatchNorm2d):
                patch.setattr(kind, "forward", fail)
        try:
            method.run(net, x, convscope.logit(1), **given)
        except (convscope.ConvscopeError, KeyboardInterrupt, RuntimeError):
            assert how != "fine"
    assert_untouched(before, net.module)
    assert torch.equal(photos, images)


def test_batch_equals_one_by_one(of_images, net, images):
    together = values(of_images.run(net, images, convscope.logit(1), **options(of_images)))
    for i in range(len(images)):
        one = images[i : i + 1]
        alone = values(of_images.run(net, one, convscope.logit(1), **options(of_images)))
        for whole, part in zip(together, alone, strict=True):
            rows = len(part)
            expected = whole[i * rows : (i + 1) * rows]
            torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-6)


def test_the_same_call_gives_the_same_bits(method, net, images):
    first, second = (
        values(method.run(net, images, convscope.logit(1), **options(method))) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_default_precision_of_the_caller_changes_nothing(method, net, images):
    expected = values(method.run(net, images, convscope.logit(1), **options(method)))
    torch.set_default_dtype(torch.float64)
    try:
        fresh = dataclasses.replace(net)
        found = values(method.run(fresh, images, convscope.logit(1), **options(method)))
    finally:
        torch.set_default_dtype(torch.float32)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(b.to(a.dtype), a, rtol=1e-4, atol=1e-5)


def test_modes_of_the_caller_change_nothing(of_images, net, images):
    expected = values(of_images.run(net, images, convscope.logit(1), **options(of_images)))
    net.module.requires_grad_(False)
    for mode in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with mode:
            found = values(of_images.run(net, images, convscope.logit(1), **options(of_images)))
        for a, b in zip(expected, found, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
            assert not b.requires_grad


def test_results_draw_save_and_show_themselves(method, net, images, tmp_path):
    result = method.run(net, images, convscope.logit(1), **options(method))
    assert min(result.picture().size) > 10
    picture, raw = result.save(tmp_path / "a" / "b.png"), result.save(tmp_path / "b.npz")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert raw.stat().st_size > 100
    assert ["a", "b.npz"] == sorted(p.name for p in tmp_path.iterdir())
    bundle = result._repr_mimebundle_()
    assert bundle["text/html"] == result._repr_html_()
    if isinstance(result, convscope.Table):
        assert {"text/plain", "text/html"} == set(bundle)
        assert bundle["text/html"].count("<tr>") == 1 + len(result)
    else:
        assert {"text/plain", "text/html", "image/png"} == set(bundle)
        assert 'alt="' in bundle["text/html"]
        assert b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    recipe = json.loads(result.recipe.json())
    assert net.fingerprint == recipe["fingerprint"]
    assert {"convscope", "torch"} == set(recipe["versions"])


def test_saved_results_come_back(method, net, images, tmp_path):
    result = method.run(net, images, convscope.logit(1), **options(method))
    found = convscope.load_result(result.save(tmp_path / "a.npz"))
    assert_equal(result, found)
    assert result.picture().tobytes() == found.picture().tobytes()


def test_results_are_sequences_of_their_images(method, net, images):
    result = method.run(net, images, convscope.logit(1), **options(method))
    assert len(list(result)) == len(result)
    first, last = result[0], result[-1]
    assert type(first) is type(last) is type(result)
    assert (1, len(result)) == (len(first), len(result[:]))
    assert min(first.picture().size) > 10
    assert_equal(last, result[len(result) - 1])
    with pytest.raises(IndexError, match="There is no"):
        result[len(result)]


class Flat(torch.nn.Module):
    """Flattens its maps with `view`, as beginners are taught, or with what takes any order."""

    def __init__(self, flatten):
        super().__init__()
        self.mid, self.norm = torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.ReLU()
        self.head, self.flatten = torch.nn.Linear(6 * 7 * 7, 5), flatten

    def forward(self, x):
        return self.head(self.flatten(self.norm(self.mid(x)), -1, 6 * 7 * 7))


def flat(flatten):
    torch.manual_seed(0)
    return convscope.Network(Flat(flatten), input_size=(16, 16), name="flat")


def test_networks_that_flatten_with_view(method, images):
    found = []
    for net in (flat(torch.Tensor.view), flat(torch.Tensor.reshape)):
        try:
            given = {**options(method), **({"layer": "mid"} if method.name == "cam" else {})}
            found.append(values(method.run(net, images, convscope.logit(1), **given)))
        except NotApplicableError as error:
            found.append(str(error))
    if isinstance(found[0], str):
        assert found[0] == found[1]
    else:
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_nothing_grows_in_a_loop(of_images, net, images):
    import gc

    def count():
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    of_images.run(net, images, convscope.logit(1), **options(of_images))
    before = count()
    for _ in range(5):
        of_images.run(net, images, convscope.logit(1), **options(of_images))
    assert count() <= before
