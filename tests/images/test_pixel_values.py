"""What is black and what is white, in arrays, tensors and files alike."""

import io
import re
import struct
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope
from convscope.errors import ArgumentError, ImageError
from convscope.images.decoding_process import Decoder

RAMP = np.linspace(0, 1, 4096).reshape(64, 64)


def tiff(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF")
    return file.getvalue()


def png(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def pixels_of(source, **options):
    """The three colours, which must be one, as float64; nothing may be warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = convscope.read(source, **options)
    assert torch.float32 == found.dtype
    assert torch.equal(found[:, 0], found[:, 2])
    return found[0, 0].double().numpy()


def tensor(values):
    return torch.from_numpy(values)[None]


FORMS = {"array": np.asarray, "tensor": tensor, "picture": Image.fromarray, "TIFF": tiff}


def scaled(values, low, high):
    """The formula, in float64."""
    return ((values.astype(np.float64) - low) / (high - low)).clip(0, 1)


@pytest.mark.parametrize("form", [*FORMS, "PNG"])
def test_uint16_runs_to_65535_whatever_one_picture_holds(form):
    make = {**FORMS, "PNG": png}[form]
    for top in (200, 4095, 65535):
        values = (RAMP * top).round().astype(np.uint16)
        np.testing.assert_allclose(pixels_of(make(values)), values / 65535, atol=1e-6)


@pytest.mark.parametrize("form", ["array", "tensor", "picture"])
def test_truth_values_are_black_and_white(form):
    values = RAMP > 0.3
    assert np.array_equal(values, pixels_of(FORMS[form](values)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint16, 0, 4095),
        (np.int32, -1024, 3071),
        (np.float32, 0, 255),
        (np.float32, -1, 1),
        (np.uint8, 10, 200),
    ],
)
def test_a_range_says_what_is_black_and_white(form, dtype, low, high):
    values = (low + RAMP * (high - low)).astype(dtype)
    found = pixels_of(FORMS[form](values), range=(low, high))
    np.testing.assert_allclose(found, scaled(values, low, high), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint32, np.int64])
def test_other_integers_in_arrays_and_tensors(dtype):
    values = (RAMP * 100).astype(dtype)
    for make in (np.asarray, tensor):
        np.testing.assert_allclose(pixels_of(make(values), range=(0, 100)), values / 100, atol=1e-6)
        with pytest.raises(ImageError, match=r"integers of type u?int\d+, from 0 to 100, whose"):
            convscope.read(make(values))


def test_large_integers_keep_their_digits():
    values = (10**9 + RAMP * 255).astype(np.int64)
    found = pixels_of(values, range=(10**9, 10**9 + 255))
    np.testing.assert_allclose(found, scaled(values, 10**9, 10**9 + 255), atol=1e-6)


def test_colours_in_a_range():
    values = np.stack([RAMP * 4095, 0 * RAMP, 4095 - RAMP * 4095], 2)
    found = convscope.read(values.astype(np.uint16), range=(0, 4095))[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, scaled(values.astype(np.uint16), 0, 4095), atol=1e-6)
    colours = (values / 4095 * 200).astype(np.uint8)
    found = convscope.read(png(colours), range=(0, 200))[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, colours / 200, atol=0.5 / 255 + 1e-6)  # rounded to bytes


@pytest.mark.parametrize("form", FORMS)
def test_a_little_beyond_is_clipped_and_said(form):
    """A hot pixel must not make the others dark, nor a resampling's overshoot."""
    values = RAMP.astype(np.float32)
    values[0, :3], values[1, :20] = 1.5, -0.05
    with pytest.warns(UserWarning, match="were clipped") as told:
        found = convscope.read(FORMS[form](values))
    np.testing.assert_allclose(found[0, 0], values.clip(0, 1), atol=1e-6)
    assert "23 of 4,096 values lie outside [0, 1], from -0.05 to 1.5, and were clipped." in str(
        told[0].message
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("low", "high", "write"),
    [
        (0, 255, "(0, 255)"),
        (0, 4000, "(0, 4095)"),
        (0, 65535, "(0, 65535)"),
        (0, 1.04, "(0, 1)"),
        (-1, 1, "(-1, 1)"),
        (-2.5, 2.25, "(-2.5, 2.25)"),
        (0, 1e6, "(0, 1e+06)"),
    ],
)
def test_floats_of_another_scale_are_refused_with_the_range_to_write(form, low, high, write):
    values = (low + RAMP * (high - low)).astype(np.float32)
    option = write.strip("()").replace(",", "")
    said = (
        f" holds pixels from {low:.6g} to {high:.6g}, but they must lie in [0, 1]: say what is "
        f"black and what is white, as in read(..., range={write}), or with --range {option} in the "
        "command."
    )
    with pytest.raises(ImageError) as caught:
        convscope.read(FORMS[form](values))
    assert said in str(caught.value)
    assert ("normalisation" in str(caught.value)) == (low < 0)
    ends = tuple(float(end) for end in option.split())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 1.04 is clipped
        found = convscope.read(FORMS[form](values), range=ends)
    np.testing.assert_allclose(found[0, 0], scaled(values, *ends), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_values_that_are_no_numbers_are_blamed_on_the_picture(form):
    values = RAMP.astype(np.float32)
    values[3, 4] = np.nan
    for options in ({}, {"range": (0, 2)}):
        with pytest.raises(ImageError, match=r"holds 1 of 4,096 pixel values that are not finite"):
            convscope.read(FORMS[form](values), **options)


@pytest.mark.parametrize("ends", [5, (1, 1), (2, 1), (0, np.inf), ("0", "1"), (0, 1, 2)])
def test_what_is_no_range_is_refused(ends):
    said = f"range must be (low, high), the values of black and of white, not {ends!r}."
    with pytest.raises(ArgumentError, match=re.escape(said)):
        convscope.read(RAMP, range=ends)


def test_a_range_beyond_the_type_belongs_to_other_pictures():
    for source in (np.zeros((4, 4), np.uint8), "sample:china", np.zeros((4, 4), bool)):
        with pytest.raises(ImageError, match=r"so range=\(0, 4095\) is not its range"):
            convscope.read(source, range=(0, 4095))


def test_a_range_says_nothing_of_transparency():
    for source in (np.zeros((4, 4, 4), np.uint16), Image.new("RGBA", (4, 4))):
        with pytest.raises(ImageError, match="A range is for grey and RGB values"):
            convscope.read(source, range=(0, 200))


def test_colours_of_16_bits_in_a_file_have_no_range():
    """Pillow reads their upper 8 bits, of which 12 bits would leave 4."""
    head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    import zlib

    def chunk(name, body):
        crc = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + crc

    row = zlib.compress(b"\0" + struct.pack(">3H", 4095, 0, 2048))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", row) + chunk(b"IEND", b"")
    assert (1, 3, 1, 1) == tuple(convscope.read(data).shape)
    with pytest.raises(ImageError, match="holds colours of 16 bits, of which Pillow reads 8"):
        convscope.read(data, range=(0, 4095))


def deep_tiff(photometric, bits, rows):
    """A grey TIFF written by hand: little-endian, one strip."""
    tags = [
        (256, 3, 4), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
        (273, 4, 8), (277, 3, 1), (278, 3, 1), (279, 4, len(rows)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHIHH", tag, kind, 1, value, 0) for tag, kind, value in tags)
    padded = rows + b"\0" * (len(rows) % 2)
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(padded))
        + padded
        + struct.pack("<H", len(tags))
        + entries
        + struct.pack("<I", 0)
    )


def test_a_tiff_of_12_bits_runs_to_4095():
    values = [0, 4095, 2048, 1]
    bits = "".join(f"{value:012b}" for value in values)
    rows = bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))
    found = pixels_of(deep_tiff(1, 12, rows))
    np.testing.assert_allclose(found[0], np.array(values) / 4095, atol=1e-6)


def test_where_0_is_white_a_deep_tiff_is_turned_over():
    rows = struct.pack("<4H", 0, 65535, 4095, 1)
    found = pixels_of(deep_tiff(0, 16, rows))
    np.testing.assert_allclose(found[0], 1 - np.array([0, 65535, 4095, 1]) / 65535, atol=1e-6)


def test_a_pgm_of_16_bits():
    data = b"P5 4 1 65535\n" + struct.pack(">4H", 0, 100, 4095, 65535)
    np.testing.assert_allclose(
        pixels_of(data)[0], np.array([0, 100, 4095, 65535]) / 65535, atol=1e-6
    )


def test_a_tiff_that_pillow_cannot_decode_is_called_a_tiff():
    data = deep_tiff(1, 64, b"\0" * 32)
    with pytest.raises(ImageError, match="is a TIFF of a kind that Pillow cannot decode"):
        convscope.read(data)


def test_deep_pictures_are_turned_upright_and_resized_as_floats():
    values = (RAMP * 4095).astype(np.float32)
    upright = np.ascontiguousarray(np.rot90(values, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", exif=exif)
    np.testing.assert_allclose(
        pixels_of(file.getvalue(), range=(0, 4095)), upright / 4095, atol=1e-6
    )
    small = pixels_of(tiff(values), size=16, range=(0, 4095), interpolation="bicubic")
    expected = np.asarray(Image.fromarray(values / 4095).resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(small, expected.clip(0, 1), atol=1e-6)


def test_the_decoder_process_reads_the_same():
    values = (RAMP * 4095).astype(np.float32)
    hot = RAMP.astype(np.float32)
    hot[0, 0] = 1.5
    with Decoder(1) as decoder:
        options = {"range": (0, 4095), "decode": decoder.decode_file}
        np.testing.assert_allclose(pixels_of(tiff(values), **options), values / 4095, atol=1e-6)
        with pytest.warns(UserWarning, match="1 of 4,096 values lie outside"):
            convscope.read(tiff(hot), decode=decoder.decode_file)
        with pytest.raises(ImageError, match=r"range=\(0, 4095\)"):
            convscope.read(tiff(values), decode=decoder.decode_file)


# --- networks ---------------------------------------------------------------------------------


def tiny(channels=3):
    torch.manual_seed(0)
    layers = (nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = nn.Sequential(*layers, nn.Linear(4, 3))
    return module, convscope.load(module, size=64, mean=0.5, std=0.25)


def test_a_network_of_one_channel_checks_its_pixels():
    module, net = tiny(1)
    photos = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = module((photos - 0.5) / 0.25)
    torch.testing.assert_close(net.activations(photos, ["output"])["output"], expected)
    with pytest.raises(ImageError, match=r"images\[0\] holds pixels from .* range=\(0, 255\)"):
        net.activations(photos * 255, ["output"])
    photos[1, 0, 2, 2] = torch.nan
    with pytest.raises(ImageError, match=r"images\[1\] holds 1 of 4,096 pixel values that are not"):
        convscope.cam(net, photos)


def test_networks_of_other_channels_refuse_what_is_no_number():
    module, _ = tiny(4)
    net = convscope.Network(
        module, normalize=lambda x: x if x.shape[1] == 4 else x.repeat(1, 2, 1, 1)[:, :4]
    )
    bands = 100 * torch.rand(1, 4, 64, 64)
    assert net.as_pixels(bands).equal(bands)
    bands[0, 3, 0, 0] = torch.inf
    with pytest.raises(ImageError, match="not finite"):
        net.as_pixels(bands)


def test_one_photograph_of_a_batch_is_judged_by_itself():
    """A hundredth of a batch may be one photograph that was never scaled."""
    _, net = tiny()
    photos = torch.rand(200, 3, 64, 64)
    photos[7] *= 255
    with pytest.raises(ImageError, match=r"^images\[7\] holds pixels"):
        net.as_pixels(photos)


def test_batches_of_bytes():
    _, net = tiny()
    photos = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(net.as_pixels(photos), photos / 255)


def test_a_range_of_the_network_is_that_of_its_files(tmp_path):
    module, _ = tiny()
    net = convscope.load(module, size=64, mean=0.5, std=0.25, range=(0, 4095))
    values = (RAMP * 4095).astype(np.float32)
    file = tmp_path / "counts.tif"
    file.write_bytes(tiff(values))
    pixels = net.read(file)
    np.testing.assert_allclose(pixels[0, 0], values / 4095, atol=1e-6)
    assert net.read(pixels).equal(pixels)
    assert net.as_pixels(pixels[0]).equal(pixels)
    np.testing.assert_allclose(net.read(file, range=(0, 8190))[0, 0], values / 8190, atol=1e-6)
