"""Vision transformers loaded for pictures of another size."""

import pytest
import torch
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

import convscope as cs
from convscope.errors import LoadError
from convscope.loading.adapt_size import adapt_size

OPTIONS = {"num_layers": 1, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 8, "num_classes": 5}


def vision_transformer(size, **options):
    return VisionTransformer(size, 8, **{**OPTIONS, **options}).eval()


@pytest.mark.parametrize("size", [32, 64, 24])
def test_torchvision_s_transformer(size):
    torch.manual_seed(0)
    module, expected = vision_transformer(32), vision_transformer(size)
    torch.nn.init.normal_(module.heads.head.weight)
    expected.load_state_dict(interpolate_embeddings(size, 8, module.state_dict().copy()))
    adapt_size(module, "vit", (size, size))
    pixels = torch.rand(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(module(pixels), expected(pixels))
    net = cs.load(module, mean=0.5, std=0.5, size=size)
    assert (1, size // 8, size // 8) == cs.cam(net, pixels[:1], 1).values.shape


@pytest.mark.parametrize("size", [(32, 48), (36, 36)])
def test_a_size_it_cannot_take(size):
    with pytest.raises(LoadError, match="squares whose side is a multiple of 8"):
        adapt_size(vision_transformer(32), "vit", size)


@pytest.mark.parametrize(
    ("name", "size"), [("vit_tiny_patch16_224", (64, 64)), ("vit_tiny_patch16_224", (48, 80))]
)
def test_timm_s_transformer_by_name(name, size, tmp_path):
    """The same as timm's own interpolation at run time."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    own = timm.create_model(name, dynamic_img_size=True, depth=1).eval()
    torch.nn.init.normal_(own.head.weight)
    torch.nn.init.normal_(own.pos_embed)
    adapted = timm.create_model(name, depth=1).eval()
    adapted.load_state_dict(own.state_dict())
    adapt_size(adapted, name, size)
    pixels = torch.rand(1, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(adapted(pixels), own(pixels), rtol=1e-4, atol=1e-5)


def test_load_brings_a_network_of_timm_to_a_size(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "a.pth")
    net = cs.load("timm:vit_tiny_patch16_224", weights=tmp_path / "a.pth", size=64)
    heat = cs.cam(net, torch.rand(1, 3, 64, 64), 1)
    assert (1, 4, 4) == heat.values.shape


def test_a_module_of_one_s_own_is_not_changed():
    module = vision_transformer(32)
    before = module.encoder.pos_embedding
    cs.load(module, mean=0.5, std=0.5, size=64)
    assert before is module.encoder.pos_embedding
