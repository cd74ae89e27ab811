"""TIFFs: deep ones, planes, luma and chroma; raw files that only look like one; and what no encoder writes."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hrn_opt import errors
from hrn_opt.photo import open_photo
from tests.photo.work import lines_run


@pytest.fixture(scope="module")
def image(example_photo):
    return Image.open(example_photo).convert("RGB").crop((0, 0, 512, 400))  # unequal sides


def encoded(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def apart(content, image):
    """Mean difference in grey levels."""
    opened = open_photo(content).rgb
    assert opened.shape == (image.height, image.width, 3)
    return np.abs(opened.astype(int) - np.asarray(image)).mean()


def tiff(entries, pixels, order="<", more=()):
    """A TIFF of one strip or more: entries are (tag, type, values); more: further directories.

    values: a range says where in the file they stand already, as bytes.
    """
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(pixels))
    out = head + pixels
    directories = [entries, *more]
    for number, one in enumerate(directories):
        start = len(out)
        table_bytes = 2 + 12 * len(one) + 4
        spill, rows = b"", b""
        for tag, kind, values in sorted(one, key=lambda entry: entry[0]):
            if isinstance(values, range):
                rows += struct.pack(f"{order}HHII", tag, kind, len(values), values.start)
                continue
            packed = struct.pack(f"{order}{len(values)}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }", *values)
            if len(packed) > 4:
                place, spill = start + table_bytes + len(spill), spill + packed
                packed = struct.pack(f"{order}I", place)
            rows += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
        following = start + table_bytes + len(spill) if number + 1 < len(directories) else 0
        out += struct.pack(f"{order}H", len(one)) + rows + struct.pack(f"{order}I", following) + spill
    return out


def plain_entries(image, colours=2, bits=8, samples=3, offset=8, **more):
    size = image.width * image.height * samples * bits // 8
    entries = {256: (4, (image.width,)), 257: (4, (image.height,)), 258: (3, (bits,) * samples), 259: (3, (1,))}
    entries |= {
        262: (3, (colours,)),
        273: (4, (offset,)),
        277: (3, (samples,)),
        278: (4, (image.height,)),
        279: (4, (size,)),
    }
    entries |= {int(tag[1:]): value for tag, value in more.items()}
    return [(tag, kind, values) for tag, (kind, values) in entries.items()]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("rows", [400, 7])
def test_a_tiff_of_16_bit_planes_opens(image, order, rows):
    planes = np.asarray(image).astype(f"{order}u2").transpose(2, 0, 1) * 257
    plane_bytes, row_bytes = image.width * image.height * 2, image.width * 2
    tops = range(0, image.height, rows)
    offsets = tuple(8 + plane * plane_bytes + top * row_bytes for plane in range(3) for top in tops)
    sizes = tuple(min(rows, image.height - top) * row_bytes for _ in range(3) for top in tops)
    entries = plain_entries(
        image,
        bits=16,
        t273=(4, offsets),
        t279=(4, sizes),
        t278=(4, (rows,)),
        t284=(3, (2,)),
        t305=(1, tuple(b"by hand")),
    )
    assert apart(tiff(entries, planes.astype(f"{order}u2").tobytes(), order), image) == 0


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("orientation", [1, 6])
def test_deep_tiffs_keep_their_bits_their_colours_and_their_turn(image, planar, orientation):
    """12 bits in 16, which Pillow alone makes nearly black; and a profile."""
    from hrn_opt.photo.profile import of_code_points

    profile = of_code_points(12, 13)
    expected = Image.fromarray(open_photo(encoded(image, icc_profile=profile)).rgb)
    stored = image if orientation == 1 else image.transpose(Image.Transpose.ROTATE_90)
    deep = (np.asarray(stored) / 255 * 4095).round().astype("<u2")
    size = deep.size * 2 // 3
    more = {"t284": (3, (planar,)), "t274": (3, (orientation,)), "t34675": (1, tuple(profile))}
    if planar == 2:
        deep = deep.transpose(2, 0, 1)
        more |= {"t273": (4, (8, 8 + size, 8 + 2 * size)), "t279": (4, (size,) * 3)}
    assert apart(tiff(plain_entries(stored, bits=16, **more), deep.tobytes()), expected) < 0.01


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_deep_tiffs_with_a_fourth_channel(image, extra):
    alpha = np.full((400, 512), 0 if extra == 0 else 255, np.uint8)
    deep = np.dstack((image, alpha)).astype("<u2") * 257
    content = tiff(plain_entries(image, bits=16, samples=4, t338=(3, (extra,))), deep.tobytes())
    assert apart(content, image) == 0


@pytest.mark.parametrize("bits", [12, 16])
def test_a_deep_tiff_whose_white_is_zero(image, bits):
    grey = image.convert("L")
    stored = ((2**bits - 1) - (np.asarray(grey) / 255 * (2**bits - 1)).round()).astype("<u2")
    assert apart(tiff(plain_entries(image, colours=0, bits=16, samples=1), stored.tobytes()), grey.convert("RGB")) < 1


@pytest.mark.parametrize(
    ("bits", "kind", "used", "share"),
    [
        *((32, 1, 32, 1), (32, 1, 32, 0.4), (32, 1, 16, 1), (32, 1, 8, 1)),
        *((32, 2, 31, 1), (32, 2, 31, 0.4), (32, 2, 16, 1)),
        *((16, 2, 15, 1), (16, 2, 15, 0.4), (16, 2, 12, 1)),
    ],
)
def test_whole_numbers_that_pillow_reads_as_signed(image, bits, kind, used, share):
    grey = np.asarray(image.convert("L"))
    most = share * (2**used - 1)
    stored = (grey / 255 * most).round().astype("<u4" if bits == 32 else "<u2")
    content = tiff(plain_entries(image, colours=1, bits=bits, samples=1, t339=(3, (kind,))), stored.tobytes())
    opened = open_photo(content).rgb[..., 0]
    assert np.abs(opened - grey * share).max() <= 1


def test_signed_numbers_below_zero_are_refused_by_name(image):
    stored = np.asarray(image.convert("L")).astype("<i4") - 128
    with pytest.raises(errors.PhotoFormatUnsupported, match="32-bit signed numbers"):
        open_photo(tiff(plain_entries(image, colours=1, bits=32, samples=1, t339=(3, (2,))), stored.tobytes()))


@pytest.mark.parametrize("colours", [0, 1])
def test_the_profile_of_a_deep_grey_tiff_is_obeyed(image, colours):
    from hrn_opt.photo.profile import _SRGB, _profile

    profile = _profile(1.0, _SRGB, True)
    grey = image.convert("L")
    stored = np.asarray(grey).astype("<u2") * 257
    stored = 65535 - stored if colours == 0 else stored
    expected = Image.fromarray(open_photo(encoded(grey, icc_profile=profile)).rgb)
    content = tiff(
        plain_entries(image, colours=colours, bits=16, samples=1, t34675=(1, tuple(profile))), stored.tobytes()
    )
    assert apart(content, expected) < 0.5


def test_a_tiff_of_luma_and_chroma_opens(image):
    luma = image.convert("YCbCr")
    assert apart(tiff(plain_entries(image, colours=6, t530=(3, (1, 1))), luma.tobytes()), image) < 1.5
    with pytest.raises(errors.PhotoFormatUnsupported, match="YCbCr"):
        open_photo(tiff(plain_entries(image, colours=6, t530=(3, (2, 2))), luma.tobytes()))


@pytest.mark.parametrize(
    ("bits", "number", "kind", "says"),
    [
        (32, np.float32, 3, "RGB pixels of 32-bit floating-point"),
        (64, np.float64, 3, "64-bit"),
        (32, np.uint32, 1, "32-bit whole"),
    ],
)
def test_a_tiff_that_cannot_be_read_is_named_for_what_it_is(image, bits, number, kind, says):
    pixels = (np.asarray(image) / 255).astype(number).tobytes()
    with pytest.raises(errors.PhotoFormatUnsupported, match=says):
        open_photo(tiff(plain_entries(image, bits=bits, t339=(3, (kind,) * 3)), pixels))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_tiff_compressions(image, compression):
    content = encoded(image, "TIFF", compression=compression)
    assert apart(content, image) < (4 if compression == "jpeg" else 0.01)


def test_a_lab_tiff(image):
    from PIL import ImageCms

    lab = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert apart(encoded(lab, "TIFF"), image) < 2


def raw_entries(image, **more):
    return plain_entries(image.resize((160, 120)), t254=(4, (1,)), **more)


@pytest.mark.parametrize("brand", ["dng", "nef", "arw", "cr2", "subdirectory"])
def test_a_raw_file_is_refused_and_not_read_as_its_thumbnail(image, brand):
    thumbnail = image.resize((160, 120)).tobytes()
    entries = {
        "dng": raw_entries(image, t50706=(1, (1, 4, 0, 0))),
        "nef": raw_entries(image, t271=(1, tuple(b"NIKON CORPORATION\0"))),
        "arw": raw_entries(image, t271=(1, tuple(b"SONY\0"))),
        "cr2": raw_entries(image, t271=(1, tuple(b"Canon\0"))),
        "subdirectory": plain_entries(image.resize((160, 120)), t330=(4, (8 + len(thumbnail),))),
    }[brand]
    content = tiff(entries, thumbnail)
    if brand == "cr2":
        content = content[:8] + b"CR\2\0" + content[12:]
    if brand == "subdirectory":
        sensor = struct.pack("<HHHIHHI", 1, 262, 3, 1, 32803, 0, 0)
        head, place = content[:4], len(content)
        content = head + content[4:] + sensor
        content = content.replace(
            struct.pack("<HHII", 330, 4, 1, 8 + len(thumbnail)), struct.pack("<HHII", 330, 4, 1, place)
        )
    with pytest.raises(errors.PhotoFormatUnsupported, match=r"raw file.*develop"):
        open_photo(content)


@pytest.mark.parametrize("back_to", [0, 1])
def test_a_tiff_whose_directories_stand_in_a_ring_is_called_damaged(image, back_to):
    small = image.resize((160, 120))
    entries = plain_entries(small, t254=(4, (1,)))
    content = bytearray(tiff(entries, small.tobytes(), more=[entries]))
    table_bytes = 2 + 12 * len(entries)
    first = struct.unpack_from("<I", content, 4)[0]
    second = struct.unpack_from("<I", content, first + table_bytes)[0]
    struct.pack_into("<I", content, second + table_bytes, (first, second)[back_to])
    with pytest.raises(errors.PhotoUnreadable, match="damaged"):
        open_photo(bytes(content))


def test_a_thumbnail_before_the_picture_is_passed_over(image):
    small = image.resize((160, 120))
    pixels = small.tobytes() + image.tobytes()
    full = plain_entries(image, offset=8 + len(small.tobytes()))
    assert apart(tiff(plain_entries(small, t254=(4, (1,))), pixels, more=[full]), image) == 0


@pytest.mark.parametrize("tag", [273, 279, 258])
def test_a_tiff_of_a_million_strips_is_refused_like_one_of_fewer(image, tag):
    def lines(strips):
        many = {f"t{tag}": (4 if tag != 258 else 3, (8,) * strips)}
        content = tiff(plain_entries(image, **many), image.tobytes())

        def call():
            with pytest.raises(errors.PhotoTooLarge, match="parts"):
                open_photo(content)

        return lines_run(call)

    assert lines(1_000_000) == lines(300_000)


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # of Pillow, which tiff.py keeps quiet but pytest does not
def test_a_tiff_whose_tags_all_claim_the_same_bytes_is_refused(image):
    """Pillow would copy them out for each tag: 3.7 GB for a file of 4.7 MB."""
    pixels = image.tobytes()
    tags = {f"t{number}": (1, range(8, len(pixels))) for number in range(40_000, 40_300)}
    with pytest.raises(errors.PhotoUnreadable, match="damaged"):
        open_photo(tiff(plain_entries(image, **tags), pixels))
    some = {f"t{number}": (1, range(8, 1000)) for number in range(40_000, 40_060)}
    assert apart(tiff(plain_entries(image, **some), pixels), image) == 0
    outside = {f"t{number}": (1, range(8, 10**9)) for number in range(40_000, 40_060)}
    assert apart(tiff(plain_entries(image, **outside), pixels), image) == 0


def test_a_tiff_of_many_channels_is_refused_by_name(image):
    """Each has as many pixels as the picture: a small file would unpack to more than the memory."""
    packed = zlib.compress(bytes(image.width * image.height * 2 * 80))
    content = tiff(plain_entries(image, bits=16, samples=80, t258=(3, (16,)), t259=(3, (8,))), packed)
    with pytest.raises(errors.PhotoFormatUnsupported, match="TIFF"):
        open_photo(content)


@pytest.mark.parametrize("cut", [9, 100, -100_000, -60])
def test_a_cut_tiff_is_called_cut(image, cut):
    with pytest.raises(errors.PhotoUnreadable, match="cut short"):
        open_photo(encoded(image, "TIFF")[:cut])
