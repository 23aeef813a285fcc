"""Files that somebody might send to do harm, or by mistake, made here byte by byte."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width: int = 64, height: int = 48) -> Image.Image:
    """A picture that compresses badly."""
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width: int, height: int, channels: int, *extra: bytes, rows: int | None = None) -> bytes:
    """A PNG of black pixels, of which only `rows` rows may be there."""
    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    packer = zlib.compressobj(1)
    row = bytes(1 + width * channels)
    pixels = b"".join(packer.compress(row) for _ in range(height if rows is None else rows))
    data = chunk(b"IDAT", pixels + packer.flush())
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(extra) + data + chunk(b"IEND", b"")


@cache
def zeros(size: int) -> bytes:
    """So many zeros, compressed."""
    packer = zlib.compressobj(1)
    block = bytes(1_000_000)
    return b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.flush()


def exif_loop() -> bytes:
    """EXIF whose directory is its own next one and holds itself."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    return b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 8)


def tiff_loop() -> bytes:
    """A TIFF whose only page is also its next one."""
    content = encoded(picture(8, 8), "TIFF")
    (start,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    following = start + 2 + 12 * entries
    return content[:following] + struct.pack("<I", start) + content[following + 4 :]


def many_scans() -> bytes:
    """A progressive JPEG whose last scan is there two thousand times."""
    content = encoded(picture(512, 512), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + 2_000 * content[last:-2] + content[-2:]


def claiming(width: int, height: int) -> bytes:
    """A JPEG that claims another size than it has."""
    content = bytearray(encoded(picture(), "JPEG"))
    frame = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, frame + 5, height, width)
    return bytes(content)


def icon_with_a_bomb() -> bytes:
    inside = png(30_000, 30_000, 1, rows=10)
    directory = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inside), 22)
    return directory + inside


READABLE: dict[str, Callable[[], bytes]] = {
    "just_within.png": lambda: png(5_000, 5_000, 4),
    "short.png": lambda: png(4_000, 4_000, 3, rows=3),  # the other rows are black to Pillow
    "exif_loop.jpg": lambda: encoded(picture(), "JPEG", exif=exif_loop()),
    "loop.tif": tiff_loop,
    "floats.tif": lambda: encoded(
        Image.new("F", (5_000, 5_000)), "TIFF", compression="tiff_deflate"
    ),
    "grey_and_alpha.png": lambda: encoded(Image.new("LA", (5_000, 5_000)), "PNG"),
    "script_after.gif": lambda: encoded(picture(), "GIF") + b"<script>alert(1)</script>",
}
"""Odd, and answered all the same."""
REFUSED: dict[str, Callable[[], bytes]] = {
    "empty.jpg": lambda: b"",
    "text.jpg": lambda: b"This is no image.\n" * 10,
    "drawing.svg": lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "photograph.heic": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "zeros.png": lambda: bytes(50_000_000),
    "zeros_19.png": lambda: bytes(19_000_000),
    "bomb.png": lambda: png(60_000, 60_000, 1, rows=10),
    "bomb.gif": lambda: (
        b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + encoded(picture(), "GIF")[10:]
    ),
    "bomb.jpg": lambda: claiming(65_000, 65_000),
    "bomb.ico": icon_with_a_bomb,
    "truncated.jpg": lambda: (whole := encoded(picture(), "JPEG"))[: len(whole) // 2],
    "many_scans.jpg": many_scans,
    "text_chunk.png": lambda: png(8, 8, 3, chunk(b"zTXt", b"Comment\0\0" + zeros(100_000_000))),
    "profile.png": lambda: png(8, 8, 3, chunk(b"iCCP", b"icc\0\0" + zeros(100_000_000))),
    "polyglot.gif": lambda: b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)//",
    "noise.jpg": lambda: b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40,
    "drawing.eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n",
}
"""Each of these is answered with a sentence."""
