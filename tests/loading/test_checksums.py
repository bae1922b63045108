"""Files of weights that were damaged: noticed by the hash in the name or the checksums inside."""

import contextlib
import hashlib
import random
import shutil
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from convscope.errors import LoadError
from convscope.loading import checksums
from convscope.loading.checkpoint import read_state_dict
from tests.conftest import FIXTURES, needs_fixtures

PUBLISHED = "squeezenet1_1-b8a52dc0.pth"  # torchvision's


def flipped(file, count=100):
    """Flip some bytes in the middle of a file."""
    content = bytearray(file.read_bytes())
    chance = random.Random(0)  # noqa: S311 - places of damage, no secrets
    for _ in range(count):
        content[chance.randrange(len(content) // 4, 3 * len(content) // 4)] ^= 0xFF
    file.write_bytes(content)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    state = {"conv.weight": torch.randn(64, 3, 9, 9), "conv.bias": torch.randn(64)}

    def make(name):
        if name.endswith("safetensors"):
            save_file(state, tmp_path / name)
        else:
            torch.save(state, tmp_path / name)
        return tmp_path / name

    return make


def test_a_damaged_archive_is_refused(weights):
    file = weights("w.pth")
    assert 2 == len(read_state_dict(file))
    flipped(file)
    with pytest.raises(LoadError) as caught:
        read_state_dict(file)
    assert str(caught.value) == (
        f"{file} is damaged: the checksum of 'w/data/0' inside it is wrong. Fetch it again, or "
        "save it again."
    )


def test_one_flipped_byte_is_enough(weights):
    file = weights("w.pth")
    flipped(file, 1)
    with pytest.raises(LoadError, match="is damaged: the checksum of"):
        read_state_dict(file)


def test_an_archive_without_checksums_loads(weights):
    torch.serialization.set_crc32_options(False)
    try:
        file = weights("w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert zipfile.ZipFile(file).testzip()
    assert 2 == len(read_state_dict(file))


def test_a_name_that_torchvision_publishes_with_another_hash(weights):
    file = weights(PUBLISHED)
    found = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    with pytest.raises(LoadError) as caught:
        read_state_dict(file)
    assert str(caught.value) == (
        f"{file} is damaged or was changed: the file of this name that torchvision publishes has a "
        f"SHA-256 that begins with b8a52dc0, and this one's begins with {found}. Delete it and "
        "fetch it again; weights that were changed on purpose need another name."
    )


def test_a_name_that_timm_publishes(weights):
    pytest.importorskip("timm")
    name = next(
        name for name in checksums._timm_filenames() if checksums._HASH_IN_NAME.search(name)
    )
    with pytest.raises(LoadError, match=r"that timm publishes|that torchvision publishes"):
        read_state_dict(weights(name))


@pytest.mark.parametrize("name", ["net-0123abcd.pth", "net-0123abcd.safetensors"])
def test_a_hash_in_another_name_is_said(name, weights):
    file = weights(name)
    found = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    with pytest.warns(UserWarning, match="may be damaged") as told:
        assert 2 == len(read_state_dict(file))
    assert [str(one.message) for one in told] == [
        f"{file} may be damaged: its name says that its SHA-256 begins with 0123abcd, but it begins "
        f"with {found}."
    ]


@pytest.mark.parametrize("name", ["net-20260101.pth", "net-abc.pth", "net.pth", "net.safetensors"])
def test_a_name_without_a_hash_is_not_judged(name, weights):
    assert 2 == len(read_state_dict(weights(name)))


def test_a_true_hash_says_nothing(weights):
    file = weights("w.safetensors")
    stated = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    assert 2 == len(read_state_dict(file.rename(file.with_name(f"w-{stated}.safetensors"))))


REAL = sorted((FIXTURES / "weights").glob("*th"))


@needs_fixtures
@pytest.mark.parametrize("file", REAL, ids=lambda file: file.name)
def test_real_files_load_and_damaged_copies_are_noticed(file, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_state_dict(file)
    copy = tmp_path / file.name
    shutil.copyfile(file, copy)
    copy.chmod(0o600)
    flipped(copy)
    if zipfile.is_zipfile(copy):
        with (
            pytest.warns(UserWarning, match="may be damaged: its name says"),
            pytest.raises(LoadError, match="is damaged: the checksum of"),
        ):
            read_state_dict(copy)
    else:  # an old pickle, which has no checksum: its name alone tells
        with pytest.warns(UserWarning, match="may be damaged: its name says"):
            checksums.check_integrity(copy)


def test_timm_weights_in_the_cache_that_were_damaged(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    import convscope

    config = timm.get_pretrained_cfg("resnet18.a1_in1k")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(config, "hf_hub_id", None)
    monkeypatch.setattr(config, "url", f"https://example.org/{PUBLISHED}")
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda *_, **__: config)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / PUBLISHED).write_bytes(b"damaged")
    with pytest.raises(LoadError, match="is damaged or was changed"):
        convscope.load("timm:resnet18.a1_in1k")


def test_every_flipped_bit_of_the_table_of_contents_is_one_sentence_or_harmless(weights):
    path = weights("w.pth")
    before = path.read_bytes()
    for place in range(before.index(b"PK\x01\x02"), len(before)):
        for bit in (place % 8, 7):
            content = bytearray(before)
            content[place] ^= 1 << bit
            path.write_bytes(content)
            with contextlib.suppress(LoadError):
                read_state_dict(path)


def test_a_small_archive_of_large_content_is_refused(weights):
    whole = weights("w.pth")
    packed = whole.with_name("packed.pth")
    with zipfile.ZipFile(whole) as old:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
        read_state_dict(packed)  # some pack their weights
        with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as new:
            new.writestr("w/data/9", bytes(2**27))
    with pytest.raises(LoadError, match=r"has [\d,]+ bytes and would unpack to 134,"):
        read_state_dict(packed)
