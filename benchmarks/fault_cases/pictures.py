"""Class c: small files that are large pictures, and names that are not UTF-8."""

from __future__ import annotations

from collections.abc import Callable

from picture_cost import gif, grey_png, mpo, tiff

from .attempts import Fault, Verdict, bounded
from .workshop import Workshop

_DECODED = 150_000_000  # what 50 megapixels take once decoded, and are said to take
_WORK = 100_000_000  # besides: the model that a sound picture's process had loaded already, and buffers


def _picture(done: str, make: Callable[[], bytes], name: str, *, max_pixels: int | None, video: bool = False) -> Fault:
    def attempt(shop: Workshop) -> Verdict:
        path = shop.place(name)
        path.write_bytes(make())
        limit = () if max_pixels is None else ("--max-pixels", str(max_pixels))
        words = ("--question", "What is this?", *limit)
        if video:
            ended = shop.engine("run", str(shop.bundle), "--video", str(path), "--max-new-tokens", "4", *words)
        else:
            ended = shop.ask(shop.bundle, *words, image=path)
        return bounded(ended, shop.ask(shop.bundle), _DECODED + _WORK)

    return Fault("c", done + (", as a video" if video else ""), "bounded", attempt)


def _frames(done: str, make: Callable[[], bytes], name: str) -> tuple[Fault, Fault]:
    return tuple(_picture(done, make, name, max_pixels=1000, video=video) for video in (False, True))


def _question_of_any_bytes(shop: Workshop) -> Verdict:
    ended = shop.ask(shop.bundle, "--question", "what \udcff?")
    return Verdict(not ended.is_crash, str(ended))


def _output_of_any_bytes(shop: Workshop) -> Verdict:
    ended = shop.export(shop.checkpoint, "--no-llm", output=shop.place("bundle\udcff"))
    return Verdict(not ended.is_crash, str(ended))


FAULTS = (
    *_frames("TIFF of 164 KB, second page of 900 Mpx", lambda: tiff(30_000), "pages.tiff"),
    *_frames("GIF of 167 KB, second frame of 225 Mpx", lambda: gif(15_000), "frames.gif"),
    *_frames("MPO, second frame of 256 Mpx", lambda: mpo(16_000), "frames.mpo"),
    _picture("16-bit grey PNG of 94 KB, 50 Mpx", lambda: grey_png(7070, 7070, 16), "grey.png", max_pixels=None),
    _picture("1-bit PNG of 1 x 49.9 M", lambda: grey_png(1, 49_900_000, 1), "line.png", max_pixels=None),
    Fault("c", "a question that is not UTF-8", "refused or answered", _question_of_any_bytes),
    Fault("c", "an output's name that is not UTF-8", "refused or answered", _output_of_any_bytes),
)
