"""Videos: upright frames at an even pace with their sound, and a video that can be read again."""

import av
import numpy as np
import pytest
from recorded import tone, write_aac, write_video

from taco.data import video
from taco.data.problems import MediaError

SIZE = (48, 64)  # height, width


def picture(level, size=SIZE):
    return np.full((*size, 3), level, dtype=np.uint8)


def levels(frames):
    """Brightness of each frame, in steps of 20."""
    return [round(float(frame.image.mean()) / 20) for frame in frames]


def film(path, seconds=4, rate=10, **options):
    """Brighter by 20 every second; a second of sound each at 400, 800, ... Hz."""
    times = [i / rate for i in range(seconds * rate)]
    wave = np.concatenate([tone(1, 16000, 400 * (second + 1)) for second in range(seconds)])
    pictures = [picture(20 * (1 + int(time))) for time in times]
    return write_video(path, pictures, times, **{"wave": wave} | options)


def pitch(frame):
    wave, rate = frame.sound
    middle = wave[len(wave) // 4 : -len(wave) // 4]
    return np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() * rate / len(middle)


def test_a_frame_a_second_with_its_own_second_of_sound(tmp_path):
    found = list(video.frames(film(tmp_path / "a.mp4"), 1))
    assert [frame.time for frame in found] == [0.5, 1.5, 2.5, 3.5]
    assert [frame.number for frame in found] == [0, 1, 2, 3]
    assert levels(found) == [1, 2, 3, 4]
    assert [pitch(frame) for frame in found] == pytest.approx([400, 800, 1200, 1600], abs=5)
    assert all(len(frame.sound[0]) == pytest.approx(frame.sound[1], rel=0.1) for frame in found)


@pytest.mark.parametrize(("fps", "count"), [(0.5, 2), (2, 8), (0.01, 1)])
def test_other_paces(tmp_path, fps, count):
    found = list(video.frames(film(tmp_path / "a.mp4"), fps))
    assert len(found) == count
    assert all(len(frame.sound[0]) >= 0.9 * frame.sound[1] for frame in found)  # a second at least


def test_a_variable_frame_rate(tmp_path):
    """Nine frames in the first second, and then one that stays."""
    times = [*(i / 9 for i in range(9)), 1.0, 3.0]
    pictures = [picture(20)] * 9 + [picture(120), picture(200)]
    write_video(tmp_path / "a.mp4", pictures, times, wave=tone(3.2, 16000))
    assert levels(video.frames(tmp_path / "a.mp4", 1))[:3] == [1, 6, 6]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_phones_video_is_upright(tmp_path, rotation):
    upright = picture(20)
    upright[:24, :32] = 220  # bright at the top left
    stored = np.rot90(upright, -rotation // 90)
    write_video(
        tmp_path / "a.mp4", [stored] * 10, [i / 10 for i in range(10)], wave=tone(1, 16000), rotation=rotation
    )
    (frame,) = video.frames(tmp_path / "a.mp4", 1)
    assert frame.image.shape == (*SIZE, 3)
    quarters = [
        frame.image[a, b].mean() for a in (slice(20), slice(28, 48)) for b in (slice(28), slice(36, 64))
    ]
    assert quarters[0] > 200 and max(quarters[1:]) < 40


def test_a_single_frame_and_a_short_sound(tmp_path):
    write_video(tmp_path / "a.mp4", [picture(100)], [0], wave=tone(0.2, 16000))
    (frame,) = video.frames(tmp_path / "a.mp4", 1)
    assert 0.1 < len(frame.sound[0]) / frame.sound[1] < 0.4


def test_a_picture_that_outlasts_its_sound_hears_the_last_of_it(tmp_path):
    film(tmp_path / "a.mp4", wave=tone(2, 16000, 500))
    found = list(video.frames(tmp_path / "a.mp4", 1))
    assert len(found) == 4
    assert pitch(found[3]) == pytest.approx(500, abs=5)


def test_without_a_sound_track_it_is_refused_with_what_to_do(tmp_path):
    film(tmp_path / "a.mp4", wave=None)
    with pytest.raises(MediaError, match=r"a\.mp4.*without a sound track.*IMAGE SOUND"):
        list(video.frames(tmp_path / "a.mp4", 1))


def test_a_sound_alone_is_no_video(tmp_path):
    write_aac(tmp_path / "a.m4a", tone(1, 16000), 16000)
    with pytest.raises(MediaError, match="without a picture"):
        list(video.frames(tmp_path / "a.m4a", 1))


@pytest.mark.parametrize("content", [b"", b"nothing of the kind" * 50])
def test_what_is_no_video_is_named(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.mp4"):
        list(video.frames(tmp_path / "a.mp4", 1))


def test_a_truncated_video_is_named(tmp_path):
    whole = film(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"a\.mp4"):
        list(video.frames(tmp_path / "a.mp4", 1))


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_what_is_written_is_read_again_with_its_sound(tmp_path, size):
    film(tmp_path / "a.mp4")
    with video.Writer(tmp_path / "b.mp4", 1, tmp_path / "a.mp4") as written:
        for level in (40, 120, 200, 240):
            written.add(picture(level, size))
    found = list(video.frames(tmp_path / "b.mp4", 1))
    assert levels(found) == [2, 6, 10, 12]
    assert found[0].image.shape == (size[0] // 2 * 2, size[1] // 2 * 2, 3)
    assert [pitch(frame) for frame in found] == pytest.approx([400, 800, 1200, 1600], abs=8)


def test_a_player_is_given_what_it_knows(tmp_path):
    film(tmp_path / "a.mp4")
    with video.Writer(tmp_path / "b.mp4", 1, tmp_path / "a.mp4") as written:
        written.add(picture(40))
    with av.open(str(tmp_path / "b.mp4")) as container:
        streams = [(stream.codec_context.name, stream.type) for stream in container.streams]
        assert streams == [("h264", "video"), ("aac", "audio")]
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.duration / av.time_base == pytest.approx(1, abs=0.15)
