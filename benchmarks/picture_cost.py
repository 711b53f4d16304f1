"""What reading a picture costs: CPU time of a JPEG of 12 megapixels, peak memory of pictures that are large for files.

    python benchmarks/picture_cost.py [--before SOURCES] [--answers BUNDLE DATA] [--only …]

The photograph is a mosaic of the photographs that scikit-image and scikit-learn ship, at their own resolution: 4000 x
3000 pixels, JPEG of quality 92, prepared for an input of 336 x 336. It is decoded as a whole and at the scale that the
input needs (laco_export/scaled_decoding.py), in turn; CPU times, medians. The pixels of the input are compared too.

Each of the large pictures is read in a process of its own. With ``--before``, a folder with the sources of an earlier
commit, they are read by that as well; a process that would take more than ``--cap`` bytes is ended and counted so.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from measured_on import measured_on
from PIL import Image

RESULTS = Path(__file__).resolve().parent / "results" / "picture_cost.json"
EDGE = 336
PHOTOGRAPHS = (
    ("skimage", "data", "astronaut.png"),
    ("skimage", "data", "chelsea.png"),
    ("skimage", "data", "coffee.png"),
    ("sklearn", "datasets/images", "china.jpg"),
    ("sklearn", "datasets/images", "flower.jpg"),
)


def mosaic(width: int, height: int) -> Image.Image:
    """The photographs side by side and below each other, none scaled."""
    sources = []
    for package, folder, name in PHOTOGRAPHS:
        path = Path(find_spec(package).origin).parent / folder / name
        sources.append(Image.open(path).convert("RGB").crop((0, 0, 450, 300)))
    canvas = Image.new("RGB", (width, height))
    for index, top in enumerate(range(0, height, 300)):
        for column, left in enumerate(range(0, width, 450)):
            canvas.paste(sources[(2 * index + column) % len(sources)], (left, top))
    return canvas


def time_decoding(rounds: int) -> dict:
    """CPU milliseconds of the whole picture and of the scaled one, and the difference that it makes."""
    from laco_export.preprocessing import ImagePreprocessing, load_image

    file = io.BytesIO()
    mosaic(4000, 3000).save(file, "JPEG", quality=92)
    data, entries = file.getvalue(), {}
    for resize in ("squash", "shortest_edge"):
        prepare = ImagePreprocessing(EDGE, EDGE, resize, (0.5,) * 3, (0.5,) * 3)
        hints = {"whole": None, "scaled": prepare.resized_to}
        times: dict[str, list[float]] = {name: [] for name in hints}
        inputs = {}
        for _ in range(rounds):
            for name, hint in hints.items():
                start = time.process_time()
                inputs[name] = prepare.resize_and_crop(load_image(io.BytesIO(data), resized_to=hint))
                prepare.normalize(inputs[name])
                times[name].append(1000 * (time.process_time() - start))
        difference = np.abs(inputs["whole"].astype(int) - inputs["scaled"].astype(int))
        entries[resize] = {
            "cpu_ms": {name: statistics.median(samples) for name, samples in times.items()},
            "cpu_ms_samples": times,
            "mean_difference_of_255": float(difference.mean()),
            "largest_difference_of_255": int(difference.max()),
            "share_of_values_that_differ_by_more_than_2": float((difference > 2).mean()),
        }
    return {
        "rounds": rounds,
        "picture": "4000 x 3000 mosaic of photographs, JPEG of quality 92",
        "bytes": len(data),
        "input": entries,
    }


def compare_answers(bundle: Path, data: Path, samples: int) -> dict:
    """Greedy answers to the data's first questions about its pictures, enlarged to 3000 x 3000 as JPEGs: decoded whole
    and decoded scaled."""
    from laco_engines.answering import Answerer
    from laco_export.bundle import open_bundle
    from laco_export.preprocessing import load_image

    answerer = Answerer(open_bundle(bundle))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for entry in json.loads(data.read_text())[:samples]:
            question = entry["conversations"][0]["value"].replace("<image>", "").strip()
            path = Path(folder) / "picture.jpg"
            Image.open(data.parent / entry["image"]).convert("RGB").resize((3000, 3000), 3).save(path, quality=92)
            ids = [answerer.answer([shown], question).token_ids for shown in (load_image(path), path)]
            rows.append({"question": question, "whole": ids[0], "scaled": ids[1]})
    same = sum(row["whole"] == row["scaled"] for row in rows)
    return {"pictures": len(rows), "answers_that_are_the_same": same, "answers": rows}


def grey_png(width: int, height: int, depth: int) -> bytes:
    """A grey PNG that is black, made in pieces so that no picture of it stands in memory."""
    packer, left = zlib.compressobj(9), height * (1 + (width * depth + 7) // 8)
    pixels = []
    while left:
        pixels.append(packer.compress(bytes(min(left, 1 << 20))))
        left -= min(left, 1 << 20)
    pixels = b"".join(pixels) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def tiff(large: int) -> bytes:
    """A TIFF of two black pages, 10 x 10 and larger; all strips of the second are the same deflated bytes."""
    rows = large // 10
    strips = [zlib.compress(bytes(100), 9), zlib.compress(bytes(large * rows), 9)]
    data, pages = b"II*\x00" + bytes(4) + b"".join(strips), []
    offsets = [8, 8 + len(strips[0])]
    for side, count, height, strip, offset in (
        (10, 1, 10, strips[0], offsets[0]),
        (large, 10, rows, strips[1], offsets[1]),
    ):
        lists = []
        for values in ([offset] * count, [len(strip)] * count):
            lists.append(values[0] if count == 1 else len(data))
            data += b"" if count == 1 else struct.pack(f"<{count}I", *values)
        tags = (  # tag, type (3: 16 bits, 4: 32 bits), count, value or where the values are
            (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
            (273, 4, count, lists[0]), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, count, lists[1]),
        )  # fmt: skip
        pages.append(len(data))
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    first_end = pages[0] + 2 + 12 * 9
    data = data[:first_end] + struct.pack("<I", pages[1]) + data[first_end + 4 :]
    return data[:4] + struct.pack("<I", pages[0]) + data[8:]


def mpo(large: int) -> bytes:
    """Two black frames, the second larger."""
    file = io.BytesIO()
    first, second = Image.new("RGB", (10, 10)), Image.new("RGB", (large, large))
    first.save(file, "MPO", save_all=True, append_images=[second])
    return file.getvalue()


def gif(large: int) -> bytes:
    """A GIF of 10 x 10 whose second frame is larger, and black."""
    parts = []
    for side in (10, large):
        file = io.BytesIO()
        Image.new("L", (side, side)).save(file, "GIF")
        data = file.getvalue()
        start = 13 + (3 << (data[10] % 8 + 1))  # the header and the palette
        parts += [data[:start], data[data.index(b",", start) : -1]]
    return parts[0] + parts[1] + b"\x21\xf9\x04" + bytes(5) + parts[3] + b";"


PICTURES = {  # name -> how it is made, whether it is read as a video, and the pixels that are allowed
    "16-bit grey PNG, 50 Mpx": (lambda: grey_png(7070, 7070, 16), False, 50_000_000),
    "1-bit PNG, 1 x 49.9 M": (lambda: grey_png(1, 49_900_000, 1), False, 50_000_000),
    "TIFF, second page 900 Mpx": (lambda: tiff(30_000), True, 1000),
    "GIF, second frame 225 Mpx": (lambda: gif(15_000), True, 1000),
    "MPO, second frame 256 Mpx": (lambda: mpo(16_000), True, 1000),
}


def read(path: Path, as_video: bool, max_pixels: int) -> dict:
    """In a process of its own: read and prepare the picture; the outcome and the peak of memory."""
    import inspect

    from laco_export.errors import LacoError
    from laco_export.preprocessing import ImagePreprocessing, load_image
    from laco_export.video import read_frames

    prepare = ImagePreprocessing(EDGE, EDGE, "squash", (0.5,) * 3, (0.5,) * 3)
    hint = {"resized_to": prepare.resized_to} if "resized_to" in inspect.signature(load_image).parameters else {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    try:
        pictures = read_frames(path, 2, max_pixels=max_pixels) if as_video else None
        for picture in pictures or [load_image(path, max_pixels=max_pixels, **hint)]:
            prepare(picture)
        outcome = "read"
    except LacoError as error:
        outcome = f"refused: {error.given or error.failed}"
    except MemoryError:
        outcome = "more than the cap"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"outcome": outcome, "grown_bytes": 1024 * grown, "cpu_s": time.process_time() - start}


def peak_of(path: Path, as_video: bool, max_pixels: int, sources: str | None, cap: int) -> dict:
    """:func:`read` by the installed package, or by the sources of an earlier commit."""
    environment = {**os.environ, **({"PYTHONPATH": sources} if sources else {})}
    command = [sys.executable, __file__, "--read", str(path), str(int(as_video)), str(max_pixels)]
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=limit)
    if done.returncode:
        return {"outcome": f"ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"}
    return json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", metavar="FOLDER", help="on PYTHONPATH: laco_export of an earlier commit")
    parser.add_argument("--rounds", type=int, default=7, help="of each way of decoding (default: 7)")
    parser.add_argument("--cap", type=int, default=6 << 30, metavar="BYTES", help="of a process (default: 6 GiB)")
    parser.add_argument("--answers", type=Path, nargs=2, metavar=("BUNDLE", "DATA"), help="compare answers too")
    parser.add_argument("--samples", type=int, default=12, help="questions of --answers (default: 12)")
    parser.add_argument(
        "--only", choices=("jpeg", "pictures", "answers"), help="measure this again, keep the other's figures"
    )
    parser.add_argument("--read", nargs=3, help=argparse.SUPPRESS)  # the process of one picture
    arguments = parser.parse_args()
    if arguments.read:
        path, as_video, max_pixels = arguments.read
        print(json.dumps(read(Path(path), as_video == "1", int(max_pixels))))
        return 0
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() and arguments.only else {}
    result |= measured_on("pillow", "numpy")
    if arguments.only in (None, "jpeg"):
        result["jpeg"] = time_decoding(arguments.rounds)
    if arguments.only in (None, "pictures"):
        result["pictures"] = measure_pictures(arguments.before, arguments.cap)
    if arguments.answers and arguments.only in (None, "answers"):
        result["answers"] = compare_answers(*arguments.answers, arguments.samples)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


def measure_pictures(before: str | None, cap: int) -> dict:
    """Each of :data:`PICTURES`, by an earlier commit's sources where they are given, and as it is now."""
    entries = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, as_video, max_pixels) in PICTURES.items():
            path = Path(folder) / "picture.bin"
            path.write_bytes(make())
            entries[name] = {"file_bytes": path.stat().st_size, "max_pixels": max_pixels}
            if before:
                entries[name]["before"] = peak_of(path, as_video, max_pixels, before, cap)
            entries[name]["now"] = peak_of(path, as_video, max_pixels, None, cap)
            print(name, json.dumps(entries[name]), file=sys.stderr, flush=True)
    return entries


if __name__ == "__main__":
    raise SystemExit(main())
