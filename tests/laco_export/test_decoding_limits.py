"""Pictures that are small as files and large as pixels are refused before they are decoded, whichever frame it is."""

import io
import struct
import subprocess
import sys
import threading
import zlib

import pytest
from PIL import Image

from laco_export.decoding_limits import BYTES_A_PIXEL, bytes_to_read, pillows_limit
from laco_export.errors import ImageError, VideoError
from laco_export.preprocessing import load_image
from laco_export.video import read_frames


def saved(kind, *frames, **options):
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=len(frames) > 1, append_images=list(frames[1:]), **options)
    file.seek(0)
    return file


def gif(left, top, side, disposal=0):
    """A GIF of 10 x 10 whose second frame is ``side`` pixels wide and high, at another place."""
    (head, first), (_, second) = _gif_parts(10), _gif_parts(min(side, 100))
    place = struct.pack("<HHHH", left, top, side, side)
    extension = b"\x21\xf9\x04" + bytes([disposal << 2]) + bytes(4)
    return io.BytesIO(head + first + extension + second[:1] + place + second[9:] + b";")


def _gif_parts(side):
    """What stands before a GIF's frame, and the frame."""
    data = saved("GIF", Image.new("L", (side, side))).getvalue()
    start = 13 + (3 << (data[10] % 8 + 1))  # the header and the palette
    return data[:start], data[data.index(b",", start) : -1]


SMALL, LARGE = Image.new("L", (10, 10)), Image.new("L", (100, 100))
FRAMES = {
    "tiff": lambda: saved("TIFF", SMALL, LARGE),
    "tiff, before one that is taken": lambda: saved("TIFF", SMALL, LARGE, SMALL),
    "gif": lambda: gif(0, 0, 100),
    "gif, at a corner": lambda: gif(65_000, 65_000, 10),
    "gif, disposed of": lambda: gif(0, 0, 65_000, disposal=2),
    "mpo": lambda: saved("MPO", SMALL.convert("RGB"), LARGE.convert("RGB")),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_every_frame_of_an_animation_is_checked(monkeypatch, kind):
    data = FRAMES[kind]()
    decoded = []
    prepare = Image.Image.load

    def load(self):
        decoded.append(self.size)
        return prepare(self)

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(VideoError, match="too large to decode"):
        read_frames(data, 2, name="clip", max_pixels=1000)
    assert all(width * height <= 1000 for width, height in decoded)


def test_frames_within_the_limit_are_read():
    assert [frame.size for frame in read_frames(saved("TIFF", SMALL, LARGE), 2, name="clip", max_pixels=10_000)] == [
        (10, 10),
        (100, 100),
    ]


def test_frames_do_not_share_their_pixels():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "lime")]
    data = saved("WEBP", *frames, lossless=True)
    assert [frame.getpixel((5, 5)) for frame in read_frames(data, 3, name="clip")] == [
        (255, 0, 0),
        (0, 0, 255),
        (0, 255, 0),
    ]


def png_header(width, height, depth, colour):
    """A PNG that says its size and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    data = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + data)


def test_a_pixel_wide_picture_is_refused_by_its_bytes():
    with pytest.raises(ImageError, match="too large to decode") as error:
        load_image(png_header(1, 49_900_000, 1, 0), max_pixels=50_000_000)
    assert "1 x 49900000 pixels, PNG in 1, which take 1,197,600,000 bytes" in error.value.given
    assert f"{BYTES_A_PIXEL * 50_000_000:,} bytes" in error.value.allowed


@pytest.mark.parametrize(
    ("depth", "colour", "mode", "each"), [(16, 0, "I;16", 3), (8, 2, "RGB", 4), (8, 6, "RGBA", 8), (8, 0, "L", 2)]
)
def test_ordinary_pictures_take_what_is_said(depth, colour, mode, each):
    with Image.open(png_header(5000, 4000, depth, colour)) as image:
        assert image.mode == mode
        assert bytes_to_read(image) == pytest.approx(each * 20_000_000, rel=0.01)


MEASURE = """
import io, resource, sys
from laco_export.preprocessing import ImagePreprocessing, load_image
prepare = ImagePreprocessing(224, 224, "squash", (0.5,) * 3, (0.5,) * 3)
prepare(load_image(io.BytesIO(sys.stdin.buffer.read()), resized_to=prepare.resized_to))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kib(data: bytes) -> int:
    """Of a process that prepares the picture."""
    done = subprocess.run([sys.executable, "-c", MEASURE], input=data, capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "I;16"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("WEBP", "RGB")])
def test_reading_takes_no_more_memory_than_is_estimated(kind, mode):
    """12 megapixels of one colour, in a process of their own; a picture of one pixel takes what the process does."""
    picture = Image.new(mode, (4000, 3000))
    data, small = saved(kind, picture).getvalue(), saved(kind, Image.new(mode, (1, 1))).getvalue()
    with Image.open(io.BytesIO(data)) as image:
        estimated = bytes_to_read(image)
    assert (peak_kib(data) - peak_kib(small)) * 1024 < 1.1 * estimated


def test_pillows_limit_is_put_back_after_several_threads(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12_345)
    inside, leave = threading.Barrier(3), [threading.Event(), threading.Event()]

    def hold(limit, event):
        with pillows_limit(limit):
            inside.wait()
            event.wait()

    threads = [threading.Thread(target=hold, args=(limit, event)) for limit, event in zip((100, 1000), leave)]
    for thread in threads:
        thread.start()
    inside.wait()
    assert Image.MAX_IMAGE_PIXELS == 500, "the largest of theirs: it refuses above twice this"
    leave[1].set()
    threads[1].join()
    assert Image.MAX_IMAGE_PIXELS == 50
    leave[0].set()
    threads[0].join()
    assert Image.MAX_IMAGE_PIXELS == 12_345
