# SPDX-License-Identifier: Apache-2.0
"""Mix noise into a spoken set and compute Kaldi-compatible filter banks, both with lhotse.

    features.py --snr 10 20 --seed 2 DATA/SET         writes cuts.jsonl.gz and feats/

Not here: the speech (`speak_set`) and what is done with features (`am_data`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import command
import lhotse
import torch
from espeak import SAMPLING_RATE
from lhotse import CutSet, Fbank, FbankConfig
from lhotse.features.io import NumpyFilesWriter
from noise import noise_cuts
from tqdm import tqdm

from kaldi_mpq.artefact import require, writing

__all__ = ["FRAME_SHIFT", "NUM_FILTERS", "extractor", "write_features"]

NUM_FILTERS = 40
FRAME_SHIFT = 0.01


def extractor() -> Fbank:
    """Return filter banks as Kaldi's compute-fbank-feats has them for telephone speech."""
    return Fbank(
        FbankConfig(
            sampling_rate=SAMPLING_RATE,
            frame_shift=FRAME_SHIFT,
            num_filters=NUM_FILTERS,
            low_freq=64.0,
            high_freq=-200.0,
            dither=0.0,
            snip_edges=False,
        )
    )


def write_features(directory: Path, snr_db: tuple[float, float], seed: int) -> None:
    """Write the cuts of a set, speech mixed with noise, with their features.

    Args:
      snr_db: the range of signal-to-noise ratios.
      seed: of the noises, and of which goes with which utterance how loud.
    """
    names = [directory / f"{kind}.jsonl.gz" for kind in ("recordings", "supervisions")]
    require(names, hint="run stage -4 first")
    clean = CutSet.from_manifests(
        recordings=lhotse.load_manifest(names[0]), supervisions=lhotse.load_manifest(names[1])
    )
    clean = clean.to_eager()
    speech = [Path(cut.recording.sources[0].source) for cut in clean]
    noises = noise_cuts(directory / "noise", speech, seed)
    noisy = clean.mix(noises, snr=snr_db, preserve_id="left", seed=seed, random_mix_offset=True)
    filter_banks = extractor()
    with NumpyFilesWriter(directory / "feats") as storage:
        bar = tqdm(noisy, total=len(clean), desc=f"features {directory.name}", disable=None, unit="utt")
        done = [cut.compute_and_store_features(filter_banks, storage) for cut in bar]
    with writing(directory / "cuts.jsonl.gz") as temporary:
        whole = temporary.with_suffix(".jsonl.gz")
        CutSet.from_cuts(done).to_file(whole)
        whole.replace(temporary)


def main() -> None:
    """Read the options, and write the features."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="data directory of a set that was spoken")
    parser.add_argument("--snr", type=float, nargs=2, default=(10.0, 20.0), help="least and greatest SNR in dB")
    parser.add_argument("--seed", type=int, default=1, help="of the noise")
    options = parser.parse_args()
    torch.set_num_threads(1)
    write_features(options.directory.resolve(), tuple(options.snr), options.seed)


if __name__ == "__main__":
    command.run(main)
