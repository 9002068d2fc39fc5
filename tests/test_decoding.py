"""The one reader of image files, for training, evaluation and prediction alike."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets.decoding import decode_images, image_shape
from trainyard.components.serve.predict import _read_image

SIZE = (20, 30)
"""Height and width."""
ROTATED = Image.Exif()
ROTATED[0x0112] = 6
UNKNOWN = Image.Exif()
UNKNOWN[0x0112] = 9
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(channels=3):
    shape = SIZE if channels == 1 else (*SIZE, channels)
    return np.random.default_rng(channels).integers(0, 256, shape, dtype=np.uint8)


def twelve_bits(grey):
    """A grey TIFF of 12 bits, which Pillow cannot write: two values in three bytes, the first bits first."""
    values = np.rint(grey / 255 * 4095).astype(int)
    first, second = values[:, ::2], values[:, 1::2]
    data = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1).astype(np.uint8).tobytes()
    return tiff(data, {258: 12})


def tiff(data, tags):
    """A grey TIFF of SIZE but for its tags."""
    height, width = SIZE
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data), **tags}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(png, name, content):
    """A PNG with a chunk before its last one."""
    return png[:-12] + chunk(name, content) + png[-12:]


def raw_png(bits, colours, rows, transparent):
    """A PNG of SIZE with one value or colour that is transparent, which Pillow cannot write."""
    header = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], bits, colours, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [chunk(b"IHDR", header), chunk(b"tRNS", transparent), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def on_larger_screen(gif):
    """A GIF whose image covers a part of its screen, which is one row higher than it and begins one row above."""
    place = gif.index(b",")
    return gif[:8] + struct.pack("<H", SIZE[0] + 1) + gif[10:place] + b"," + struct.pack("<HH", 0, 1) + gif[place + 5 :]


def on_white(colours, alpha):
    """Colours (h, w, c) 0 to 255 over white; alpha (h, w) 0 to 255."""
    share = alpha[..., None] / 255
    return np.rint(colours * share + 255 * (1 - share)).astype(np.uint8)


RGB, GREY = noise(3), noise(1)
ALPHA = np.random.default_rng(9).choice([0, 90, 255], SIZE).astype(np.uint8)
PALETTE = Image.fromarray(RGB).quantize(16)
TEXT = PngImagePlugin.PngInfo()
TEXT.add_itxt("XML:com.adobe.xmp", XMP)
UPRIGHT = np.rot90(RGB, -1)
RGB_16 = np.random.default_rng(4).integers(0, 2**16, (*SIZE, 3)).astype(">u2")
NIBBLES = np.random.default_rng(5).integers(0, 16, SIZE).astype(np.uint8)
IN_HEX = PngImagePlugin.PngInfo()
IN_HEX.add_text("Raw profile type APP1", f"\nAPP1\n{len(ROTATED.tobytes()):8}\n{ROTATED.tobytes().hex()}", zip=True)

FILES = {
    "grey": (encoded(Image.fromarray(GREY)), GREY),
    "RGB": (encoded(Image.fromarray(RGB)), RGB),
    "1 bit": (encoded(Image.fromarray(GREY > 127)), np.uint8(GREY > 127) * 255),
    "palette": (encoded(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    "palette, transparent": (
        encoded(PALETTE, transparency=3),
        np.where(np.asarray(PALETTE)[..., None] == 3, 255, np.asarray(PALETTE.convert("RGB"))),
    ),
    "RGBA": (encoded(Image.fromarray(np.dstack([RGB, ALPHA]))), on_white(RGB, ALPHA)),
    "LA": (encoded(Image.fromarray(np.dstack([GREY, ALPHA]))), on_white(GREY[..., None], ALPHA)[..., 0]),
    "RGB, one colour transparent": (
        encoded(Image.fromarray(RGB), transparency=tuple(RGB[0, 0].tolist())),
        np.where((RGB[0, 0] == RGB).all(axis=2)[..., None], 255, RGB),
    ),
    "grey, one value transparent": (
        encoded(Image.fromarray(GREY), transparency=int(GREY[0, 0])),
        np.where(GREY[0, 0] == GREY, 255, GREY),
    ),
    "16 bits": (encoded(Image.fromarray(GREY.astype(np.uint16) * 257)), GREY),
    "16 bits, TIFF": (encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"), GREY),
    "4 bits, one value transparent": (
        raw_png(4, 0, NIBBLES[:, ::2] << 4 | NIBBLES[:, 1::2], struct.pack(">H", NIBBLES[0, 0])),
        np.where(NIBBLES[0, 0] == NIBBLES, 255, NIBBLES * 17),
    ),
    "RGB of 16 bits, one colour transparent": (
        raw_png(16, 2, RGB_16, RGB_16[0, 0].tobytes()),
        np.where((RGB_16[0, 0] == RGB_16).all(axis=2)[..., None], 255, RGB_16 / 257),
    ),
    "16 bits, 0 is white, TIFF": (tiff((GREY.astype("<u2") * 257).tobytes(), {258: 16, 262: 0}), 255 - GREY),
    "premultiplied, TIFF": (
        encoded(Image.fromarray(np.dstack([np.rint(GREY * (ALPHA / 255)).astype(np.uint8), ALPHA])), "TIFF").replace(
            struct.pack("<HHIH", 338, 3, 1, 2), struct.pack("<HHIH", 338, 3, 1, 1)
        ),
        on_white(GREY[..., None], ALPHA)[..., 0],
    ),
    "16 bits, one value transparent": (
        encoded(Image.fromarray(GREY.astype(np.uint16) * 257), transparency=int(GREY[0, 0]) * 257),
        np.where(GREY[0, 0] == GREY, 255, GREY),
    ),
    "BMP": (encoded(Image.fromarray(RGB), "BMP"), RGB),
    "12 bits, TIFF": (twelve_bits(GREY), GREY),
    "16 bits, PGM": (b"P5 %d %d 65535\n" % GREY.shape[::-1] + (GREY.astype(">u2") * 257).tobytes(), GREY),
    "TIFF": (encoded(Image.fromarray(RGB), "TIFF"), RGB),
    "WebP": (encoded(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    "PGM": (encoded(Image.fromarray(GREY), "PPM"), GREY),
    "GIF": (
        encoded(PALETTE, "GIF", save_all=True, append_images=[Image.new("P", SIZE[::-1])]),
        np.asarray(PALETTE.convert("RGB")),
    ),
    "GIF on a larger screen": (
        on_larger_screen(encoded(PALETTE, "GIF")),
        np.vstack([np.full((1, SIZE[1], 3), 255, np.uint8), np.asarray(PALETTE.convert("RGB"))]),
    ),
    "XMP in a TIFF": (encoded(Image.fromarray(RGB), "TIFF", tiffinfo={700: XMP.encode()}), UPRIGHT),
    "EXIF in hexadecimals": (encoded(Image.fromarray(RGB), pnginfo=IN_HEX), UPRIGHT),
    "no such orientation": (encoded(Image.fromarray(RGB), exif=UNKNOWN), RGB),
    "eXIf": (encoded(Image.fromarray(RGB), exif=ROTATED), UPRIGHT),
    "eXIf behind the pixels": (with_chunk(encoded(Image.fromarray(RGB)), b"eXIf", ROTATED.tobytes()[6:]), UPRIGHT),
    "XMP in a PNG": (encoded(Image.fromarray(RGB), pnginfo=TEXT), UPRIGHT),
    "EXIF in WebP": (encoded(Image.fromarray(RGB), "WEBP", lossless=True, exif=ROTATED), UPRIGHT),
    "TIFF, rotated": (encoded(Image.fromarray(RGB), "TIFF", tiffinfo={0x0112: 6}), UPRIGHT),
}


@pytest.mark.parametrize("kind", FILES)
def test_training_and_prediction_read_the_same_pixels(tmp_path, kind):
    """On white where transparent, upright as the camera says, 16 bits scaled to 8."""
    content, expected = FILES[kind]
    shape = (*expected.shape[:2], 1 if expected.ndim == 2 else 3)
    assert image_shape(content, kind) == shape
    trained = decode_images([content], shape, str)[0]
    np.testing.assert_allclose(trained.astype(int), expected.reshape(shape).astype(int), atol=1)
    path = tmp_path / "file"
    path.write_bytes(content)
    np.testing.assert_array_equal(_read_image(path, shape, invert=False), trained)
    other = (*shape[:2], 4 - shape[2])
    np.testing.assert_array_equal(_read_image(path, other, invert=False), decode_images([content], other, str)[0])


@pytest.mark.parametrize("options", [{"exif": ROTATED}, {"xmp": XMP.encode()}, {"progressive": True}, {}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_so_they_do_from_a_jpeg_even_when_it_is_resized(tmp_path, mode, options):
    large = Image.fromarray(RGB).resize((400, 300)).convert(mode)
    content = encoded(large, "JPEG", quality=95, **options)
    turned = "exif" in options or "xmp" in options
    assert image_shape(content, "one") == ((400, 300) if turned else (300, 400)) + (1 if mode == "L" else 3,)
    path = tmp_path / "file"
    path.write_bytes(content)
    for channels in (1, 3):
        shape = (64, 48, channels)
        trained = decode_images([content], shape, str, resize=True)[0]
        np.testing.assert_array_equal(_read_image(path, shape, invert=False, stretch=True), trained)
        upright = large.transpose(Image.Transpose.ROTATE_270) if turned else large
        exact = upright.convert("L" if channels == 1 else "RGB").resize((48, 64), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(exact).reshape(shape).astype(int) - trained).mean() < 3


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "HEIC, the format of iPhones"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG, which has no pixels"),
        (b"<!DOCTYPE html><title>Not found</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (bytes(1000), "only zeros"),
        (encoded(Image.fromarray(GREY), "TIFF", tiffinfo={254: 1}), "a camera's raw file"),
        (encoded(Image.fromarray(GREY), "TIFF")[:100], "a TIFF that is damaged, or of a compression"),
        (encoded(Image.fromarray(RGB))[:300], "a damaged or other file"),
    ],
)
def test_what_is_no_image_is_named_as_what_it_is(content, kind):
    with pytest.raises(BadInput, match=f"^7: expected an image .*, received {kind}.*; replace or remove it"):
        decode_images([content], (20, 30, 3), lambda _: "7")


def test_lab_becomes_rgb():
    grey = Image.new("LAB", SIZE[::-1], (128, 128, 128))
    assert np.ptp(decode_images([encoded(grey, "TIFF")], (*SIZE, 3), str).astype(int)) <= 3


def test_signed_numbers_are_refused_rather_than_wrapped():
    with pytest.raises(BadInput, match="expected pixels without a sign, received signed ones; convert it"):
        decode_images([tiff(GREY.tobytes(), {339: 2})], (*SIZE, 1), str)


def test_32_bits_a_channel_are_refused_rather_than_cut():
    content = encoded(Image.fromarray(np.zeros(SIZE, np.float32)), "TIFF")
    with pytest.raises(BadInput, match=r"expected 8 or 16 bits a channel, received 32 \(F\)"):
        decode_images([content], (*SIZE, 1), str)


def test_a_huge_image_is_called_large_and_not_damaged():
    content = encoded(Image.new("1", (20_000, 18_000)))
    with pytest.raises(BadInput, match="at most 178,956,970 pixels, received a larger one; scale it down"):
        decode_images([content], (8, 8, 1), str, resize=True)
