# SPDX-License-Identifier: Apache-2.0
"""Decode a part of a set with k2, and write Kaldi's compact lattices.

    decode.py --job 1 --jobs 4 --am am.safetensors --graph HLG.pt DATA/dev EXP/decode_dev        writes lat.1.gz

Acoustic costs are those of LF-MMI times 10, as `--post-decode-acwt 10` leaves them in Kaldi's chain recipes, so that
scoring finds its optimum near LMWT 10. Not here: the graph (`decoding_graph`) and scoring.
"""

from __future__ import annotations

from kaldi_mpq.artefact import use_fast_mkl_on_amd

use_fast_mkl_on_amd()  # before torch is loaded

import argparse  # noqa: E402
import logging  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import command  # noqa: E402
import k2  # noqa: E402
import torch  # noqa: E402
from am_data import Utterance, batches, padded, read_set  # noqa: E402
from kaldi_tables import read_table  # noqa: E402
from phones import PhoneTable  # noqa: E402
from tdnnf import SUBSAMPLING, Tdnnf, load_weights  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from kaldi_mpq import native  # noqa: E402
from kaldi_mpq.artefact import require  # noqa: E402
from kaldi_mpq.rescore.k2_kaldi import to_kaldi  # noqa: E402

__all__ = ["Decoder", "keys_of_job"]

log = logging.getLogger(__name__)

ACOUSTIC_SCALE = 0.1
BATCH = 4
MAX_FRAMES = 700  # of a batch, after subsampling


class Decoder:
    """A network and a graph.

    Args:
      search_beam: of active states in each frame.
      lattice_beam: how much worse than the best a path of the lattice may be.
      max_active: states in a frame at most.
    """

    def __init__(
        self,
        model: Tdnnf,
        graph: k2.Fsa,
        *,
        search_beam: float = 13.0,
        lattice_beam: float = 8.0,
        max_active: int = 2500,
    ) -> None:
        self.model, self.graph = model, graph
        self.search_beam, self.lattice_beam, self.max_active = search_beam, lattice_beam, max_active
        self.columns = torch.from_numpy(PhoneTable().pdf_of_tid)

    @torch.no_grad()
    def __call__(self, utterances: list[Utterance]) -> native.Lattices:
        """Return the lattices of utterances, the longest first, with one path for each word string."""
        features, frames = padded(utterances)
        frames = torch.div(frames + SUBSAMPLING - 1, SUBSAMPLING, rounding_mode="floor").int()
        logp = F.pad(self.model(features)[:, :, self.columns], (1, 0), value=-1e4)  # 0 is no transition-id
        number = torch.arange(len(frames), dtype=torch.int32)
        dense = k2.DenseFsaVec(logp, torch.stack((number, torch.zeros_like(number), frames), dim=1))
        found = k2.intersect_dense_pruned(self.graph, dense, self.search_beam, self.lattice_beam, 30, self.max_active)
        keys = [each.key for each in utterances]
        lattices = to_kaldi(found, keys, acoustic_scale=ACOUSTIC_SCALE, frames="labels", frame_offset=0)
        words, problems = native.determinize(lattices, ACOUSTIC_SCALE, beam=self.lattice_beam)
        for key, problem in zip(keys, problems):
            if problem:
                log.warning("%s is not determinized: %s", key, problem)
        return words


def keys_of_job(keys: list[str], job: int, jobs: int) -> list[str]:
    """Return the keys of a job, of like number in each and together in their order."""
    return keys[len(keys) * (job - 1) // jobs : len(keys) * job // jobs]


def decode(decoder: Decoder, utterances: list[Utterance]) -> Iterator[native.Lattices]:
    """Yield lattices in the order of the utterances' keys."""
    done: dict[str, native.Lattices] = {}
    for group in batches([len(each.features) for each in utterances], BATCH):
        lattices = decoder([utterances[i] for i in group])
        done |= {key: lattices.select([place]) for place, key in enumerate(lattices.keys)}
    for each in utterances:
        yield done[each.key]


def main() -> None:
    """Read the options, and decode."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="data directory of the set")
    parser.add_argument("out", type=Path, help="decode directory")
    parser.add_argument("--am", type=Path, required=True, help="weights of the acoustic model")
    parser.add_argument("--graph", type=Path, required=True, help="HLG.pt")
    parser.add_argument("--job", type=int, default=1, help="number of this job, from 1")
    parser.add_argument("--jobs", type=int, default=1, help="how many there are")
    options = parser.parse_args()
    torch.set_num_threads(1)
    require([options.graph], hint="run stage -2 first")
    keys = keys_of_job(list(read_table(options.data / "text", made_by="stage -5")), options.job, options.jobs)
    decoder = Decoder(load_weights(options.am), k2.Fsa.from_dict(torch.load(options.graph)))
    utterances = read_set(options.data, set(keys))
    began = time.monotonic()
    with native.LatticeWriter(options.out / f"lat.{options.job}.gz") as writer:
        for lattices in decode(decoder, utterances):
            writer.write(lattices)
    seconds = sum(len(each.features) for each in utterances) / 100
    log.info("%d utterances, %.0f s of speech in %.0f s", len(utterances), seconds, time.monotonic() - began)


if __name__ == "__main__":
    command.run(main)
