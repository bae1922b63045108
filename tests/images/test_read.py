"""Photographs in every dress are read right, or refused in one sentence."""

import contextlib
import io
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights

import convscope
from convscope.errors import ArgumentError, ImageError
from convscope.images.read import Standardize, sample, scale_tensor
from convscope.images.resize import MAX_ASPECT_RATIO, height_and_width

UPRIGHT = np.zeros((6, 4, 3), np.uint8)  # red above, blue below, a green corner: no symmetry left
UPRIGHT[:3, :, 0] = 255
UPRIGHT[3:, :, 2] = 255
UPRIGHT[0, 0] = (0, 255, 0)

# What a camera that was held so writes, and how it must be read: EXIF 2.3, tag 0x0112.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def written(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def bytes_of(pixels):
    """(1, 3, H, W) in [0, 1] -> (H, W, 3) of bytes."""
    return (pixels[0].permute(1, 2, 0) * 255).round().byte().numpy()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(width, height, depth, colour, rows):
    """A PNG written by hand, for kinds that Pillow does not write."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(b"\0" + row for row in rows)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# --- read right -------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_read_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](UPRIGHT)))
    assert np.array_equal(UPRIGHT, bytes_of(convscope.read(written(stored, exif=exif))))


def test_a_turned_jpeg_is_upright_before_it_is_cropped():
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = np.zeros((120, 60, 3), np.uint8)
    tall[:60] = 255
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(tall)))
    pixels = convscope.read(written(stored, "JPEG", exif=exif, quality=95), 32)
    assert pixels[..., :12, :].mean() > 0.98
    assert pixels[..., 20:, :].mean() < 0.02


def test_cmyk_is_read_as_colours():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    pixels = convscope.read(written(red, "JPEG", quality=95))
    assert (1, 3, 8, 8) == tuple(pixels.shape)
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.tensor([1.0, 0, 0]), rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_range(kind):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = convscope.read(written(Image.fromarray(ramp), kind))
    assert np.allclose(ramp / 65535, pixels[0, 0].numpy(), rtol=0, atol=1 / 255)
    assert torch.equal(pixels[:, 0], pixels[:, 2])


def test_16_bit_colour_keeps_its_range():
    rows = [struct.pack(">6H", 65535, 0, 32768, 0, 65535, 256)]
    pixels = convscope.read(png(2, 1, 16, 2, rows))
    assert [[255, 0, 128], [0, 255, 1]] == bytes_of(pixels)[0].tolist()


def test_16_bit_grey_in_the_other_byte_order():
    ramp = np.linspace(0, 65535, 64).astype(">u2")
    picture = Image.frombytes("I;16B", (8, 8), ramp.tobytes())
    expected = (ramp / 65535 * 255).round().reshape(8, 8)
    assert np.array_equal(expected, bytes_of(convscope.read(picture))[..., 0])


def test_palette():
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    assert [[255, 0, 0], [0, 0, 255]] == bytes_of(convscope.read(written(picture)))[0].tolist()


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_a_transparent_entry_of_a_palette_is_white(transparency):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    pixels = convscope.read(written(picture, transparency=transparency))
    assert [[255, 255, 255], [0, 0, 255]] == bytes_of(pixels)[0].tolist()


def test_what_is_transparent_is_white():
    picture = Image.new("RGBA", (3, 1), (255, 0, 0, 255))
    picture.putpixel((1, 0), (255, 0, 0, 0))
    picture.putpixel((2, 0), (0, 0, 0, 51))
    expected = [[255, 0, 0], [255, 255, 255], [204, 204, 204]]
    assert expected == bytes_of(convscope.read(written(picture)))[0].tolist()


def test_one_transparent_colour_is_white():
    picture = Image.new("RGB", (2, 1), (9, 9, 9))
    picture.putpixel((1, 0), (0, 0, 255))
    pixels = convscope.read(written(picture, transparency=(9, 9, 9)))
    assert [[255, 255, 255], [0, 0, 255]] == bytes_of(pixels)[0].tolist()


def test_grey_has_three_equal_colours():
    picture = Image.fromarray(np.array([[0, 100, 255]], np.uint8))
    expected = [[0, 0, 0], [100, 100, 100], [255, 255, 255]]
    assert expected == bytes_of(convscope.read(written(picture)))[0].tolist()


def test_grey_with_alpha():
    picture = Image.new("LA", (2, 1), (100, 255))
    picture.putpixel((1, 0), (100, 0))
    pixels = convscope.read(written(picture))
    assert [[100, 100, 100], [255, 255, 255]] == bytes_of(pixels)[0].tolist()


def test_1_bit():
    picture = Image.new("1", (2, 1))
    picture.putpixel((1, 0), 1)
    assert [[0, 0, 0], [255, 255, 255]] == bytes_of(convscope.read(written(picture)))[0].tolist()


def test_of_an_animation_the_first_frame():
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    moving = written(first, "GIF", save_all=True, append_images=[second], duration=100)
    assert [255, 0, 0] == bytes_of(convscope.read(moving))[0, 0].tolist()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_kinds_without_loss_keep_every_pixel(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    array = noise(7, 5)
    found = convscope.read(written(Image.fromarray(array), kind, **options))
    assert np.array_equal(array, bytes_of(found))


@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_one_pixel_fills_the_picture(fit):
    pixels = convscope.read(written(Image.new("RGB", (1, 1), (51, 102, 255))), 32, fit=fit)
    expected = torch.tensor([0.2, 0.4, 1.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    torch.testing.assert_close(pixels, expected)


def test_a_path_a_string_bytes_a_picture_and_an_array_are_one(tmp_path):
    array = noise(9, 7)
    picture = Image.fromarray(array)
    file = tmp_path / "with space é.png"
    file.write_bytes(written(picture))
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for source in (file, str(file), written(picture), picture, array, tensor, tensor[None]):
        assert np.array_equal(array, bytes_of(convscope.read(source)))


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "me.png").write_bytes(written(Image.fromarray(UPRIGHT)))
    assert np.array_equal(UPRIGHT, bytes_of(convscope.read("~/me.png")))


@pytest.mark.parametrize("name", ["china", "flower"])
def test_sample_photographs_are_there(name):
    assert sample(name).is_file()
    assert (1, 3, 427, 640) == tuple(convscope.read(f"sample:{name}").shape)


def test_a_picture_is_not_changed_by_reading():
    picture = Image.fromarray(noise(40, 30))
    before = picture.tobytes()
    convscope.read(picture, 16)
    assert before == picture.tobytes()


# --- refused in one sentence ------------------------------------------------------------------


def refused(source, message, **options):
    """The whole message, which must be one line; "..." stands for what others say in it."""
    with pytest.raises(ImageError) as caught:
        convscope.read(source, **options)
    pattern = re.escape(message).replace(re.escape("..."), ".+")
    assert re.fullmatch(pattern, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(("width", "height"), [(1, 5000), (5000, 1)])
def test_a_thread_of_pixels_is_refused_where_it_would_be_cut(width, height):
    thread = written(Image.new("L", (width, height)))
    refused(
        thread,
        f"The picture is {width} by {height} pixels, over 50 times as long as wide; cut out the "
        "part that matters.",
        size=224,
    )
    assert (1, 3, height, width) == tuple(convscope.read(thread).shape)


def test_the_longest_picture_that_is_read():
    assert (1, 3, 8, 8) == tuple(convscope.read(np.zeros((MAX_ASPECT_RATIO, 1), np.uint8), 8).shape)
    with pytest.raises(ImageError, match="over 50 times as long as wide"):
        convscope.read(np.zeros((MAX_ASPECT_RATIO + 1, 1), np.uint8), 8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_file_that_is_cut_off_is_refused(kind, tmp_path):
    file = tmp_path / f"half.{kind.lower()}"
    whole = written(Image.fromarray(noise(64, 64)), kind)
    file.write_bytes(whole[: len(whole) // 2])
    refused(file, f"{file} is damaged or cut off and cannot be read whole (...).")


def test_an_open_picture_that_is_cut_off_is_refused():
    whole = written(Image.fromarray(noise(64, 64)))
    picture = Image.open(io.BytesIO(whole[:2000]))
    refused(picture, "This picture is damaged or cut off and cannot be read whole (...).")


def test_damaged_files_are_read_or_refused_and_never_crash():
    chance = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "DDS"):
        whole = written(Image.fromarray(noise(16, 17)), kind)
        for _ in range(40):
            damaged = bytearray(whole)
            for place in chance.integers(0, min(len(whole), 200), 3):
                damaged[place] = chance.integers(256)
            with contextlib.suppress(ImageError):
                assert 3 == convscope.read(bytes(damaged)).shape[1]


def test_an_empty_file(tmp_path):
    file = tmp_path / "nothing.jpg"
    file.touch()
    refused(file, f"{file} is empty.")
    refused(b"", "This upload is empty.")


def test_text_by_the_name_of_a_picture(tmp_path):
    file = tmp_path / "letter.png"
    file.write_text("Dear Sir or Madam,")
    refused(
        file,
        f"{file} is not a picture of a kind that can be read, such as JPEG, PNG, WebP, GIF, TIFF "
        "or BMP.",
    )


@pytest.mark.parametrize(("side", "pixels"), [(20_000, 400), (13_500, 182)])
def test_a_bomb_is_refused_before_it_goes_off(side, pixels, tmp_path):
    """By its header."""
    assert pixels == side * side // 10**6
    file = tmp_path / "bomb.png"
    file.write_bytes(png(side, side, 1, 0, []))
    refused(file, f"{file} has too many pixels to be decoded; make it smaller first.")


def test_an_empty_name():
    refused("", "The photograph's name is empty; give a file, as photo.jpg.")


def test_a_folder(tmp_path):
    refused(tmp_path, f"{tmp_path} is a folder; give one photograph.")


def test_a_missing_path_is_told_with_the_closest_name(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    (tmp_path / "zebra.png").touch()
    wanted = tmp_path / "holliday.jpg"
    near = tmp_path / "holiday.jpg"
    refused(wanted, f"There is no file {wanted}. Did you mean {near}?")


def test_a_missing_path_without_a_close_name(tmp_path):
    refused(tmp_path / "no" / "x.jpg", f"There is no file {tmp_path}/no/x.jpg.")


def test_a_name_that_is_too_long():
    refused("x" * 300, "x" * 300 + " cannot be opened: File name too long.")


def test_a_sample_that_is_not_there():
    refused("sample:paris", "There is no sample photograph 'paris'; there are china and flower.")


def test_something_else_altogether():
    refused(
        3,
        "A photograph is a path, a PIL picture, an array or a tensor, not a int.",
    )


# --- arrays and tensors -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", np.longdouble])
def test_arrays_of_floats_enter_as_they_are(dtype):
    array = np.linspace(0, 1, 60).reshape(5, 4, 3).astype(dtype)
    pixels = convscope.read(array)
    assert torch.float32 == pixels.dtype
    assert np.allclose(array.astype(np.float32), pixels[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_grey_arrays(shape, dtype):
    pixels = convscope.read(np.ones(shape, dtype))
    value = 1 / 255 if dtype is np.uint8 else 1.0
    torch.testing.assert_close(pixels, torch.full((1, 3, 5, 4), value))


@pytest.mark.parametrize("largest", [255, 1.0])
def test_transparent_arrays_are_white_in_bytes_and_in_floats(largest):
    array = np.zeros((1, 3, 4), np.uint8 if largest == 255 else np.float32)
    array[0, :, 0] = largest
    array[0, :, 3] = (largest, 0, largest / 5)
    expected = [[255, 0, 0], [255, 255, 255], [255, 204, 204]]
    assert expected == bytes_of(convscope.read(array))[0].tolist()


def test_arrays_that_are_views_backwards():
    array = noise(6, 5)
    assert np.array_equal(array[::-1, ::-1], bytes_of(convscope.read(array[::-1, ::-1])))
    mirrored = convscope.read(array[:, ::-1].astype(np.float32) / 255)
    assert np.array_equal(array[:, ::-1], bytes_of(mirrored))


@pytest.mark.parametrize("dtype", [complex, "U4", object])
def test_arrays_of_what_is_no_number_are_refused(dtype):
    array = np.zeros((4, 4, 3), dtype)
    refused(array, f"This array holds values of type {array.dtype}, but pixels are numbers.")


def test_what_has_its_channels_elsewhere_is_told_how_to_move_them():
    tensor, array = torch.rand(6, 5, 3), np.zeros((3, 6, 5))
    shapes = "A tensor must have the shape (3, H, W) or (1, 3, H, W), not "
    refused(tensor, f"{shapes}(6, 5, 3); move its channels to the front: .permute(2, 0, 1).")
    refused(
        tensor[None], f"{shapes}(1, 6, 5, 3); move its channels to the front: .permute(0, 3, 1, 2)."
    )
    refused(
        array,
        "An array must have the shape (H, W), (H, W, 3) or (H, W, 4), not (3, 6, 5); move its channels "
        "to the end: .transpose(1, 2, 0).",
    )
    assert (1, 3, 6, 5) == tuple(convscope.read(tensor.permute(2, 0, 1)).shape)
    assert (1, 3, 6, 5) == tuple(convscope.read(array.transpose(1, 2, 0)).shape)


@pytest.mark.parametrize("shape", [(4,), (2, 8, 8), (1, 8, 8, 3), (8, 8, 2)])
def test_arrays_of_other_shapes_are_refused(shape):
    refused(
        np.zeros(shape, np.uint8),
        "An array must have the shape (H, W), (H, W, 3) or (H, W, 4), not " + f"{shape}.",
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_without_pixels_are_refused(dtype):
    with pytest.raises(ImageError, match="no pixels"):
        convscope.read(np.zeros((0, 5, 3), dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_floats(dtype):
    tensor = torch.rand(3, 6, 5).to(dtype)
    pixels = convscope.read(tensor)
    assert torch.float32 == pixels.dtype
    assert torch.equal(tensor.float()[None], pixels)


def test_a_tensor_is_copied_and_let_go_of_its_graph():
    tensor = torch.rand(1, 3, 6, 5, requires_grad=True)
    pixels = convscope.read(tensor)
    pixels.zero_()
    assert not pixels.requires_grad
    assert tensor.sum() > 0


def test_a_grey_tensor():
    assert (1, 3, 6, 5) == tuple(convscope.read(torch.rand(1, 6, 5)).shape)


@pytest.mark.parametrize("shape", [(6, 5), (1, 4, 6, 5), (2, 3, 6, 5), (1, 1, 3, 6, 5)])
def test_tensors_of_other_shapes_are_refused(shape):
    refused(
        torch.zeros(shape),
        "A tensor must have the shape (3, H, W) or (1, 3, H, W), not " + f"{shape}.",
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("form", [torch.from_numpy, np.asarray])
def test_values_that_are_not_finite_are_refused(value, form):
    array = np.zeros((3, 3, 3), np.float32)
    array[1, 1, 1] = value
    refused(
        form(array),
        "This ... holds 1 of 27 pixel values that are not finite (NaN or infinity); replace them "
        "first.",
    )


def test_pixels_that_are_already_normalised_are_refused():
    already = ResNet18_Weights.IMAGENET1K_V1.transforms()(Image.open(sample("china")))
    refused(
        already,
        "This tensor holds pixels from -2... to 2..., but they must lie in [0, 1]: say what is black "
        "and what is white, as in read(..., range=(...)), or with --range ... in the command. Pixels "
        "are given before any normalisation, which is the network's own first step.",
    )


def test_no_pixels_at_all_are_refused():
    with pytest.raises(
        ImageError, match=r"There are no pixels in a tensor of shape \(0, 3, 4, 4\)\."
    ):
        scale_tensor(torch.zeros(0, 3, 4, 4), None, "images")


# --- size, crop and squash --------------------------------------------------------------------

MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def by_torchvision(picture):
    return ResNet18_Weights.IMAGENET1K_V1.transforms()(picture) * STD + MEAN


def test_read_is_what_torchvisions_transforms_do():
    expected = by_torchvision(Image.open(sample("china")))
    found = convscope.read("sample:china", 224, resize=256)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "sides", [(49, 49), (98, 333), (301, 257), (256, 400), (37, 41), (500, 187), (224, 225)]
)
def test_odd_sizes_too_are_what_torchvisions_transforms_do(sides):
    """49 * (256 / 49) is a hair under 256 in floating point: sizes are whole-number divisions."""
    picture = Image.open(sample("flower")).resize(sides)
    found = convscope.read(picture, 224, resize=256)[0]
    torch.testing.assert_close(found, by_torchvision(picture), rtol=0, atol=1e-6)


def test_a_tensor_is_cropped_as_its_photograph():
    """Only rounding to bytes lies between them."""
    whole = convscope.read("sample:china")
    found = convscope.read(whole, 224, resize=256)
    expected = convscope.read("sample:china", 224, resize=256)
    assert (found - expected).abs().max() < 2 / 255


def test_squash_keeps_all_and_crop_keeps_the_proportions():
    half = np.zeros((40, 80, 3), np.uint8)
    half[:, 60:] = 255
    squashed, cropped = (convscope.read(half, 40, fit=fit) for fit in ("squash", "crop"))
    assert abs(squashed.mean() - 0.25) < 0.02
    assert 0 == cropped.sum()


def test_a_crop_is_as_large_as_can_be_where_no_resize_is_given():
    frame = np.full((64, 128, 3), 255, np.uint8)
    frame[1:-1] = 0
    pixels = convscope.read(frame, 64)
    assert pixels[..., 0, :].min() == 1
    assert pixels[..., -1, :].min() == 1


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("sides", [(7, 90), (90, 7), (33, 32), (200, 201)])
@pytest.mark.parametrize("size", [(30, 50), 31])
def test_the_size_asked_for_is_the_size_returned(fit, sides, size):
    pixels = convscope.read(noise(*sides), size, fit=fit)
    assert height_and_width(size) == tuple(pixels.shape[-2:])
    assert 0 <= pixels.min()
    assert pixels.max() <= 1


def test_without_a_size_the_picture_keeps_its_own():
    assert (1, 3, 13, 7) == tuple(convscope.read(noise(13, 7)).shape)


def test_an_unknown_fit_is_refused():
    with pytest.raises(
        ArgumentError, match=r"fit must be 'crop', 'squash' or 'whole', not 'stretch'\."
    ):
        convscope.read(UPRIGHT, 8, fit="stretch")


@pytest.mark.parametrize("size", [0, -3, 2.5, (0, 4), (1, 2, 3), "big", True])
def test_what_is_no_size_is_refused(size):
    message = f"size must be an integer above 0, or (height, width), not {size!r}."
    with pytest.raises(ArgumentError, match=re.escape(message)):
        convscope.read(UPRIGHT, size)


def test_standardize_is_the_formula():
    pixels = torch.rand(2, 3, 4, 4)
    found = Standardize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))(pixels)
    for c in range(3):
        expected = (pixels[:, c] - (c + 1) / 10) / ((c + 4) / 10)
        torch.testing.assert_close(found[:, c], expected)
