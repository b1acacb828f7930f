# SPDX-License-Identifier: Apache-2.0
"""Make tests/data/ami, the small sample of a Kaldi recipe directory that is kept in git.

    KALDI_ROOT=... python3 tests/data/make_sample.py TESTBED TRAIN_TEXT tests/data/ami

TESTBED is a recipe directory with data/{dev,eval,lang_tg} and exp/chain/tdnn/decode_{dev,eval}_tg. The choice is
deterministic. The old LM keeps only what these lattices and references can ask for, and its costs stay the same bit for
bit: the script proves it with Kaldi's own programs. Standard library only, so that the sample is no product of the code
that it tests. Not here: the README with the licence beside the sample, which is kept by hand.
"""

from __future__ import annotations

import gzip
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from old_lm_subset import Acceptor, arpa_subset, fst_subset, ngrams_of, projected

T = TypeVar("T")

SETS = ("dev", "eval")
SPEAKERS, PER_SPEAKER, JOBS = 6, 5, 2  # of each set
WORDS = range(5, 17)  # length of a chosen reference
ERRORS = range(1, 7)  # of the first pass: some, or rescoring has nothing to win
LATTICE_BYTES = range(3_000, 40_000)  # uncompressed
TRAIN_BYTES = 200_000
TRAIN_MEETINGS = "ES"  # the kind of meeting that dev and eval begin with
COPIED_LANG = ("words.txt", "oov.txt", "oov.int", "phones.txt", "phones/word_boundary.int", "phones/word_boundary.txt")


@dataclass(frozen=True)
class Utterance:
    """A candidate: where it is and how well the first pass did on it."""

    key: str
    speaker: str
    errors: int


def kaldi(command: str, **variables: str | Path) -> str:
    """Return the stdout of a shell line that runs with Kaldi's programs on PATH; any failure ends the script."""
    setup = 'set -euo pipefail; . "$KALDI_ROOT"/tools/config/common_path.sh; '
    env = {**os.environ, "LC_ALL": "C", "OPENBLAS_NUM_THREADS": "1", **{k: str(v) for k, v in variables.items()}}
    done = subprocess.run(["bash", "-c", setup + command], env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"failed: {command}\n{done.stderr[-2000:]}")
    return done.stdout


def read_table(path: Path) -> dict[str, list[str]]:
    """Return key -> words of a Kaldi text-like file, in file order."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {words[0]: words[1:] for words in lines if words}


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Return the least number of substitutions, deletions and insertions between two word sequences."""
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(hypothesis, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]


def choose(testbed: Path, name: str, scratch: Path) -> list[Utterance]:
    """Return the chosen utterances of a set, in file order: PER_SPEAKER of each of SPEAKERS spread over the set."""
    data, decode = testbed / "data" / name, testbed / "exp/chain/tdnn" / f"decode_{name}_tg"
    kaldi(
        'lattice-copy "ark:gunzip -c $DECODE/lat.*.gz|" ark,scp:$OUT.ark,$OUT.scp; '
        "lattice-best-path --acoustic-scale=0.1 --word-symbol-table=$WORDS scp:$OUT.scp ark,t:$OUT.int ark:/dev/null; "
        "$KALDI_ROOT/egs/wsj/s5/utils/int2sym.pl -f 2- $WORDS $OUT.int > $OUT.hyp",
        DECODE=decode, OUT=scratch / name, WORDS=testbed / "data/lang_tg/words.txt",
    )  # fmt: skip
    references, speakers = read_table(data / "text"), read_table(data / "utt2spk")
    hypotheses, sizes = read_table(scratch / f"{name}.hyp"), lattice_sizes(scratch / f"{name}.scp")
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for key, reference in references.items():
        errors = edit_distance(reference, hypotheses.get(key, []))
        if len(reference) in WORDS and errors in ERRORS and sizes.get(key, 0) in LATTICE_BYTES:
            by_speaker[speakers[key][0]].append(Utterance(key, speakers[key][0], errors))
    rich = [chosen for chosen in by_speaker.values() if len(chosen) >= PER_SPEAKER]
    return [utterance for candidates in spread(rich, SPEAKERS) for utterance in spread(candidates, PER_SPEAKER)]


def spread(items: list[T], count: int) -> list[T]:
    """Return ``count`` of the items, evenly spaced."""
    return [items[i * len(items) // count] for i in range(count)]


def lattice_sizes(scp: Path) -> dict[str, int]:
    """Return key -> bytes of its record, from the offsets of an scp file; the last one gets 0 and is not chosen."""
    entries = [(key, int(rest[0].rpartition(":")[2])) for key, rest in read_table(scp).items()]
    return {key: after - before for (key, before), (_, after) in itertools.pairwise(entries)}


def write_set(testbed: Path, name: str, chosen: list[Utterance], out: Path, scratch: Path) -> None:
    """Write data/NAME and exp/chain/tdnn/decode_NAME_tg of the chosen utterances."""
    data, target = testbed / "data" / name, out / "data" / name
    target.mkdir(parents=True)
    keys = {utterance.key for utterance in chosen}
    segments = {key: row for key, row in read_table(data / "segments").items() if key in keys}
    recordings = {row[0] for row in segments.values()}
    spans = {(row[0], float(row[1])) for row in segments.values()}
    for table in ("text", "utt2spk", "segments"):
        write_lines(target / table, [line for line in lines_of(data / table) if line.split()[0] in keys])
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for utterance in chosen:
        by_speaker[utterance.speaker].append(utterance.key)
    write_lines(target / "spk2utt", [" ".join([speaker, *uttids]) for speaker, uttids in by_speaker.items()])
    kept = [line for line in lines_of(data / "reco2file_and_channel") if line.split()[0] in recordings]
    write_lines(target / "reco2file_and_channel", kept)
    stm = [line for line in lines_of(data / "stm") if line.startswith(";;") or stm_span(line) in spans]
    write_lines(target / "stm", stm)
    shutil.copyfile(data / "glm", target / "glm")
    decode = out / "exp/chain/tdnn" / f"decode_{name}_tg"
    decode.mkdir(parents=True)
    share = len(chosen) // JOBS
    for job in range(JOBS):
        part = chosen[job * share : (job + 1) * share]
        write_lines(scratch / "keys", [utterance.key for utterance in part])
        kaldi("lattice-copy --include=$KEYS scp:$SCP ark:$OUT", KEYS=scratch / "keys", SCP=scratch / f"{name}.scp",
              OUT=scratch / "lat")  # fmt: skip
        write_gz(decode / f"lat.{job + 1}.gz", (scratch / "lat").read_bytes())
    (decode / "num_jobs").write_text(f"{JOBS}\n", encoding="ascii")


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file."""
    return path.read_text(encoding="utf-8").splitlines()


def stm_span(line: str) -> tuple[str, float]:
    """Return recording and start time of an stm line."""
    fields = line.split()
    return fields[0], float(fields[3])


def write_lines(path: Path, lines: list[str]) -> None:
    """Write lines with a newline each."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_gz(path: Path, content: bytes) -> None:
    """Write a gzip file without name and time, so that the same content gives the same bytes."""
    path.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


def train_sample(source: Path) -> list[str]:
    """Return whole meetings of one kind, from the first, up to TRAIN_BYTES."""
    kept: list[str] = []
    meeting: list[str] = []
    for line in lines_of(source):
        if not line.startswith(TRAIN_MEETINGS):
            continue
        if meeting and meeting[-1].split("-")[0] != line.split("-")[0]:
            if sum(len(one.encode()) + 1 for one in kept + meeting) > TRAIN_BYTES:
                break
            kept, meeting = kept + meeting, []
        meeting.append(line)
    return kept


def acceptors(out: Path, words: dict[str, int]) -> list[Acceptor]:
    """Return every lattice and every reference of the sample as an acceptor of words."""
    found: list[Acceptor] = []
    for name in SETS:
        decode = out / f"exp/chain/tdnn/decode_{name}_tg"
        text = kaldi('lattice-copy "ark:gunzip -c $DECODE/lat.*.gz|" ark,t:-', DECODE=decode)
        found += [Acceptor.from_kaldi_text(record) for record in re.split(r"\n\n", text) if record.strip()]
        for reference in read_table(out / "data" / name / "text").values():
            found.append(Acceptor.from_words([words.get(word, words["<unk>"]) for word in reference]))
    return found


def write_old_lm(testbed: Path, out: Path, words: dict[str, int]) -> None:
    """Write G.fst and the ARPA file, cut to what the sample can ask for."""
    asked = acceptors(out, words)
    whole = (testbed / "data/lang_tg/G.fst").read_bytes()
    (out / "data/lang_tg/G.fst").write_bytes(fst_subset(whole, asked, words["#0"]))
    with gzip.open(testbed / "data/local/lm/ami.o3g.kn.arpa.gz", "rt", encoding="utf-8") as full:
        arpa = arpa_subset(full, ngrams_of(asked, words, order=3))
    lm = out / "data/local/lm"
    lm.mkdir(parents=True)
    write_gz(lm / "ami.o3g.kn.arpa.gz", arpa.encode())


def verify_old_lm(testbed: Path, out: Path, words: dict[str, int], scratch: Path) -> None:
    """Prove with Kaldi's programs that old LMs of testbed and sample cost the same on every path of the sample."""
    bos, eos, unk = (words[symbol] for symbol in ("<s>", "</s>", "<unk>"))
    lattices = " ".join(str(path) for path in sorted(out.glob("exp/chain/tdnn/decode_*/lat.*.gz")))
    for name, root in (("full", testbed), ("small", out)):
        (scratch / f"{name}.fst").write_bytes(projected((root / "data/lang_tg/G.fst").read_bytes()))
        kaldi(
            "gunzip -c $ARPA | $KALDI_ROOT/egs/wsj/s5/utils/map_arpa_lm.pl $WORDS | "
            f"arpa-to-const-arpa --bos-symbol={bos} --eos-symbol={eos} --unk-symbol={unk} - $OUT.carpa; "
            'lattice-lmrescore --lm-scale=-1 "ark:gunzip -c $LATS|" $OUT.fst ark,t:$OUT.by_fst; '
            'lattice-lmrescore-const-arpa --lm-scale=-1 "ark:gunzip -c $LATS|" $OUT.carpa ark,t:$OUT.by_arpa',
            ARPA=root / "data/local/lm/ami.o3g.kn.arpa.gz", WORDS=testbed / "data/lang_tg/words.txt",
            OUT=scratch / name, LATS=lattices,
        )  # fmt: skip
    full, small = ((scratch / f"{name}.by_fst").read_text(encoding="utf-8") for name in ("full", "small"))
    utterances = len([record for record in full.split("\n\n") if record.strip()])
    if full != small or utterances != len(SETS) * SPEAKERS * PER_SPEAKER:
        sys.exit(f"G.fst: costs differ between testbed and sample ({utterances} utterances)")
    print(f"G.fst: rescoring with the full and with the small one gives the same bytes, {utterances} lattices")
    both = {"A": scratch / "full", "B": scratch / "small"}
    kaldi("lattice-equivalent --num-paths=100 --delta=0.001 ark:$A.by_arpa ark:$B.by_arpa", **both)
    print("ARPA: rescoring with the full and with the small one gives equivalent lattices (100 random paths each)")


def main() -> None:
    """Make the sample from scratch."""
    if len(sys.argv) != 4 or "KALDI_ROOT" not in os.environ:
        sys.exit((__doc__ or "").split("\n\n")[1])
    testbed, train, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()
    for made in ("data", "exp"):
        shutil.rmtree(out / made, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for subset in SETS:
            chosen = choose(testbed, subset, scratch)
            write_set(testbed, subset, chosen, out, scratch)
            errors = sum(utterance.errors for utterance in chosen)
            print(f"{subset}: {len(chosen)} utterances, {errors} first-pass errors")
        for file in COPIED_LANG:
            (out / "data/lang_tg" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(testbed / "data/lang_tg" / file, out / "data/lang_tg" / file)
        for file in ("final.mdl", "frame_subsampling_factor"):
            shutil.copyfile(testbed / "exp/chain/tdnn" / file, out / "exp/chain/tdnn" / file)
        (out / "data/train").mkdir()
        write_lines(out / "data/train/text", train_sample(train))
        words = {symbol: int(rest[0]) for symbol, rest in read_table(out / "data/lang_tg/words.txt").items()}
        write_old_lm(testbed, out, words)
        verify_old_lm(testbed, out, words, scratch)
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{total} bytes in {out}")


if __name__ == "__main__":
    main()
