# SPDX-License-Identifier: Apache-2.0
"""Kaldi's scripts and ours on the same arguments in the same recipe directory, with that recipe's local/score.sh."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kaldi_mpq.cli.commands import COMMANDS
from tests.conftest import ROOT

KEYS = 4  # lattices of each of the two jobs
SOURCE = "exp/chain/tdnn/decode_eval_tg"
ONE_JOB = "exp/chain/tdnn/decode_one_job"
RNNLM = "exp/rnnlm_lstm"

# egs/ami/s5b's scorer at one LM weight instead of nine.
SCORE = """#!/usr/bin/env bash
exec local/ami_score.sh --min-lmwt 10 --max-lmwt 10 "$@"
"""
PATH_SH = """export KALDI_ROOT={root}
. $KALDI_ROOT/tools/config/common_path.sh
export PATH=$PWD/utils:$PWD/steps:$PATH LC_ALL=C OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
"""

Run = Callable[..., subprocess.CompletedProcess[str]]
Pair = Callable[..., tuple[Path, Path]]


def link_tree(source: Path, target: Path) -> None:
    """Make a directory of links; where a checkout has left a link as a file that holds its target, to that."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file() and path.stat().st_size < 100 and (path.parent / path.read_text().strip()).exists():
            path = path.parent / path.read_text().strip()
        if path.is_dir():
            link_tree(path, target / path.name)
        else:
            (target / path.name).symlink_to(path.resolve())


def make_data(testbed: Path, target: Path, keys: set[str]) -> None:
    """Write a data directory of some utterances; its stm keeps its comments."""
    target.mkdir(parents=True)
    source = testbed / "data" / "eval"
    segments = [line for line in (source / "segments").read_text().splitlines() if line.split()[0] in keys]
    times = {(line.split()[1], float(line.split()[2])) for line in segments}
    recordings = dict(line.split(maxsplit=1) for line in (source / "reco2file_and_channel").read_text().splitlines())
    starts = {(*recordings[recording].split()[:2], begin) for recording, begin in times}
    for name in ("text", "utt2spk", "segments"):
        lines = (source / name).read_text().splitlines(keepends=True)
        (target / name).write_text("".join(line for line in lines if line.split()[0] in keys))
    stm = (source / "stm").read_text().splitlines(keepends=True)
    (target / "stm").write_text("".join(
        line for line in stm
        if line.startswith(";;") or (*line.split()[:2], float(line.split()[3])) in starts
    ))  # fmt: skip
    for name in ("reco2file_and_channel", "glm"):
        (target / name).symlink_to(source / name)


@pytest.fixture(scope="module")
def ami(tmp_path_factory, testbed, kaldi) -> Path:
    """A recipe directory as egs/ami/s5b, over a few real lattices in two jobs."""
    root, recipe = Path(os.environ["KALDI_ROOT"]), tmp_path_factory.mktemp("ami")
    if not (testbed / RNNLM / "final.raw").exists():
        pytest.skip(f"no {RNNLM} in the testbed")
    for source, name in (("egs/wsj/s5/steps", "steps"), ("egs/wsj/s5/utils", "utils"), ("scripts/rnnlm", "rnnlm")):
        link_tree(root / source, recipe / name)
    (recipe / "local").mkdir()
    (recipe / "local/score_asclite.sh").symlink_to(root / "egs/ami/s5b/local/score_asclite.sh")
    (recipe / "local/ami_score.sh").symlink_to(root / "egs/ami/s5b/local/score.sh")
    (recipe / "local/score.sh").write_text(SCORE)
    (recipe / "local/score.sh").chmod(0o755)
    (recipe / "path.sh").write_text(PATH_SH.format(root=root))
    (recipe / "cmd.sh").write_text("export decode_cmd=run.pl\n")
    make_lang(kaldi, testbed, recipe)
    (recipe / SOURCE).mkdir(parents=True)
    for name in ("final.mdl", "frame_subsampling_factor"):
        (recipe / "exp/chain/tdnn" / name).symlink_to(testbed / "exp/chain/tdnn" / name)
    (recipe / RNNLM).symlink_to(testbed / RNNLM)
    make_decode(kaldi, testbed, recipe)
    return recipe


def make_lang(kaldi, testbed: Path, recipe: Path) -> None:
    """Write data/lang_tg, which has a G.fst, and data/lang_carpa, which has the same n-gram as G.carpa.

    What Kaldi's unpruned scripts do with a G.fst needs an option of fstproject that OpenFst no longer has.
    """
    (recipe / "data/lang_carpa").mkdir(parents=True)
    (recipe / "data/lang_tg").symlink_to(testbed / "data/lang_tg")
    for name in ("words.txt", "phones"):
        (recipe / "data/lang_carpa" / name).symlink_to(testbed / "data/lang_tg" / name)
    words = dict(line.split() for line in (recipe / "data/lang_tg/words.txt").read_text().splitlines())
    symbols = f"--bos-symbol={words['<s>']} --eos-symbol={words['</s>']} --unk-symbol={words['<unk>']}"
    arpa = testbed / "data/local/lm/ami.o3g.kn.arpa.gz"
    kaldi(f"cd {recipe}; gunzip -c {arpa} | utils/map_arpa_lm.pl data/lang_tg/words.txt"
          f" | arpa-to-const-arpa {symbols} - data/lang_carpa/G.carpa")  # fmt: skip


def make_decode(kaldi, testbed: Path, recipe: Path) -> None:
    """Write decode directories of small lattices, of two jobs and of one, and the data directory of both."""
    keys: list[str] = []
    for job, theirs in ((1, 1), (2, 4)):
        copy = f"gunzip -c {testbed}/{SOURCE}/lat.{theirs}.gz | lattice-copy"
        text = kaldi(f"{copy} ark:- ark,t:-").stdout.decode()
        listed = [entry.split(maxsplit=1)[0] for entry in text.split("\n\n") if 25 <= entry.count("\n") <= 60][:KEYS]
        assert len(listed) == KEYS
        (recipe / "keys").write_text("".join(f"{key}\n" for key in listed))
        kaldi(f"{copy} --include={recipe}/keys ark:- ark:- | gzip -c > {recipe}/{SOURCE}/lat.{job}.gz")
        keys += listed
    (recipe / SOURCE / "num_jobs").write_text("2\n")
    (recipe / ONE_JOB).mkdir()
    (recipe / ONE_JOB / "lat.1.gz").symlink_to(recipe / SOURCE / "lat.1.gz")
    (recipe / ONE_JOB / "num_jobs").write_text("1\n")
    make_data(testbed, recipe / "data/ihm/eval", set(keys))


@pytest.fixture(scope="module")
def run(ami) -> Run:
    """Run a script in the recipe directory."""

    def call(script: str | Path, *words: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # Kaldi's scripts call python3
        env = {**os.environ, "MPQ_PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PATH": path}
        command = [str(script), *words]
        return subprocess.run(command, cwd=ami, env=env, capture_output=True, text=True, check=False, timeout=300)

    return call


@pytest.fixture(scope="module")
def pair(ami, run) -> Pair:
    """Run Kaldi's script and ours on the same arguments, ours with some more; return the two decode directories."""

    def call(kaldis: str, *words: str, more: tuple[str, ...] = ()) -> tuple[Path, Path]:
        name, made = Path(kaldis).stem, []
        for script, options, of in ((kaldis, (), "kaldi"), (ROOT / "local" / f"{name}.sh", more, "ours")):
            out = f"exp/chain/tdnn/decode_eval_tg_{name}_{of}"
            done = run(script, *options, *words, out)
            assert done.returncode == 0, done.stdout + done.stderr
            made.append(ami / out)
        return made[0], made[1]

    return call


@pytest.fixture(scope="module")
def best_paths(kaldi) -> Callable[[Path], dict[str, tuple[str, float]]]:
    """Return, by Kaldi's programs, the words and the cost at acoustic scale 0.1 of every utterance's best path."""

    def read(decode: Path) -> dict[str, tuple[str, float]]:
        out = kaldi(
            f"cd {decode}; gunzip -c lat.*.gz | lattice-1best --acoustic-scale=0.1 ark:- ark:- "
            "| nbest-to-linear ark:- ark:/dev/null ark,t:words ark,t:graph ark,t:acoustic; cat words graph acoustic"
        ).stdout.decode()
        values: dict[str, list[str]] = {}
        for line in out.splitlines():
            key, *rest = line.split()
            values.setdefault(key, []).append(" ".join(rest))
        return {key: (words, float(graph) + 0.1 * float(ac)) for key, (words, graph, ac) in values.items()}

    return read


def error_counts(decode: Path) -> list[int]:
    """Return sentences, words and the kinds of errors that the recipe's scorer counted."""
    report = (decode / "ascore_10/eval.ctm.filt.raw").read_text()
    (total,) = [line for line in report.splitlines() if re.match(r"\s*\|\s*Sum", line)]
    return [int(number) for number in re.findall(r"\d+", total)]


def check_same(theirs: Path, ours: Path, best_paths, tolerance: float) -> None:
    """Fail unless two decode directories have the same archives, and in these the same best paths and costs."""
    for pattern in ("lat.*.gz", "num_jobs", "log/rescorelm.*.log"):
        names = sorted(str(path.relative_to(theirs)) for path in theirs.glob(pattern))
        assert names == sorted(str(path.relative_to(ours)) for path in ours.glob(pattern))
    expected, found = best_paths(theirs), best_paths(ours)
    assert list(found) == list(expected)
    assert {key: words for key, (words, _) in found.items()} == {key: words for key, (words, _) in expected.items()}
    assert max(abs(found[key][1] - cost) for key, (_, cost) in expected.items()) < tolerance


needs_lattices = pytest.mark.skipif("rescore lattice" not in COMMANDS, reason="no mpq rescore lattice yet")


@needs_lattices
def test_the_pruned_script_does_what_kaldis_does(pair, best_paths):
    """With the same RNNLM, options and scorer, the old LM read as Kaldi reads it: the same best paths and errors."""
    words = ("--cmd", "run.pl", "--normalize", "true", "--weight", "0.45")
    more = ("--rescore-opts", "--old-reading backoff")
    arguments = ("data/lang_tg", RNNLM, "data/ihm/eval", SOURCE)
    theirs, ours = pair("rnnlm/lmrescore_pruned.sh", *words, *arguments, more=more)
    assert len(best_paths(ours)) == 2 * KEYS
    check_same(theirs, ours, best_paths, 2e-2)
    counts, expected = error_counts(ours), error_counts(theirs)
    assert counts[:2] == expected[:2]
    assert abs(counts[6] - expected[6]) <= 1  # minimum Bayes risk: beams that differ a little decide near ties


@needs_lattices
@pytest.mark.parametrize("script", ["lmrescore", "lmrescore_back"])
def test_the_unpruned_scripts_do_what_kaldis_do(pair, best_paths, script):
    """With every history a state of its own: which of several a merged one has depends on the order of visits.

    As Kaldi's default has it, not normalised. That the RNNLM was trained on text in its own order does not matter here.
    """
    words = ("--cmd", "run.pl", "--weight", "0.3", "--max-ngram-order", "0", "--skip-scoring", "true")
    theirs, ours = pair(f"rnnlm/{script}.sh", *words, "data/lang_carpa", RNNLM, "data/ihm/eval", ONE_JOB)
    check_same(theirs, ours, best_paths, 1e-3)


def test_the_nbest_script_does_what_kaldis_does(pair, best_paths):
    """With the same RNNLM, which Kaldi's script has no option to normalise: the same best paths and costs."""
    words = ("--cmd", "run.pl", "--N", "5", "--skip-scoring", "true", "0.4")
    theirs, ours = pair("rnnlm/lmrescore_nbest.sh", *words, "data/lang_carpa", RNNLM, "data/ihm/eval", ONE_JOB)
    check_same(theirs, ours, best_paths, 5e-3)


@pytest.fixture(scope="module")
def model_pt(ami) -> list[str]:
    """A small random Transformer of Kaldi's own class, as its training saves one; the options that say its sizes."""
    torch = pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("pytorchnn_model", ami / "steps/pytorchnn/model.py")
    kaldis = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kaldis)
    torch.manual_seed(1)
    words = len((ami / "data/lang_tg/words.txt").read_text().splitlines())
    model = kaldis.TransformerModel(words, 16, 2, 16, 2, 0.0, "gelu", tie_weights=True)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save(model.state_dict(), ami / "exp/model.pt")
    sizes = "--model-type Transformer --embedding-dim 16 --hidden-dim 16 --nlayers 2 --nhead 2"
    return [*sizes.split(), "--oov-symbol", "'<unk>'"]


def test_the_pytorch_nbest_script_does_what_kaldis_does(pair, best_paths, model_pt):
    """The same options, quotes of the OOV symbol included: the same best paths and costs, which Kaldi rounds."""
    words = ("--cmd", "run.pl", "--N", "5", "--weight", "0.6", *model_pt, "--skip-scoring", "true")
    arguments = ("data/lang_carpa", "exp/model.pt", "data/lang_tg/words.txt", "data/ihm/eval", ONE_JOB)
    theirs, ours = pair("steps/pytorchnn/lmrescore_nbest_pytorchnn.sh", *words, *arguments)
    check_same(theirs, ours, best_paths, 5e-3)


@needs_lattices
def test_the_pytorch_lattice_script_finds_what_kaldis_finds(pair, best_paths, model_pt):
    """Kaldi's arcs have the scores of one path each; on lattices so small the best path's are its own."""
    words = ("--cmd", "run.pl", "--weight", "0.6", *model_pt, "--skip-scoring", "true")
    arguments = ("data/lang_carpa", "exp/model.pt", "data/lang_tg/words.txt", "data/ihm/eval", ONE_JOB)
    theirs, ours = pair("steps/pytorchnn/lmrescore_lattice_pytorchnn.sh", *words, *arguments)
    assert best_paths(ours).keys() == best_paths(theirs).keys()
    for key, (words_found, cost) in best_paths(ours).items():
        assert (words_found, pytest.approx(cost, abs=5e-3)) == best_paths(theirs)[key]
