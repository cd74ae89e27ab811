"""Colours and depths: what a file says of its own numbers is obeyed, whatever it calls itself."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from hrn_opt.photo import open_photo
from hrn_opt.photo.depth import to_8_bit
from hrn_opt.photo.profile import _D65, _SRGB, _profile
from tests.photo.work import peak_bytes

P3 = (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
LINEAR_RGB, LINEAR_GREY = _profile(1.0, _SRGB, False), _profile(1.0, _SRGB, True)
P3_RGB = _profile(None, P3, False)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def rgb(example_photo):
    return np.asarray(Image.open(example_photo).convert("RGB"))


@pytest.fixture(scope="module")
def grey(rgb):
    return np.asarray(Image.fromarray(rgb).convert("L"))


def encoded(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def light(levels):
    """0..1, from levels of sRGB."""
    stored = levels / 255
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


def linear(levels):
    return (light(levels) * 255).round().astype(np.uint8)


def apart(opened, expected):
    """Mean and largest difference in grey levels."""
    away = np.abs(opened.rgb.astype(int) - expected)
    return away.mean(), away.max()


def with_name(profile, name):
    """The profile under another name, which is the only thing that is changed about it."""
    count = struct.unpack_from(">I", profile, 128)[0]
    text = struct.pack(">4s4xI", b"desc", len(name) + 1) + name + b"\0" * 80
    head, table, rest = profile[:128], profile[132 : 132 + 12 * count], profile[132 + 12 * count :]
    moved = b"".join(
        row[:4] + struct.pack(">I", struct.unpack(">I", row[4:8])[0] + 12) + row[8:]
        for row in (table[at : at + 12] for at in range(0, len(table), 12))
    )
    place = len(profile) + 12
    moved += struct.pack(">4sII", b"desc", place, len(text))
    whole = struct.pack(">I", place + len(text)) + head[4:] + struct.pack(">I", count + 1) + moved + rest + text
    return whole


@pytest.mark.parametrize("name", [b"Linear sRGB", b"sRGB", b"anything"])
def test_a_linear_profile_is_obeyed_whatever_its_name(rgb, name):
    photo = open_photo(encoded(Image.fromarray(linear(rgb)), icc_profile=with_name(LINEAR_RGB, name)))
    mean, _ = apart(photo, rgb)
    assert mean < 1.5  # 8 linear bits have steps of 13 levels in the dark; unconverted it is 43 away


def test_a_profile_called_something_else_that_is_srgb_changes_nothing(rgb):
    profile = with_name(_profile(None, _SRGB, False), b"Display P3")
    assert apart(open_photo(encoded(Image.fromarray(rgb), icc_profile=profile)), rgb) == (0, 0)


def test_display_p3_is_converted(rgb):
    """Against the matrices of the two standards, where the colour lies inside sRGB."""
    to_srgb = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])  # CSS Color 4
    levels = light(rgb.astype(float)) @ to_srgb.T
    inside = ((levels > 0.01) & (levels < 0.99)).all(-1)
    expected = 255 * (1.055 * levels.clip(0.001, 1) ** (1 / 2.4) - 0.055)
    opened = open_photo(encoded(Image.fromarray(rgb), icc_profile=P3_RGB)).rgb
    assert inside.mean() > 0.5
    assert np.abs(opened - expected)[inside].max() < 3


@pytest.mark.parametrize("alpha", [None, 255, 128])
def test_a_grey_profile_is_obeyed_with_alpha_and_without(grey, alpha):
    image = Image.fromarray(linear(grey))
    expected = grey[..., None].astype(float)
    if alpha is not None:
        image = Image.merge("LA", (image, Image.new("L", image.size, alpha)))
        expected = 255 + (expected - 255) * (alpha / 255)
    mean, _ = apart(open_photo(encoded(image, icc_profile=LINEAR_GREY)), expected)
    assert mean < 3  # 8 linear bits again


def test_alpha_goes_through_a_conversion_untouched(rgb):
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    alpha[:, 200:] = 255
    image = Image.fromarray(np.dstack((linear(rgb), alpha)))
    opened = open_photo(encoded(image, icc_profile=LINEAR_RGB)).rgb
    assert (opened[:, :200] == 255).all()
    assert np.abs(opened[:, 200:].astype(int) - rgb[:, 200:]).mean() < 1.5


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_every_format_s_profile_is_obeyed(rgb, file_format):
    options = {"JPEG": {"quality": 97, "subsampling": 0}, "WEBP": {"lossless": True}}.get(file_format, {})
    stored = Image.fromarray(linear(rgb))
    opened = open_photo(encoded(stored, file_format, icc_profile=LINEAR_RGB, **options))
    assert apart(opened, rgb)[0] < (4 if file_format == "JPEG" else 1.5)


def test_a_palette_s_profile_is_obeyed(rgb):
    indexed = Image.fromarray(linear(rgb)).quantize(256)
    plain = np.asarray(indexed.convert("RGB"))
    expected = open_photo(encoded(Image.fromarray(plain), icc_profile=LINEAR_RGB)).rgb
    assert apart(open_photo(encoded(indexed, icc_profile=LINEAR_RGB)), expected) == (0, 0)


def test_a_deep_grey_picture_with_a_linear_profile_keeps_its_darks(grey):
    deep = Image.fromarray((light(grey) * 65535).round().astype(np.uint16))
    for file_format in ("PNG", "TIFF"):
        _, most = apart(open_photo(encoded(deep, file_format, icc_profile=LINEAR_GREY)), grey[..., None])
        assert most <= 2


@pytest.mark.parametrize(
    ("mode", "profile"), [("L", LINEAR_RGB), ("RGB", LINEAR_GREY), ("LA", LINEAR_RGB), ("P", LINEAR_GREY)]
)
def test_a_profile_for_another_mode_is_ignored(rgb, mode, profile):
    image = Image.fromarray(rgb).quantize(256) if mode == "P" else Image.fromarray(rgb).convert(mode)
    assert apart(open_photo(encoded(image, icc_profile=profile)), np.asarray(image.convert("RGB"))) == (0, 0)


def test_srgb_s_own_profile_changes_nothing_and_converts_nothing(rgb, monkeypatch):
    converted = []
    real = ImageCms.applyTransform
    monkeypatch.setattr(
        ImageCms, "applyTransform", lambda image, *rest: converted.append(image.size) or real(image, *rest)
    )
    assert apart(open_photo(encoded(Image.fromarray(rgb), icc_profile=SRGB)), rgb) == (0, 0)
    assert len(converted) == 1 and np.prod(converted[0]) < 10_000  # the probe: 1 ms, where 12 megapixels take 220


def png_with(chunk_name, content, image):
    """The picture as a PNG with one chunk more, right after its header."""
    return with_chunk(encoded(image), chunk_name, content)


def with_chunk(plain, chunk_name, content):
    chunk = struct.pack(">I", len(content)) + chunk_name + content + struct.pack(">I", zlib.crc32(chunk_name + content))
    return plain[:33] + chunk + plain[33:]


def test_png_gamma_is_obeyed_as_browsers_do(rgb):
    assert apart(open_photo(png_with(b"gAMA", struct.pack(">I", 100_000), Image.fromarray(linear(rgb)))), rgb)[0] < 1.5
    usual = png_with(b"gAMA", struct.pack(">I", 45_455), Image.fromarray(rgb))
    assert apart(open_photo(usual), rgb) == (0, 0)


def test_png_gamma_of_a_grey_picture(grey):
    content = png_with(b"gAMA", struct.pack(">I", 100_000), Image.fromarray(linear(grey)))
    assert apart(open_photo(content), grey[..., None])[0] < 3


def test_png_cicp_is_obeyed(rgb):
    image = Image.fromarray(rgb)
    expected = open_photo(encoded(image, icc_profile=P3_RGB)).rgb
    assert apart(open_photo(png_with(b"cICP", bytes((12, 13, 0, 1)), image)), expected) == (0, 0)
    assert apart(open_photo(png_with(b"cICP", bytes((1, 13, 0, 1)), image)), rgb) == (0, 0)


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0", b"\xff\xff\xff\xff", b"abc"])
def test_a_senseless_gamma_is_ignored(rgb, content):
    assert apart(open_photo(png_with(b"gAMA", content, Image.fromarray(rgb))), rgb) == (0, 0)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_fewer_bits_in_16_are_seen_at_the_top_of_the_picture(grey, bits, file_format):
    stored = Image.fromarray((grey / 255 * (2**bits - 1)).round().astype(np.uint16))
    assert apart(open_photo(encoded(stored, file_format)), grey[..., None])[1] <= 1


@pytest.mark.parametrize("highest", [200, 900, 3000, 3900, 12_000, 30_000])
def test_a_dark_16_bit_picture_stays_dark(grey, highest):
    """Its lightest point lies anywhere, not at the top of a lesser depth."""
    stored = (grey / 255 * highest).round().astype(np.uint16)
    expected = (stored[..., None] / 257).round()
    assert apart(open_photo(encoded(Image.fromarray(stored))), expected)[1] <= 1


def test_png_significant_bits_are_obeyed_where_the_numbers_lie_low(grey):
    low = Image.fromarray((grey / 255 * 3000).round().astype(np.uint16))  # 12 bits, its lightest point not white
    expected = (np.asarray(low)[..., None] / 4095 * 255).round()
    assert apart(open_photo(png_with(b"sBIT", b"\x0c", low)), expected)[1] <= 1


def test_png_significant_bits_that_fill_the_16_change_nothing(grey):
    dark = ((grey.astype(np.uint16) // 20) << 4).astype(np.uint16)  # 12 bits moved up, a dark picture
    expected = (dark[..., None] / 257).round()
    assert apart(open_photo(png_with(b"sBIT", b"\x0c", Image.fromarray(dark))), expected)[1] <= 1


def test_the_highest_value_of_a_tiff_is_obeyed(grey):
    stored = (grey / 255 * 3000).round().astype(np.uint16)
    opened = open_photo(encoded(Image.fromarray(stored), "TIFF", tiffinfo={281: 4095}))
    assert apart(opened, (stored[..., None] / 4095 * 255).round())[1] <= 1


def test_a_highest_value_below_the_picture_s_own_is_no_help():
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(to_8_bit(ramp, "I;16", "x", highest=255), to_8_bit(ramp, "I;16", "x"))


def test_a_png_with_long_texts_opens(rgb):
    notes = PngImagePlugin.PngInfo()
    for number in range(90):
        notes.add_itxt(f"note {number}", "x" * 2_000_000, zip=True)
    content = encoded(Image.fromarray(rgb), pnginfo=notes, icc_profile=SRGB)
    assert apart(open_photo(content), rgb) == (0, 0)
    assert peak_bytes(lambda: open_photo(content)) < 20_000_000  # its 180 MB of text stay packed


def test_a_grey_profile_of_16_bits_with_alpha_is_obeyed(grey):
    """Pillow opens such a PNG as RGBA."""
    values = np.stack([(light(grey) * 65535).round(), np.full(grey.shape, 65535)], -1)
    picture = with_chunk(deep_png(values), b"gAMA", struct.pack(">I", 100_000))
    assert apart(open_photo(picture), grey[..., None])[0] < 3  # steps of 8 linear bits in the dark; 39 unless obeyed


@pytest.mark.parametrize("step", [2**24 + 2**16, 2**32 // 255])
def test_unsigned_grey_of_32_bits(grey, step):
    """Pillow reads the lighter half of it as negative."""
    values = (grey.astype(np.uint64) * step).astype("<u4").tobytes()
    height, width = grey.shape
    tags = ((256, width), (257, height), (258, 32), (259, 1), (262, 1), (273, 122), (277, 1), (278, height))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in (*tags, (279, len(values))))
    picture = b"II*\0" + struct.pack("<IH", 8, 9) + entries + bytes(4) + values
    assert apart(open_photo(picture), grey[..., None])[1] <= 1


def deep_png(values, bits=None):
    """A 16-bit PNG: values (H, W, channels), 2 for grey with alpha."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    notes = [(b"sBIT", bytes([bits] * channels))] if bits else []
    parts = [(b"IHDR", header), *notes, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
@pytest.mark.parametrize("said", [True, False])
def test_a_deep_colour_png_whose_numbers_lie_low(rgb, mode, bits, said):
    """Of these Pillow reads the high bytes alone, which are nearly black."""
    picture = np.asarray(Image.fromarray(rgb).convert(mode))
    most = 0.9 if said else 1  # unless the file says its bits, white tells them
    stored = (picture / 255 * most * (2**bits - 1)).round()
    if mode.endswith("A"):
        stored[..., -1] = 2**bits - 1
        stored[:9, :, -1] = 0
    expected = (picture[..., : len(mode.rstrip("A"))] * most).round()
    expected[:9] = 255 if mode.endswith("A") else expected[:9]
    assert apart(open_photo(deep_png(stored, bits if said else None)), expected)[1] <= 1


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_dark_deep_colour_png_stays_dark(grey, channels):
    stored = (grey[..., None].repeat(channels, 2) / 255 * 12_000).round().astype(np.uint16)
    stored[..., -1] = 65535 if channels != 3 else stored[..., -1]
    expected = (stored[..., :1] / 257).round()
    for bits in (None, 16):
        assert apart(open_photo(deep_png(stored, bits)), expected)[1] <= 1
    moved_up = stored & 0xFFF0
    assert apart(open_photo(deep_png(moved_up, 12)), expected)[1] <= 1
