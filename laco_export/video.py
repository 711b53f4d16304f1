"""Frames of a video, the same for training and for inference.

    read_frames("clip.mp4", 32)         PyAV (``pip install 'laco-export[video]'``)
    read_frames("clip.gif", 32)         an animated GIF, WebP, PNG, AVIF or TIFF, by Pillow
    read_frames("clip/", 32)            a folder of pictures, in natural order: frame2 before frame10

At most so many frames are taken, uniformly and with the first and the last (:func:`laco_export.tiling.sample_frames`);
only those are decoded and kept, apart from what a codec needs to reach them. The sound and the frame rate are not used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageSequence

from .decoding_limits import check_size
from .errors import ImageError, VideoError
from .picture_files import PICTURE_SUFFIXES, PILLOW_FORMATS
from .preprocessing import MAX_PIXELS, load_image, open_picture, to_rgb
from .tiling import sample_frames

CODED = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp", ".ogv")
"""File names with these endings are opened by PyAV, all others by Pillow."""


def read_frames(
    source: str | os.PathLike | BinaryIO,
    max_frames: int,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    frames_per_second: float | None = None,
) -> list[Image.Image]:
    """At most ``max_frames`` frames of a video as RGB pictures, in order.

    Args:
        source: a folder of pictures, a file, or an open binary file (then ``name`` says what kind it is).
        name: what errors call the video, and whose ending says how to open it; None takes the path.
        max_pixels: a larger frame is refused before it is decoded.
        frames_per_second: so many are taken of a coded video where they are no more than ``max_frames``; None takes
            ``max_frames`` of a short one too. Folders and animations have no rate of their own.

    Raises:
        VideoError: no such file, no video, no frame in it, a damaged one, or PyAV is missing for a coded one.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    name = name or str(path or getattr(source, "name", "the given bytes"))
    if path is not None and path.is_dir():
        return _folder_frames(path, max_frames, max_pixels)
    if path is not None and not path.is_file():
        raise VideoError(f"video '{name}' does not exist", todo="check the path")
    if name.lower().endswith(CODED):
        return _coded_frames(source, max_frames, name, max_pixels, frames_per_second)
    return _animation_frames(source, max_frames, name, max_pixels)


def frame_files(names: Sequence[str]) -> list[str]:
    """Those of the names that are pictures and not hidden, in natural order: ``frame2.png`` before ``frame10.png``."""
    suffixes = tuple(PICTURE_SUFFIXES)
    seen = (name for name in names if name.lower().endswith(suffixes) and not os.path.basename(name).startswith("."))
    return sorted(seen, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    # Digits of any length as numbers; "²" is a digit to str.isdigit and not to int, hence [0-9].
    return [(int(piece), "") if re.fullmatch("[0-9]+", piece) else (-1, piece) for piece in re.split("([0-9]+)", name)]


def _folder_frames(folder: Path, max_frames: int, max_pixels: int) -> list[Image.Image]:
    files = frame_files(os.listdir(folder))
    if not files:
        kinds = ", ".join(sorted(PICTURE_SUFFIXES))
        raise VideoError(f"folder '{folder}' holds no frames", allowed=f"pictures: {kinds}")
    return [load_image(folder / files[index], max_pixels=max_pixels) for index in sample_frames(len(files), max_frames)]


def _animation_frames(source, max_frames: int, name: str, max_pixels: int) -> list[Image.Image]:
    try:
        with open_picture(source, max_pixels=max_pixels, name=name) as animation:
            wanted = set(sample_frames(getattr(animation, "n_frames", 1), max_frames))
            frames = []
            # Read in order: a GIF frame is drawn over the one before it, so that those between are decoded too.
            for index, frame in enumerate(ImageSequence.Iterator(animation)):
                check_size(frame, name, max_pixels)  # a frame of a TIFF, GIF or MPO may be larger than the first
                if index in wanted:
                    converted = to_rgb(frame)
                    frames.append(converted.copy() if converted is frame else converted)  # which the next is drawn on
            return frames
    except ImageError as error:
        allowed = error.allowed and f"{', '.join(PILLOW_FORMATS)} by Pillow, {', '.join(CODED)} by PyAV"
        reason = error.failed if name in error.failed else f"'{name}': {error.failed}"
        raise VideoError(f"video cannot be read: {reason}", given=error.given, allowed=allowed) from None


def frames_at_rate(count: int, most: int, *, own_rate: float, rate: float) -> list[int]:
    """Indices of every n-th of ``count`` frames, n so that about ``rate`` of a second's ``own_rate`` are taken; where
    that is more than ``most``, so many spread evenly (LLaVA-NeXT's ``process_video_with_decord``)."""
    every = range(0, count, max(1, round(own_rate / rate)))
    return list(every) if len(every) <= most else np.linspace(0, count - 1, most, dtype=int).tolist()


def _coded_frames(
    source, max_frames: int, name: str, max_pixels: int, frames_per_second: float | None
) -> list[Image.Image]:
    try:
        import av
    except ImportError:
        raise VideoError(
            f"video '{name}' needs PyAV, which is not installed",
            allowed="without it: animated GIF, WebP, PNG, AVIF, TIFF, and folders of frames",
            todo="pip install 'laco-export[video]'",
        ) from None
    try:
        with av.open(source if hasattr(source, "read") else os.fspath(source)) as container:
            if not container.streams.video:
                raise VideoError(f"'{name}' holds no video, only: {', '.join(s.type for s in container.streams)}")
            stream = container.streams.video[0]
            if stream.width * stream.height > max_pixels:
                raise VideoError(
                    f"video '{name}' is too large to decode",
                    given=f"{stream.width} x {stream.height} pixels",
                    allowed=f"at most {max_pixels:,} pixels a frame",
                )
            return _decode(container, stream, max_frames, name, frames_per_second)
    except av.FFmpegError as error:
        raise VideoError(
            f"video '{name}' cannot be decoded: {error.strerror}", todo="the file is damaged or cut off; get it again"
        ) from None


def _decode(container, stream, max_frames: int, name: str, frames_per_second: float | None) -> list[Image.Image]:
    """The wanted frames by their time stamps; where a key frame lies between two of them, decoding jumps to it."""
    packets = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.pts is not None]  # nothing is decoded
    times, keys = sorted(pts for pts, _ in packets), sorted(pts for pts, is_key in packets if is_key)
    if not times:
        raise VideoError(f"video '{name}' has no frames")
    frames: list[Image.Image] = []
    decoder, reached = None, None
    taken = sample_frames(len(times), max_frames)
    if frames_per_second and stream.average_rate:
        own_rate = float(stream.average_rate)
        taken = frames_at_rate(len(times), max_frames, own_rate=own_rate, rate=frames_per_second)
    for wanted in (times[index] for index in taken):
        key = max((pts for pts in keys if pts <= wanted), default=None)
        if decoder is None or (key is not None and reached is not None and key > reached):
            container.seek(wanted if key is None else key, stream=stream)
            decoder = container.decode(stream)
        for frame in decoder:
            reached = frame.pts
            if frame.pts is not None and frame.pts >= wanted:
                # A phone's video lies on its side and says so; Pillow and FFmpeg both count degrees counterclockwise.
                frames.append(frame.to_image().rotate(frame.rotation, expand=True))
                break
    if not frames:
        raise VideoError(f"video '{name}' has no frame that can be decoded")
    return frames
