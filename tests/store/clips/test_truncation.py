"""A file that was cut is rejected, whatever wrote it; a whole one never is."""

from fractions import Fraction

import av
import numpy as np
import pytest

from store import read_clip
from store.clips.truncation import is_cut_off
from store.errors import ClipError

IMAGES = 23
PIXELS = {"mjpeg": "yuvj420p", "png": "rgb24", "prores_ks": "yuv422p10le", "huffyuv": "yuv422p"}
OPTIONS = {"libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"}}
# No SVT-AV1: as root it takes real-time priority, and two of them at once never end on a machine of two cores.
CODECS = {
    "mp4": ("libx264", "mpeg4", "libvpx-vp9", "mjpeg", "mpeg2video"),
    "m4v": ("libx264", "mpeg4"),
    "mov": ("libx264", "prores_ks", "mjpeg", "png"),
    "mkv": ("libx264", "mpeg4", "libvpx", "libvpx-vp9", "ffv1", "mjpeg", "rawvideo"),
    "webm": ("libvpx", "libvpx-vp9"),
    "avi": ("libx264", "mpeg4", "mjpeg", "ffv1", "huffyuv", "rawvideo"),
}
KINDS = [(suffix, codec) for suffix, codecs in CODECS.items() for codec in codecs]


def available(codec):
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this FFmpeg cannot encode {codec}")


def write(path, codec="libx264", *, varying=False, sound=False, options=None):
    """Noise over a drifting wave, images 40 to 1000 ms apart if they vary, and a second of sound more than images."""
    available(codec)
    rng, y, x = np.random.default_rng(0), *np.mgrid[:80, :112]
    time = 0
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=8, options=OPTIONS.get(codec, {}))
        stream.width, stream.height, stream.pix_fmt = 112, 80, PIXELS.get(codec, "yuv420p")
        if varying:
            stream.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("pcm_s16le", rate=48000) if sound else None
        for number in range(IMAGES):
            wave = 90 + 60 * np.sin((x + 2 * y) / 29 + number / 3)[..., None] + rng.integers(0, 60, (80, 112, 3))
            frame = av.VideoFrame.from_ndarray(wave.astype(np.uint8), format="rgb24")
            if varying:
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                time += (40, 125, 310, 80, 1000)[number % 5]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            silence = np.zeros((1, 48000 * 4), np.int16)
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def cut(path, share):
    data = path.read_bytes()
    shorter = path.with_name(f"cut{path.suffix}")
    shorter.write_bytes(data[: int(share * len(data))])
    return shorter


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_whole_files_are_read_and_cut_ones_refused(tmp_path, suffix, codec):
    path = write(tmp_path / f"whole.{suffix}", codec)
    assert len(read_clip(path)) == IMAGES
    for share in (0.5, 0.95, 0.999):
        with pytest.raises(ClipError, match=rf"cut\.{suffix} is truncated or not a video: \d+ images decoded of"):
            read_clip(cut(path, share))


@pytest.mark.parametrize(("suffix", "codec"), [(suffix, codecs[0]) for suffix, codecs in CODECS.items()])
def test_whole_files_of_a_variable_rate_are_read(tmp_path, suffix, codec):
    path = write(tmp_path / f"varying.{suffix}", codec, varying=True)
    assert len(read_clip(path)) == IMAGES
    with pytest.raises(ClipError, match="is truncated or not a video"):
        read_clip(cut(path, 0.95))


@pytest.mark.parametrize("suffix", ["mkv", "avi", "mov"])
def test_sound_that_is_longer_than_the_images_is_no_cut(tmp_path, suffix):
    assert len(read_clip(write(tmp_path / f"sound.{suffix}", sound=True))) == IMAGES


def test_the_message_says_what_was_decoded(tmp_path):
    path = cut(write(tmp_path / "whole.mkv", "ffv1"), 0.5)
    with pytest.raises(ClipError) as caught:
        read_clip(path)
    assert str(caught.value) == (
        f"{path} is truncated or not a video: 11 images decoded of an unknown number (the file ends early). "
        f"Get the whole file."
    )


class TestStreamsThatDoNotKnowTheirLength:
    def test_live_matroska(self, tmp_path):
        path = write(tmp_path / "live.mkv", options={"live": "1", "cluster_size_limit": "9000"})
        assert path.read_bytes().find(b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff") > 0
        assert len(read_clip(path)) == IMAGES
        with pytest.raises(ClipError, match="is truncated"):
            read_clip(cut(path, 0.6))

    def test_fragmented_mp4(self, tmp_path):
        path = write(tmp_path / "parts.mp4", options={"movflags": "frag_every_frame+empty_moov"})
        assert len(read_clip(path)) == IMAGES
        with pytest.raises(ClipError, match="is truncated"):
            read_clip(cut(path, 0.6))

    @pytest.mark.parametrize("suffix", ["ts", "m2ts"])
    def test_mpeg_ts_is_noticed_within_a_packet_and_not_between(self, tmp_path, suffix):
        path = write(tmp_path / f"whole.{suffix}")
        packet = {"ts": 188, "m2ts": 192}[suffix]
        whole = path.read_bytes()
        assert len(whole) % packet == 0
        assert len(read_clip(path)) == IMAGES
        path.write_bytes(whole[: len(whole) // 2 // packet * packet + 50])
        with pytest.raises(ClipError, match="is truncated"):
            read_clip(path)
        path.write_bytes(whole[: len(whole) // 2 // packet * packet])
        assert not is_cut_off(path)


@pytest.mark.parametrize("data", [b"", b"G", b"RIFF", b"\x1a\x45\xdf\xa3", b"\0" * 20, b"\0\0\0\1mdat", b"text" * 99])
def test_what_is_no_container_is_left_to_ffmpeg(tmp_path, data):
    (tmp_path / "odd").write_bytes(data)
    assert not is_cut_off(tmp_path / "odd")


def test_large_boxes_and_what_follows_the_last_one(tmp_path):
    file = tmp_path / "large.mp4"
    start = b"\0\0\0\x0cftypisom"
    for data, is_cut in [
        (start + b"\0\0\0\1mdat" + (30).to_bytes(8, "big") + b"x" * 14, False),
        (start + b"\0\0\0\1mdat" + (31).to_bytes(8, "big") + b"x" * 14, True),
        (start + b"\0\0\0\0mdat" + b"x" * 14, False),  # to the end of the file
        (start + b"\0\0\0\x09mdatx" + b"junkjunkjunk", False),
    ]:
        file.write_bytes(data)
        assert is_cut_off(file) is is_cut


def test_several_riffs_of_one_avi(tmp_path):
    part = b"RIFF" + (6).to_bytes(4, "little") + b"AVI xx"
    (tmp_path / "two.avi").write_bytes(part * 2)
    assert not is_cut_off(tmp_path / "two.avi")
    (tmp_path / "two.avi").write_bytes((part * 2)[:-1])
    assert is_cut_off(tmp_path / "two.avi")
    (tmp_path / "two.avi").write_bytes(b"RIFF\0\0\0\0AVI live")
    assert not is_cut_off(tmp_path / "two.avi")
