# SPDX-License-Identifier: Apache-2.0
"""Speak a set: a wav file for each utterance, and lhotse's manifests of them.

    speak_set.py --train false --jobs 2 DATA/SET        reads text, utt2spk; writes wav/, recordings and supervisions

An utterance that has its wav file is not spoken again. Not here: noise and features (`features`).
"""

from __future__ import annotations

import argparse
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import command
import soundfile
import torch
from espeak import SAMPLING_RATE, speak
from espeak_program import require_espeak
from kaldi_tables import read_table, write_table
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from tqdm import tqdm
from voices import voice_of

from kaldi_mpq.artefact import writing

__all__ = ["speak_all", "write_manifests"]


def speak_all(directory: Path, *, train: bool, jobs: int) -> None:
    """Write wav/KEY.wav of every utterance of a set that has none yet.

    Args:
      train: voices of training, else those of test sets.
      jobs: espeak-ng processes at a time.
    """
    text = read_table(directory / "text", made_by="stage -5")
    speakers = read_table(directory / "utt2spk", made_by="stage -5")
    audio = directory / "wav"
    audio.mkdir(exist_ok=True)
    torch.set_num_threads(1)

    def say(key: str) -> None:
        samples = speak(text[key], voice_of(speakers[key], train=train))
        with writing(audio / f"{key}.wav") as temporary:
            soundfile.write(temporary, samples, SAMPLING_RATE, "PCM_16", format="WAV")

    rest = [key for key in text if not (audio / f"{key}.wav").exists()]
    with ThreadPoolExecutor(jobs) as pool:
        try:
            bar = tqdm(pool.map(say, rest), total=len(rest), desc=f"speak {directory.name}", disable=None, unit="utt")
            list(itertools.chain(bar))
        finally:
            pool.shutdown(cancel_futures=True)


def write_manifests(directory: Path) -> None:
    """Write recordings.jsonl.gz and supervisions.jsonl.gz, and Kaldi's wav.scp."""
    text = read_table(directory / "text", made_by="stage -5")
    speakers = read_table(directory / "utt2spk", made_by="stage -5")
    recordings = [Recording.from_file(directory / "wav" / f"{key}.wav", recording_id=key) for key in text]
    supervisions = [
        SupervisionSegment(each.id, each.id, 0.0, each.duration, text=text[each.id], speaker=speakers[each.id])
        for each in recordings
    ]
    RecordingSet.from_recordings(recordings).to_file(directory / "recordings.jsonl.gz")
    SupervisionSet.from_segments(supervisions).to_file(directory / "supervisions.jsonl.gz")
    write_table(directory / "wav.scp", {key: str((directory / "wav" / f"{key}.wav").resolve()) for key in text})


def main() -> None:
    """Read the options, and speak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="data directory of a set")
    parser.add_argument("--train", choices=("true", "false"), required=True, help="voices of training, or of tests")
    parser.add_argument("--jobs", type=int, default=2, help="espeak-ng processes at a time")
    options = parser.parse_args()
    require_espeak()
    directory = options.directory.resolve()
    speak_all(directory, train=options.train == "true", jobs=options.jobs)
    write_manifests(directory)


if __name__ == "__main__":
    command.run(main)
