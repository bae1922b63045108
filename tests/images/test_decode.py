"""Which files are decoded, into which pixels, and in how much memory."""

import io
import os
import subprocess
import sys
import textwrap
import zlib
from functools import partial

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, ImageOps

import convscope
from convscope.errors import ImageError
from convscope.images.decode import FORMATS, MAX_BYTES, decode_file, is_picture_name, upright
from convscope.images.read import list_images
from convscope.images.resize import Fit

PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n%%EOF\n"
NO_PICTURE = "is not a picture of a kind that can be read"


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(height, width, channels=3, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return values[..., 0] if channels == 1 else values


def blocks(side, channels=3):
    """Large and quick to compress."""
    return noise(side // 50, side // 50, channels).repeat(50, 0).repeat(50, 1)


def with_scans(jpeg, count):
    """A progressive JPEG whose last scan is there `count` times more."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * (count + 1) + jpeg[-2:]


# --- formats ----------------------------------------------------------------------------------


@pytest.fixture
def _no_ghostscript(monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was run"))


@pytest.mark.usefixtures("_no_ghostscript")
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.eps", "photo"])
def test_a_postscript_program_is_never_run(name, tmp_path):
    file = tmp_path / name
    file.write_bytes(PROGRAM)
    for source in (file, PROGRAM):
        with pytest.raises(ImageError, match=NO_PICTURE):
            convscope.read(source, 8)


@pytest.mark.usefixtures("_no_ghostscript")
def test_nor_where_somebody_else_has_opened_it():
    picture = Image.open(io.BytesIO(PROGRAM))
    with pytest.raises(ImageError) as caught:
        convscope.read(picture, 8)
    assert str(caught.value) == (
        "This picture was opened from a EPS file, which is not decoded here; decode it first, if you "
        'trust it: picture.convert("RGB").'
    )


@pytest.mark.parametrize("kind", ["TGA", "ICO", "PCX", "DDS", "SGI", "IM", "MSP", "XBM", "PDF"])
def test_formats_off_the_list_are_refused(kind):
    mode = "1" if kind in ("MSP", "XBM") else "RGB"
    with pytest.raises(ImageError, match=NO_PICTURE):
        convscope.read(saved(Image.new(mode, (16, 16)), kind))


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_on_the_list_are_read(kind):
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    colour = (204, 51, 102)
    found = convscope.read(saved(Image.new("RGB", (16, 16), colour), kind))
    assert (1, 3, 16, 16) == tuple(found.shape)
    expected = (torch.tensor(colour) / 255).view(1, 3, 1, 1).expand_as(found)
    torch.testing.assert_close(expected, found, rtol=0, atol=0.03)  # some formats lose a little


def test_a_folder_lists_only_names_of_such_formats(tmp_path):
    names = ["a.jpg", "b.JPEG", "c.eps", "d.pdf", "e.tga", "f.mpo", "g.webp", "h.h5", "i.mpg", "j"]
    for name in names:
        (tmp_path / name).touch()
    assert ["a.jpg", "b.JPEG", "f.mpo", "g.webp"] == [path.name for path in list_images(tmp_path)]
    assert is_picture_name(tmp_path / "a.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match=r"pipe\.jpg is a device or pipe, not a file\."):
        convscope.read(tmp_path / "pipe.jpg")


# --- the same pixels as a simple chain of conversions -----------------------------------------


def simple_chain(picture):
    """Turn, convert whole, lay on white: three copies in memory."""
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def pictures():
    rgb = Image.fromarray(noise(531, 37))
    rgba, la = Image.fromarray(noise(531, 37, 4)), Image.fromarray(noise(531, 37, 2), "LA")
    palette, keyed = rgb.convert("P"), rgb.copy()
    clear = palette.copy()
    clear.info["transparency"] = bytes(range(256))
    keyed.info["transparency"] = keyed.getpixel((5, 300))
    turned = rgba.copy()
    turned.getexif()[0x0112] = 6
    plain = {mode: rgb.convert(mode) for mode in ("L", "1", "CMYK", "YCbCr", "LAB", "HSV")}
    return {
        **plain,
        "RGB": rgb, "RGBA": rgba, "LA": la, "P": palette, "P, clear": clear, "RGB, clear": keyed,
        "RGBA, turned": turned,
    }  # fmt: skip


@pytest.mark.parametrize("name", pictures())
def test_rows_give_the_pixels_of_the_whole(name):
    picture = pictures()[name]
    before = picture.tobytes()
    expected, found = simple_chain(picture), upright(picture, name).picture
    assert (expected.mode, expected.size) == (found.mode, found.size)
    assert expected.tobytes() == found.tobytes()
    assert before == picture.tobytes()


# --- memory -----------------------------------------------------------------------------------


def test_what_would_take_too_much_memory_is_refused_by_its_header(monkeypatch):
    head = bytearray(saved(Image.new("LA", (8, 8)), "PNG"))
    head[16:24] = (13_300).to_bytes(4) * 2
    head[29:33] = zlib.crc32(head[12:29]).to_bytes(4)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageError) as caught:
        decode_file(bytes(head), "bomb.png")
    assert str(caught.value) == (
        "bomb.png is 13300 by 13300 pixels and would take 1.3 GB to decode, more than the 1.0 GB "
        "that are allowed; make it smaller first."
    )


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize(
    ("factor", "part"), [(2, "half"), (4, "a quarter of"), (8, "an eighth of")]
)
def test_above_the_limit_it_is_decoded_smaller_and_says_so(kind, factor, part):
    picture = Image.fromarray(blocks(400))
    data = saved(picture, kind)
    need = {"JPEG": 4, "JPEG2000": 24}[kind] * 400 * 400
    whole = decode_file(data, "p", max_bytes=need)
    found = decode_file(data, "p", max_bytes=need // factor**2)
    assert whole.note is None
    assert (400, 400) == whole.picture.size
    assert (400 // factor, 400 // factor) == found.picture.size
    assert found.note == (
        f"p is 400 by 400 pixels; to save memory it was decoded at {part} its width and height."
    )
    small = whole.picture.resize(found.picture.size, Image.Resampling.BOX)
    apart = np.abs(np.asarray(small, float) - np.asarray(found.picture, float))
    assert apart.mean() < 20  # of 255; of two pictures it is 85
    with pytest.raises(ImageError, match="would take"):
        decode_file(data, "p", max_bytes=need // 100)


def test_read_warns_of_a_reduced_picture():
    data = saved(Image.fromarray(blocks(400)), "JPEG")
    with pytest.warns(UserWarning, match="to save memory it was decoded at half its"):
        convscope.read(data, 50, decode=partial(decode_file, max_bytes=200_000))


def test_a_jpeg_of_more_pixels_than_pillow_opens_is_decoded_smaller(monkeypatch):
    data = saved(Image.fromarray(blocks(400)), "JPEG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert (200, 200) == decode_file(data, "p", max_bytes=200_000).picture.size
    with pytest.raises(ImageError, match=r"^p has too many pixels to be decoded; make it smaller"):
        decode_file(saved(Image.new("RGB", (400, 400)), "PNG"), "p")


def test_a_jpeg_of_a_thousand_scans_is_refused():
    jpeg = saved(Image.fromarray(blocks(100)), "JPEG", progressive=True)
    assert (100, 100) == decode_file(with_scans(jpeg, 20), "p").picture.size
    with pytest.raises(ImageError, match=r"p is a progressive JPEG of 1,\d+ scans, made to take"):
        decode_file(with_scans(jpeg, 1000), "p")


MEASURE = """
    import sys
    from pathlib import Path
    from PIL import Image
    from convscope.images import decode
    from convscope.images.resize import Fit
    decode.decode_file(Path(sys.argv[1]), "warm up", Fit(8, 8))
    peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    before = peak()
    decode.decode_file(Path(sys.argv[2]), "p", Fit(8, 8))
    with Image.open(sys.argv[2]) as picture:
        need = decode._bytes_needed(picture, picture.width * picture.height, 1)
    print(peak() - before, need)
"""

KINDS = {
    "jpeg": ("RGB", {}), "progressive.jpeg": ("RGB", {"progressive": True, "subsampling": 0}),
    "cmyk.jpeg": ("CMYK", {}), "png": ("RGB", {"compress_level": 1}),
    "clear.png": ("RGBA", {"compress_level": 1}), "grey.png": ("LA", {"compress_level": 1}),
    "gif": ("P", {}), "bmp": ("RGB", {}), "ppm": ("RGB", {}), "tiff": ("RGB", {}),
    "deep.tiff": ("F", {}), "deep.png": ("I;16", {"compress_level": 1}),
    "strip.tiff": ("RGB", {"compression": "tiff_lzw", "strip_size": 10**9}),
    "webp": ("RGB", {"quality": 50, "method": 0}), "clear.webp": ("RGBA", {"method": 0}),
    "avif": ("RGB", {"speed": 10}), "clear.avif": ("RGBA", {"speed": 10}),
    "jp2": ("RGB", {}), "clear.jp2": ("RGBA", {}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="memory is measured in Linux's way"
)
@pytest.mark.parametrize("name", KINDS)
def test_no_format_takes_more_memory_than_is_estimated(name, tmp_path):
    mode, options = KINDS[name]
    whole, tiny = tmp_path / f"whole.{name}", tmp_path / f"tiny.{name}"
    colours = Image.fromarray(blocks(4000, 4), "RGBA")
    if mode == "CMYK":
        colours = colours.convert("RGB")
    if mode in ("F", "I;16"):
        grey = np.asarray(colours.convert("L"))
        colours = Image.fromarray(grey / np.float32(255) if mode == "F" else grey * np.uint16(257))
    else:
        colours = colours.convert(mode)
    colours.save(whole, **options)
    colours.crop((0, 0, 64, 64)).save(tiny, **options)
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), str(tiny), str(whole)]
    found = subprocess.run(command, capture_output=True, check=True, text=True)
    taken, need = map(int, found.stdout.split())
    assert 10 * 2**20 < taken < need + 8 * 2**20
    assert need < MAX_BYTES


def test_fit_is_applied_to_files():
    data = saved(Image.fromarray(noise(40, 30)), "PNG")
    assert (9, 7) == decode_file(data, "p", Fit(7, 9)).picture.size


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "JPEG"])
def test_a_file_of_many_gigabytes_is_not_read(tmp_path, kind):
    """Most formats are read whole; this one takes no room on the disk."""
    path = tmp_path / "large.bin"
    path.write_bytes(saved(Image.new("RGB", (4, 4)), kind))
    os.truncate(path, 2**42)
    with pytest.raises(ImageError) as caught:
        decode_file(path, "large.bin")
    said = "large.bin is a file of 4096.0 GB, more than the 1.0 GB that are allowed; make it smaller first."
    assert str(caught.value) == said
