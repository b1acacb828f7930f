# SPDX-License-Identifier: Apache-2.0
"""Speech of recipes/mini: espeak-ng through a telephone, manifests, noise at a stated level, filter banks."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from kaldi_mpq.errors import ConfigError, MissingInputError

for package in ("lhotse", "soundfile"):
    pytest.importorskip(package, reason=f"recipes/mini runs on the k2 stack ({package})")

import espeak  # noqa: E402
import soundfile  # noqa: E402
from am_data import read_set  # noqa: E402
from features import write_features  # noqa: E402
from lhotse import load_manifest  # noqa: E402
from speak_set import speak_all, write_manifests  # noqa: E402
from voices import Voice  # noqa: E402


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A set of two utterances, spoken, with manifests."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed (Debian: apt-get install espeak-ng)")
    directory = tmp_path_factory.mktemp("set")
    (directory / "text").write_text("c-a-0 hello there\nc-b-1 how are you doing today\n")
    (directory / "utt2spk").write_text("c-a-0 c-a\nc-b-1 c-b\n")
    speak_all(directory, train=False, jobs=1)
    write_manifests(directory)
    return directory


def test_a_telephone_carries_a_band():
    """A tone inside passes, those below and above do not; 8 kHz comes out of 22.05."""
    time = np.arange(22050) / 22050
    levels = {}
    for hertz in (100, 1000, 3800):
        tones = np.sin(2 * np.pi * hertz * time) + 0.1 * np.sin(2 * np.pi * 1500 * time)
        heard = espeak.telephone(tones.astype(np.float32), 22050)
        spectrum = np.abs(np.fft.rfft(heard))
        bins = np.fft.rfftfreq(len(heard), 1 / espeak.SAMPLING_RATE)
        levels[hertz] = spectrum[np.abs(bins - hertz) < 20].max() / spectrum[np.abs(bins - 1500) < 20].max()
    assert len(heard) == 8000
    assert levels[1000] > 5 > 0.1 > max(levels[100], levels[3800])


def test_no_espeak_is_told(monkeypatch):
    """What is missing, and how to install it."""
    espeak.require_espeak.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ConfigError, match=r"no espeak-ng.*apt-get install espeak-ng"):
        espeak.speak("hello", Voice("en-us+f1", 160, 50))


def test_a_set_that_was_not_made_is_told(tmp_path):
    """Speech before text, features before speech, training before features: the stage to run first."""
    for call in (
        lambda: speak_all(tmp_path, train=False, jobs=1),
        lambda: write_features(tmp_path, (5.0, 15.0), 1),
        lambda: read_set(tmp_path),
    ):
        with pytest.raises(MissingInputError, match=r"run stage -[45] first"):
            call()


def test_what_was_said_is_not_said_again(spoken, monkeypatch):
    """A second call makes only the files that are missing, the same ones."""
    wav = spoken / "wav" / "c-a-0.wav"
    before, kept = wav.read_bytes(), (spoken / "wav" / "c-b-1.wav").stat().st_mtime_ns
    wav.unlink()
    speak_all(spoken, train=False, jobs=1)
    assert wav.read_bytes() == before
    assert (spoken / "wav" / "c-b-1.wav").stat().st_mtime_ns == kept


def test_manifests_say_who_says_what_how_long(spoken):
    """lhotse's recordings and supervisions, and Kaldi's wav.scp."""
    recordings = load_manifest(spoken / "recordings.jsonl.gz")
    supervisions = {each.id: each for each in load_manifest(spoken / "supervisions.jsonl.gz")}
    assert supervisions["c-b-1"].text == "how are you doing today"
    assert supervisions["c-b-1"].speaker == "c-b"
    for recording in recordings:
        samples, rate = soundfile.read(spoken / "wav" / f"{recording.id}.wav")
        assert (rate, len(samples)) == (8000, recording.num_samples)
        assert 0.3 < recording.duration < 6.0
    assert [line.split()[0] for line in (spoken / "wav.scp").read_text().splitlines()] == ["c-a-0", "c-b-1"]


def test_noise_has_the_stated_level(spoken):
    """Filter banks differ more from those at 60 dB the noisier they are; they come 100 a second."""
    banks = {}
    for snr in (60.0, 20.0, 0.0):
        write_features(spoken, (snr, snr), seed=1)
        banks[snr] = {each.key: each.features for each in read_set(spoken)}
    for recording in load_manifest(spoken / "recordings.jsonl.gz"):
        frames = banks[0.0][recording.id]
        assert frames.shape == (round(recording.duration * 100), 40) or abs(len(frames) - recording.duration * 100) < 1
        clean = banks[60.0][recording.id]
        assert np.abs(frames - clean).mean() > 1.2 * np.abs(banks[20.0][recording.id] - clean).mean() > 0
    assert set(read_set(spoken, {"c-a-0"})[0].words) == {"hello", "there"}
