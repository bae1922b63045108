"""From a name, a file or a module to a network, with every way in which that can go wrong."""

import hashlib
import http.client
import http.server
import json
import re
import sys
import threading
import urllib.error
import warnings

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import SqueezeNet1_1_Weights

import convscope
from convscope.errors import ArgumentError, ImageError, LoadError, NotApplicableError
from convscope.images.read import Standardize, sample
from tests.conftest import Tiny, tiny_module

IMAGENET = Standardize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def random_squeezenet():
    """The right architecture with weights of chance, in eval mode."""
    torch.manual_seed(0)
    return torchvision.models.squeezenet1_1(weights=None).eval()


@pytest.fixture(scope="module")
def file(random_squeezenet, tmp_path_factory):
    place = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(random_squeezenet.state_dict(), place)
    return place


@pytest.fixture
def own():
    """What `load` takes beside a module of one's own, so that it does not warn."""
    return {"mean": 0, "std": 1, "size": 16}


def refused(message, *args, kind=LoadError, **options):
    """The whole message, one line; "..." stands for what others say in it."""
    with pytest.raises(kind) as caught:
        convscope.load(*args, **options)
    pattern = re.escape(message).replace(re.escape("..."), ".+")
    assert re.fullmatch(pattern, str(caught.value)), str(caught.value)


def scores(net, images):
    return net.activations(images, ["output"])["output"]


# --- torchvision ------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["torchvision:squeezenet1_1", "squeezenet1_1"])
def test_torchvision_by_name_with_a_file(spec, file, random_squeezenet):
    net = convscope.load(spec, weights=file)
    pixels = net.read("sample:china")
    with torch.no_grad():
        expected = random_squeezenet(IMAGENET(pixels))
    torch.testing.assert_close(scores(net, pixels), expected)


def test_torchvisions_facts_come_with_it(file):
    net = convscope.load("squeezenet1_1", weights=file)
    assert ("squeezenet1_1", None) == (net.name, net.spec)
    assert IMAGENET == net.normalize
    assert ((224, 224), 256) == (net.input_size, net.resize)
    assert tuple(SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]) == net.labels
    assert not net.missing
    assert not net.module.training


def test_a_photograph_enters_as_through_torchvisions_transforms(file):
    net = convscope.load("squeezenet1_1", weights=file)
    expected = SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()(Image.open(sample("china")))
    found = net.preprocess(net.read("sample:china"))[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrapping", ["state_dict", "model", "module.", "safetensors", "string"])
def test_every_wrapping(wrapping, file, random_squeezenet, tmp_path):
    state = random_squeezenet.state_dict()
    place = tmp_path / "w.pth"
    if wrapping == "safetensors":
        place = tmp_path / "w.safetensors"
        save_file(state, place)
    elif wrapping == "string":
        place = str(file)
    else:
        wrapped = {f"module.{k}": v for k, v in state.items()}
        torch.save(wrapped if wrapping == "module." else {wrapping: state, "epoch": 1}, place)
    net = convscope.load("squeezenet1_1", weights=place)
    assert convscope.load("squeezenet1_1", weights=file).fingerprint == net.fingerprint


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_normalise_again_do_so_with_a_file_too(name):
    """Torchvision's own weights of these two expect `transform_input`."""
    from convscope.loading.from_torchvision import _build_model

    with torch.device("meta"):
        module = _build_model(name, next(iter(torchvision.models.get_model_weights(name))))
    assert module.transform_input


@pytest.mark.parametrize(
    "name",
    ["fcn_resnet50", "fasterrcnn_mobilenet_v3_large_fpn", "vit_h_14", "maxvit_t", "r3d_18"],
)
def test_networks_are_built_as_their_weights_are_and_fetch_nothing(name, monkeypatch):
    """The number of weights is what torchvision states of its file."""
    from convscope.loading.from_torchvision import _build_model

    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("fetched"))
    entry = next(iter(torchvision.models.get_model_weights(name)))
    with torch.device("meta"):
        module = _build_model(name, entry)
    found = sum(p.numel() for p in module.parameters())
    assert abs(entry.meta["num_params"] - found) <= 0.01 * found


def test_densenets_files_have_names_of_another_time(tmp_path):
    torch.manual_seed(0)
    module = torchvision.models.densenet121(weights=None)
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])")
    torch.save(
        {old.sub(r"\1.\2", k): v for k, v in module.state_dict().items()}, tmp_path / "w.pth"
    )
    net = convscope.load("densenet121", weights=tmp_path / "w.pth")
    assert convscope.Network(module).fingerprint == net.fingerprint


def test_an_unknown_network_of_torchvision():
    near = "vgg19, vgg16, vgg13"
    refused(f"torchvision has no network 'vgg17'; the closest are {near}.", "torchvision:vgg17")


def test_an_unknown_name():
    refused(
        "There is no network 'resnet5O'; the closest are resnet50, ... The command 'convscope models' "
        "lists them; one of your own is written package.module:function.",
        "resnet5O",
    )


def test_bundled_is_suggested_too():
    with pytest.raises(LoadError, match=r"There is no network 'bundeld'; the closest are bundled"):
        convscope.load("bundeld")


def test_a_file_by_itself_needs_a_network():
    refused(
        "my.pth holds weights only; say which network they belong to, as in "
        "load('torchvision:vgg16', weights='my.pth').",
        "my.pth",
    )


def test_a_quantized_network():
    refused(
        "quantized_resnet18 is quantized, and is not built by name; give the module, as "
        "torchvision.models.get_model('quantized_resnet18', weights='DEFAULT', quantize=True): all "
        "that needs no gradient works.",
        "torchvision:quantized_resnet18",
    )


def test_the_bundled_network_takes_no_weights(file):
    refused(
        "The bundled network has its own weights; name another network to load yours into.",
        "bundled",
        weights=file,
    )


@pytest.mark.parametrize("spec", [None, 3, torch.nn.Conv2d])
def test_what_is_no_name(spec):
    kind = type(spec).__name__
    refused(f"A network is given by its name or as a torch.nn.Module, not as a {kind}.", spec)


# --- files that do not fit --------------------------------------------------------------------


def test_a_missing_file_of_weights(tmp_path):
    place = tmp_path / "w.pth"
    refused(f"There is no weight file {place}.", "squeezenet1_1", weights=place)


def test_weights_of_another_network(file):
    refused(
        f"{file} does not fit this network: 12 weights are missing, the first 'features.3.weight'; "
        "48 are unexpected, the first 'features.3.squeeze.weight' (closest: features.3.weight); "
        "partial=True (--partial) loads what fits, to look at what lies before the rest.",
        "torchvision:alexnet",
        weights=file,
    )


def test_a_weight_of_another_shape(random_squeezenet, tmp_path):
    state = dict(random_squeezenet.state_dict())
    state["classifier.1.bias"] = torch.zeros(10)
    torch.save(state, tmp_path / "w.pth")
    refused(
        f"{tmp_path}/w.pth does not fit this network: 'classifier.1.bias' has the shape (10,) there "
        "and (1000,) here; build the network with 10 outputs there. partial=True (--partial) loads "
        "what fits, to look at what lies before the rest.",
        "squeezenet1_1",
        weights=tmp_path / "w.pth",
    )


@pytest.fixture
def half_known(tmp_path):
    """A network of which only the stem was loaded."""
    state = {k: v for k, v in tiny_module().state_dict().items() if k.startswith("stem")}
    torch.save(state, tmp_path / "stem.pth")
    return convscope.load(Tiny(), weights=tmp_path / "stem.pth", partial=True, size=16)


def test_partial_tells_what_is_missing(half_known):
    assert "head.weight" in half_known.missing
    assert not any(name.startswith("stem") for name in half_known.missing)


def test_partial_shows_the_filters_that_were_loaded(half_known):
    expected = tiny_module().stem.weight
    assert torch.equal(expected, convscope.filters(half_known, "conv:1").values)


def test_partial_refuses_the_filters_that_were_not(half_known):
    message = r"^The weights of conv:2 were not loaded; those of conv:1 were\.$"
    with pytest.raises(NotApplicableError, match=message):
        convscope.filters(half_known, "conv:2")


@pytest.mark.parametrize(
    ("look", "what"), [(convscope.predict, "The output"), (convscope.cam, "act")]
)
def test_partial_shows_nothing_behind_the_missing_weights(look, what, half_known, images):
    message = (
        rf"^{what} depends on {len(half_known.missing)} weights of Tiny that were not loaded "
        r"\(head\.bias, head\.weight, \.\.\.\); the last layer before them is stage:2\.$"
    )
    with pytest.raises(NotApplicableError, match=message):
        look(half_known, images)


# --- downloads --------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Torch's folder of weights, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def server(file, monkeypatch):
    """Serves the weights on this machine; torchvision's address of them points to it."""
    content = file.read_bytes()
    name = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, stated, body = served.answer
            self.send_response(status)
            self.send_header("Content-Length", str(stated))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.content, served.file_name, served.asked = content, name, asked
    served.answer = (200, len(content), content)
    served.url = f"http://127.0.0.1:{served.server_port}/models/{name}"
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(SqueezeNet1_1_Weights.IMAGENET1K_V1.value, "url", served.url)
    threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def test_weights_are_fetched_once(server, cache, file, capsys):
    net = convscope.load("torchvision:squeezenet1_1")
    assert convscope.load("squeezenet1_1", weights=file).fingerprint == net.fingerprint
    assert [server.file_name] == [p.name for p in cache.iterdir()]
    convscope.load("torchvision:squeezenet1_1")
    assert 1 == len(server.asked)
    assert not capsys.readouterr().out, "results alone stand on stdout"


@pytest.mark.parametrize("name", ["IMAGENET1K_V1", "DEFAULT"])
def test_a_set_of_weights_is_fetched_by_name(name, server, cache, file):
    net = convscope.load("squeezenet1_1", weights=name)
    assert convscope.load("squeezenet1_1", weights=file).fingerprint == net.fingerprint


def test_a_file_put_into_the_folder_is_enough(server, cache):
    cache.mkdir(parents=True)
    (cache / server.file_name).write_bytes(server.content)
    assert "squeezenet1_1" == convscope.load("squeezenet1_1").name
    assert not server.asked


BROKEN = {
    "cut off": lambda content: (200, len(content), content[: len(content) // 2]),
    "shorter": lambda content: (200, 1000, content[:1000]),
    "something else": lambda content: (200, 20, b"<html>log in</html> "),
    "another file": lambda content: (200, len(content), content[:-1] + b"?"),
    "empty": lambda content: (200, 0, b""),
    "not found": lambda content: (404, 0, b""),
    "out of order": lambda content: (503, 0, b""),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_download_leaves_nothing_behind(kind, server, cache):
    server.answer = BROKEN[kind](server.content)
    refused(
        "The weights of squeezenet1_1 are not on this machine and could not be fetched (...). Put "
        f"the file {server.file_name} into {cache}, or give a checkpoint of your own as weights; "
        "the network 'bundled' works without any download.",
        "torchvision:squeezenet1_1",
    )
    assert [] == list(cache.iterdir())


def test_after_a_broken_download_the_next_one_may_succeed(server, cache):
    good, server.answer = server.answer, BROKEN["cut off"](server.content)
    with pytest.raises(LoadError):
        convscope.load("squeezenet1_1")
    server.answer = good
    assert "squeezenet1_1" == convscope.load("squeezenet1_1").name


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("[Errno -2] Name or service not known"),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b""),
        PermissionError(13, "Permission denied"),
    ],
)
def test_without_a_network_the_error_says_what_to_do(error, cache, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    refused(
        "The weights of vgg16 are not on this machine and could not be fetched (...). Put the file "
        f"vgg16-397923af.pth into {cache}, or give a checkpoint of your own as weights; the network "
        "'bundled' works without any download.",
        "vgg16",
    )


def test_a_damaged_file_in_the_folder_is_named(server, cache):
    cache.mkdir(parents=True)
    damaged = cache / server.file_name
    damaged.write_bytes(server.content[:5000])
    refused(
        f"{damaged} is damaged or was changed: the file of this name that torchvision publishes has "
        f"a SHA-256 that begins with {server.file_name[14:22]}, and this one's begins with ... "
        "Delete it and fetch it again; weights that were changed on purpose need another name.",
        "squeezenet1_1",
    )


# --- timm -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm")


def test_timm_with_a_file(timm, tmp_path):
    torch.manual_seed(0)
    module = timm.create_model("resnet18", pretrained=False).eval()
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    net = convscope.load("timm:resnet18", weights=tmp_path / "w.safetensors")

    config = timm.data.resolve_model_data_config(module)
    steps = timm.data.create_transform(**config).transforms
    pixels = net.read("sample:china")
    torch.testing.assert_close(steps[-1](pixels), net.preprocess(pixels))
    assert (steps[0].size, tuple(steps[1].size)) == (net.resize, net.input_size)
    assert ("resnet18", None, 1000) == (net.name, net.spec, len(net.labels))
    with torch.no_grad():
        torch.testing.assert_close(module(steps[-1](pixels)), scores(net, pixels))


def test_timm_with_classes_of_its_own_has_no_labels(timm, tmp_path, monkeypatch):
    module = timm.create_model("test_resnet", pretrained=False, num_classes=3)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: module)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    assert () == convscope.load("timm:test_resnet", weights=tmp_path / "w.pth").labels


def test_an_unknown_network_of_timm(timm):
    refused("timm has no network 'resnet19'; the closest are resnet18, ...", "timm:resnet19")


def test_timm_without_a_network_says_which_file_was_wanted(timm, monkeypatch):
    error = OSError("We cannot connect\nto the hub")

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(timm, "create_model", fails)
    refused(
        "resnet18 of timm is not available (We cannot connect). Its weights are the file "
        "model.safetensors of timm/resnet18.a1_in1k; give that as weights, or a checkpoint of your "
        "own. The network 'bundled' works without any download.",
        "timm:resnet18",
    )


def test_an_unknown_set_of_timms_weights(timm):
    refused(
        "resnet18.nonsense of timm is not available (Invalid pretrained tag (nonsense) for resnet18.). "
        "The network 'bundled' works without any download.",
        "timm:resnet18.nonsense",
    )


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    message = "timm is not installed; install it with: pip install 'convscope[timm]'."
    refused(message, "timm:resnet18")


# --- networks of one's own --------------------------------------------------------------------

SOURCE = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 2, 1))

ready = make()
number = 3

def needs(width):
    return make()

def text():
    return "no network"
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a package in it, as the current one."""
    package = tmp_path / "my_networks"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "small.py").write_text(SOURCE)
    (package / "broken.py").write_text("import no_such_package_at_all\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] == "my_networks"]:
        del sys.modules[name]


@pytest.mark.parametrize(("name", "channels"), [("make", 4), ("Net", 2), ("ready", 4)])
def test_a_function_a_class_or_a_module_of_the_current_folder(name, channels, here, own):
    net = convscope.load(f"my_networks.small:{name}", **own)
    assert channels == net.layers.find("conv:1").shape[0]
    assert (name, f"my_networks.small:{name}") == (net.name, net.spec)


def test_the_search_path_is_as_it_was(here, own):
    before = list(sys.path)
    convscope.load("my_networks.small:make", **own)
    with pytest.raises(LoadError):
        convscope.load("my_networks.nothing:make", **own)
    assert before == sys.path


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "my_networks.nothing:make",
            (
                "'my_networks.nothing' cannot be imported (No module named 'my_networks.nothing'); write "
                "package.module:function."
            ),
        ),
        (
            "my_networks.broken:make",
            (
                "'my_networks.broken' cannot be imported (No module named 'no_such_package_at_all'); "
                "write package.module:function."
            ),
        ),
        ("my_networks.small:mke", "my_networks.small has no 'mke'; the closest are make."),
        (
            "my_networks.small:needs",
            (
                "my_networks.small:needs cannot be called without arguments (needs() missing 1 required "
                "positional argument: 'width')."
            ),
        ),
        (
            "my_networks.small:number",
            (
                "my_networks.small:number cannot be called without arguments ('int' object is not "
                "callable)."
            ),
        ),
        ("my_networks.small:text", "my_networks.small:text gives a str, not a torch.nn.Module."),
        (
            "../small.py:make",
            "A network of your own is written package.module:function; for '../small.py:make' that is "
            "small:make, run in the folder ....",
        ),
        (":make", "'' is not a module name; write package.module:function."),
        (".small:make", "'.small' is not a module name; write package.module:function."),
    ],
)
def test_a_network_of_ones_own_that_cannot_be_had(spec, message, here):
    refused(message, spec)


def test_a_module_of_ones_own_with_a_file(tmp_path, own, images):
    torch.save(tiny_module().state_dict(), tmp_path / "w.pth")
    net = convscope.load(Tiny(), weights=tmp_path / "w.pth", **own)
    torch.testing.assert_close(
        scores(convscope.load(tiny_module(), **own), images), scores(net, images)
    )


def test_a_file_for_a_module_that_is_wrapped(tmp_path, own):
    torch.save(tiny_module().state_dict(), tmp_path / "w.pth")
    net = convscope.load(nn.DataParallel(Tiny()), weights=tmp_path / "w.pth", **own)
    assert convscope.Network(tiny_module()).fingerprint == net.fingerprint


def test_a_module_of_ones_own_is_the_same_object_and_keeps_its_modes(own):
    module = tiny_module()
    modes = [m.training for m in module.modules()]
    assert module is convscope.load(module, **own).module
    assert modes == [m.training for m in module.modules()]


def test_without_mean_and_std_it_warns(images):
    message = (
        r"^No mean and std were given for Tiny, so pixels are passed as they are, in \[0, 1\]\. If it was "
        r"trained on normalised pictures, give both\.$"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        net = convscope.load(tiny_module(), size=16)
    assert __file__ == caught[0].filename
    assert torch.equal(images, net.preprocess(images))


# --- options ----------------------------------------------------------------------------------


def test_mean_and_std(images):
    net = convscope.load(tiny_module(), mean=(0.1, 0.2, 0.3), std=[0.4, 0.5, 0.6], size=16)
    expected = torch.stack([(images[:, c] - (c + 1) / 10) / ((c + 4) / 10) for c in range(3)], 1)
    torch.testing.assert_close(expected, net.preprocess(images))


def test_mean_and_std_of_ones_own_go_before_torchvisions(file):
    net = convscope.load("squeezenet1_1", weights=file, mean=0.5, std=0.25)
    assert Standardize((0.5,), (0.25,)) == net.normalize


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": 0.5}, "mean was given without std; a network needs both, or neither."),
        ({"std": 0.5}, "std was given without mean; a network needs both, or neither."),
        (
            {"mean": (0, 0), "std": (1, 1, 1)},
            "mean has 2 numbers and std 3; give one each for every channel, or one for all.",
        ),
        (
            {"mean": 0, "std": ()},
            "std must be one number, or one for each channel; none was given.",
        ),
        ({"mean": 0, "std": (1, 0, 1)}, "std must be above 0, not 0."),
        (
            {"mean": (123.7, 116.3, 103.5), "std": 1},
            "mean must be that of pixels in [0, 1], not in [0, 255]: 123.7 is too large.",
        ),
        (
            {"mean": 0, "std": 1, "size": 0},
            "size must be an integer above 0, or (height, width), not 0.",
        ),
        (
            {"mean": 0, "std": 1, "size": (8, 8, 3)},
            "size must be an integer above 0, or (height, width), not (8, 8, 3).",
        ),
    ],
)
def test_options_outside_their_range(options, message):
    refused(message, tiny_module(), kind=ArgumentError, **options)


@pytest.mark.parametrize(
    ("size", "expected"), [(20, (20, 20)), ((20, 30), (20, 30)), ([8, 9], (8, 9))]
)
def test_size(size, expected):
    net = convscope.load(tiny_module(), mean=0, std=1, size=size)
    assert expected == net.input_size
    assert expected == tuple(net.read("sample:china").shape[-2:])


def test_a_size_of_ones_own_puts_torchvisions_resize_out_of_use(file):
    net = convscope.load("squeezenet1_1", weights=file, size=(64, 96))
    assert ((64, 96), None) == (net.input_size, net.resize)


def test_size_and_resize(file):
    net = convscope.load("squeezenet1_1", weights=file, size=64, resize=72)
    assert ((64, 64), 72) == (net.input_size, net.resize)


NAMES = ("tench", "gas pump", "église", "bus", "x")


@pytest.mark.parametrize(
    "given",
    [
        list,
        lambda names: names,
        "\n".join,
        lambda names: "\r\n".join(names) + "\r\n\r\n",
        json.dumps,
    ],
)
def test_labels(given, tmp_path, own):
    labels = given(NAMES)
    if isinstance(labels, str):
        place = tmp_path / ("labels.json" if labels.startswith("[") else "labels.txt")
        place.write_bytes(labels.encode())
        labels = place
    assert NAMES == convscope.load(tiny_module(), labels=labels, **own).labels


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.txt", None, 'There is no label file {file}; "imagenet" are those of ImageNet.'),
        ("l.json", b"{}", "{file} holds no names."),
        ("l.json", b"[1,", "{file} cannot be read as labels (...)."),
        ("l.txt", b"\xff\xfe\x00", "{file} cannot be read as labels (...)."),
    ],
)
def test_labels_that_cannot_be_had(name, content, message, tmp_path, own):
    place = tmp_path / name
    if content is not None:
        place.write_bytes(content)
    refused(message.format(file=place), tiny_module(), labels=place, **own)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there(own):
    message = "The device 'cuda' cannot be used (...); here there is cpu."
    refused(message, tiny_module(), device="cuda", **own)


def test_a_device_that_does_not_exist(own):
    with pytest.raises(
        LoadError, match=r"^The device 'gpu' cannot be used \(.+\); here there is cpu"
    ):
        convscope.load(tiny_module(), device="gpu", **own)


def test_a_device(own):
    assert "cpu" == convscope.load(tiny_module(), device="cpu", **own).device.type


# --- networks of every kind -------------------------------------------------------------------


def test_a_network_of_one_channel_sees_luma(images):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = convscope.load(module, mean=0.1, std=0.5, size=16)
    grey = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
    with torch.no_grad():
        expected = module((grey - 0.1) / 0.5)
    torch.testing.assert_close(expected, scores(net, images))


def test_a_network_of_four_channels_refuses_colours(images, own):
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    message = (
        r"^Images for Sequential have the shape \(N, 4, H, W\), but these have \(3, 3, 16, 16\)\.$"
    )
    with pytest.raises(ImageError, match=message):
        scores(convscope.load(module, **own), images)


def test_half_precision_gives_scores_in_full(images, own):
    net = convscope.load(tiny_module().bfloat16(), **own)
    found = scores(net, images)
    assert torch.float32 == found.dtype
    assert torch.bfloat16 == net.dtype
    expected = scores(convscope.load(tiny_module(), **own), images)
    torch.testing.assert_close(expected, found, rtol=0.1, atol=0.05)


def test_a_frozen_network_is_explained_and_stays_frozen(images, own):
    module = tiny_module().requires_grad_(False)
    expected = convscope.cam(convscope.load(tiny_module(), **own), images, 1).values
    torch.testing.assert_close(
        expected, convscope.cam(convscope.load(module, **own), images, 1).values
    )
    assert not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: nn.DataParallel(nn.DataParallel(m))])
def test_parallel_modules_are_unwrapped(wrap, own):
    module = tiny_module()
    assert module is convscope.load(wrap(module), **own).module


def test_compiled_modules_are_unwrapped(own):
    module = tiny_module()
    assert module is convscope.load(torch.compile(module, backend="eager"), **own).module


def test_compiled_modules_in_parallel_are_unwrapped(own):
    module = tiny_module()
    wrapped = nn.DataParallel(torch.compile(module, backend="eager"))
    assert module is convscope.load(wrapped, **own).module


def test_torchscript_is_refused(own):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3)))
    refused(
        "A TorchScript module cannot be looked into; give the Python module it was made from.",
        script,
        kind=NotApplicableError,
        **own,
    )


# --- real checkpoints -------------------------------------------------------------------------


def test_the_real_squeezenet_knows_what_it_sees(squeezenet, fixtures):
    """One photograph in thirteen of the 800; chance would be one in a thousand right."""
    table = (fixtures / "data" / "imagenet_classes.tsv").read_text(encoding="utf-8")
    number = {line.split("\t")[1]: int(line.split("\t")[0]) for line in table.splitlines()}
    photographs = sorted((fixtures / "data" / "imagenet-samples").glob("*.JPEG"))[::13][:60]
    batch = torch.cat([squeezenet.read(p) for p in photographs])
    truth = torch.tensor([number[p.name.split("_")[0]] for p in photographs])
    with torch.no_grad():
        right = scores(squeezenet, batch).argmax(1) == truth
    assert 60 == len(photographs)
    assert right.float().mean() >= 0.4


def test_the_first_four_convolutions_of_the_real_vgg16(fixtures):
    file = fixtures / "weights" / "vgg16_conv1_1_to_conv2_2-831489fe.pth"
    net = convscope.load("torchvision:vgg16", weights=file, partial=True)
    shapes = [(64, 3), (64, 1), (128, 1), (128, 1)]
    for k, shape in enumerate(shapes, 1):
        assert shape == tuple(convscope.filters(net, f"conv:{k}").values.shape[:2])
    with pytest.raises(
        NotApplicableError,
        match=r"^The weights of conv:5 were not loaded; those of conv:1, conv:2, conv:3, conv:4 were\.$",
    ):
        convscope.filters(net, "conv:5")


def test_the_real_vgg16_without_partial_says_what_is_missing(fixtures):
    file = fixtures / "weights" / "vgg16_conv1_1_to_conv2_2-831489fe.pth"
    refused(
        f"{file} does not fit this network: 24 weights are missing, the first 'features.10.weight'; "
        "partial=True (--partial) loads what fits, to look at what lies before the rest.",
        "vgg16",
        weights=file,
    )


def test_a_network_built_under_inference_mode_is_refused():
    with torch.inference_mode():
        module = nn.Conv2d(3, 2, 3)
    words = "This network was built under torch.inference_mode(), so its weights cannot have gradients; build or load it outside, or under torch.no_grad()."
    with pytest.raises(NotApplicableError) as refused:
        convscope.Network(module)
    assert words == str(refused.value)
