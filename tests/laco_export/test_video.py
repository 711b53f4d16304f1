"""Frames of real files: animated pictures, coded video, folders; which are taken, and what is said of bad ones."""

import io

import numpy as np
import pytest
from PIL import Image

from laco_export.errors import VideoError
from laco_export.video import frame_files, frames_at_rate, read_frames


def frame(number, size=(48, 32)):
    """A picture whose grey tells its number: 10, 15, 20, …"""
    return Image.new("RGB", size, (10 + 5 * number,) * 3)


def numbers(frames):
    """Which frames these are, by their grey; codecs change it by a little."""
    return [round((np.asarray(picture).mean() - 10) / 5) for picture in frames]


def write_animation(path, count):
    frame(0).save(path, save_all=True, append_images=[frame(i) for i in range(1, count)], lossless=True)
    return path


def write_coded(path, count, codec="mpeg4", keyframe_every=10):
    av = pytest.importorskip("av", reason="needs PyAV")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.gop_size, stream.bit_rate = keyframe_every, 4_000_000  # enough that greys keep apart
        for number in range(count):
            for packet in stream.encode(av.VideoFrame.from_image(frame(number))):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", ["clip.gif", "clip.webp", "clip.png"])
def test_animated_pictures(tmp_path, name):
    path = write_animation(tmp_path / name, 40)
    assert numbers(read_frames(path, 5)) == [0, 10, 20, 29, 39]
    assert numbers(read_frames(path, 100)) == list(range(40))
    assert numbers(read_frames(io.BytesIO(path.read_bytes()), 2, name=name)) == [0, 39]


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "mpeg4"), ("clip.mkv", "libx264"), ("clip.webm", "libvpx")])
@pytest.mark.parametrize("keyframe_every", [1, 10, 1000])
def test_coded_video(tmp_path, name, codec, keyframe_every):
    path = write_coded(tmp_path / name, 45, codec, keyframe_every)
    assert numbers(read_frames(path, 5)) == [0, 11, 22, 33, 44]
    assert numbers(read_frames(path, 45)) == list(range(45))
    assert numbers(read_frames(io.BytesIO(path.read_bytes()), 3, name=name)) == [0, 22, 44]


def test_a_folder_of_frames_is_read_in_natural_order(tmp_path):
    for number in range(12):
        frame(number).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no frame")
    assert numbers(read_frames(tmp_path, 12)) == list(range(12))
    assert frame_files(["a/10.jpg", "a/9.jpg", "b.txt", "a/._9.jpg", ".b.png"]) == ["a/9.jpg", "a/10.jpg"]


def test_a_single_picture_is_a_video_of_one_frame(tmp_path):
    frame(3).save(tmp_path / "a.jpg", quality=100)
    assert numbers(read_frames(tmp_path / "a.jpg", 32)) == [3]


def test_a_video_that_cannot_be_read(tmp_path):
    with pytest.raises(VideoError, match=r"no\.mp4' does not exist"):
        read_frames(tmp_path / "no.mp4", 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="holds no frames"):
        read_frames(tmp_path / "empty", 4)
    (tmp_path / "text.gif").write_text("not a video")
    with pytest.raises(VideoError, match=r"cannot be read(.|\n)*text\.gif' is not a picture"):
        read_frames(tmp_path / "text.gif", 4)
    data = write_animation(tmp_path / "clip.gif", 20).read_bytes()
    (tmp_path / "cut.gif").write_bytes(data[: len(data) // 3])
    with pytest.raises(VideoError, match=r"cut\.gif"):
        read_frames(tmp_path / "cut.gif", 4)
    with pytest.raises(VideoError, match="too large to decode"):
        read_frames(tmp_path / "clip.gif", 4, max_pixels=100)


def test_coded_video_that_cannot_be_read(tmp_path):
    av = pytest.importorskip("av", reason="needs PyAV")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(VideoError, match=r"text\.mp4' cannot be decoded"):
        read_frames(tmp_path / "text.mp4", 4)
    with pytest.raises(VideoError, match="too large to decode"):
        read_frames(write_coded(tmp_path / "clip.mp4", 5), 4, max_pixels=100)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="holds no video, only: audio"):
        read_frames(tmp_path / "sound.mp4", 4)


def test_coded_video_without_pyav(tmp_path, monkeypatch):
    import sys

    (tmp_path / "clip.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r"needs PyAV(.|\n)*laco-export\[video\]"):
        read_frames(tmp_path / "clip.mp4", 4)


def test_frames_of_a_coded_video_by_its_rate(tmp_path):
    """LLaVA-NeXT's: one frame a second of a short video, and no more than allowed, evenly spread, of a long one."""
    assert frames_at_rate(90, 32, own_rate=29.97, rate=1) == [0, 30, 60]
    assert frames_at_rate(3000, 4, own_rate=30, rate=1) == [0, 999, 1999, 2999]
    assert frames_at_rate(5, 32, own_rate=0.5, rate=1) == [0, 1, 2, 3, 4]
    clip = write_coded(tmp_path / "clip.mp4", 40)  # ten frames a second
    assert numbers(read_frames(clip, 32, frames_per_second=1.25)) == [0, 8, 16, 24, 32]
    assert numbers(read_frames(clip, 2, frames_per_second=1.25)) == [0, 39]
