# SPDX-License-Identifier: Apache-2.0
"""The table says what the files say, where it should stand, and how it was made."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from kaldi_mpq.errors import ConfigError, MissingInputError, ModelFileError, ScoringError
from kaldi_mpq.score.align import align_words
from kaldi_mpq.score.aligned import Aligned, total, write_per_utt
from kaldi_mpq.score.rows import read_rows
from kaldi_mpq.score.settings import TableSettings
from kaldi_mpq.score.significance import matched_pairs
from kaldi_mpq.score.table import END, START, write_table

REF = ("a", "b", "c", "d")
GOOD, FAIR, BAD = REF, ("a", "x", "c", "d"), ("x", "y", "z")


def texts(hyps) -> dict[str, Aligned]:
    """Return the alignments of hypotheses with one reference."""
    return {f"u-{i}": Aligned(f"u-{i}", "", REF, hyp, align_words(REF, hyp)) for i, hyp in enumerate(hyps)}


def make_system(directory: Path, hyps, **files: object) -> Path:
    """Write what mpq score wer leaves of a system scored on dev and eval, and other JSON files."""
    sets = {}
    for name in ("dev", "eval"):
        aligned = list(texts(hyps).values())
        write_per_utt(directory / name / "per_utt", aligned)
        sets[name] = {**total(aligned).to_dict(), "per_utt": f"{name}/per_utt"}
    (directory / "wer.json").write_text(json.dumps({"signature": "scorer:test", "sets": sets}))
    for name, value in files.items():
        (directory / f"{name}.json").write_text(json.dumps(value))
    return directory


@pytest.fixture
def systems(tmp_path: Path) -> dict[str, Path]:
    """A first pass and a model that is better than it."""
    hyps = {"first": [GOOD, FAIR, BAD] * 6, "model": [GOOD, GOOD, FAIR] * 6}
    ppl = {"dev": {"perplexity": 79.04}, "eval": {"perplexity": 67.6}}
    size = {"bytes": 5_242_880, "mean_bits": 4.126}
    return {
        "first": make_system(tmp_path / "first", hyps["first"]),
        "model": make_system(tmp_path / "model", hyps["model"], ppl=ppl, size=size),
    }


def rows_of(systems) -> tuple[str, ...]:
    """Return the rows of the table."""
    return (f"3-gram={systems['first']}", f"LSTM 4 bit={systems['model']}")


def test_cells_are_what_the_files_say(systems):
    """Bits, bytes, perplexities, error rates, and p of the matched pairs test on eval."""
    text = write_table(TableSettings(rows_of(systems), reference=("3-gram",)))
    head, _, first, model = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[:4])
    assert head == ["system", "bits", "bytes", "PPL dev", "PPL eval", "WER dev", "WER eval", "p against 3-gram"]
    test = matched_pairs(texts([GOOD, GOOD, FAIR] * 6), texts([GOOD, FAIR, BAD] * 6))
    assert test.p < 0.01
    wer_first, wer_model = (f"{total(texts(h).values()).wer:.2f}" for h in ([GOOD, FAIR, BAD], [GOOD, GOOD, FAIR]))
    assert first == ["3-gram", "-", "-", "-", "-", wer_first, wer_first, "-"]
    shown = "< 0.001" if test.p < 0.0005 else f"{test.p:.3f}"
    assert model == ["LSTM 4 bit", "4.126", "5,242,880", "79.0", "67.6", wer_model, wer_model, shown]


def test_table_tells_how_it_was_made(systems, tmp_path):
    """The command that stands below it makes the same table."""
    import shlex

    from kaldi_mpq.cli.main import parse
    from kaldi_mpq.settings import build

    settings = TableSettings(rows_of(systems), reference=("3-gram", "LSTM 4 bit"), test_set="dev")
    text = write_table(settings)
    command = next(line.strip() for line in text.splitlines() if line.strip().startswith("mpq score table"))
    again = build(TableSettings, parse(TableSettings, shlex.split(command)[3:]))
    assert again == settings and write_table(again) == text
    assert "scorer:test" in text and "on dev" in text


def test_text_around_the_markers_stays(systems, tmp_path):
    """Only what is between them changes; a second run leaves no trace of the first."""
    results = tmp_path / "RESULTS.md"
    results.write_text(f"# Results\n\n{START}\nold\n{END}\n\nafter\n")
    settings = TableSettings(rows_of(systems), into=results)
    text = write_table(settings)
    once = results.read_text()
    assert once == f"# Results\n\n{START}\n\n{text}\n\n{END}\n\nafter\n"
    write_table(settings)
    assert results.read_text() == once


@pytest.mark.parametrize("content", ["nothing", START, f"{END}\n{START}", f"{START}{START}{END}"])
def test_file_without_a_place_is_left_alone(systems, tmp_path, content):
    """One start and one end below it, or nothing is written."""
    results = tmp_path / "RESULTS.md"
    results.write_text(content)
    with pytest.raises(ConfigError, match="no place for the table"):
        write_table(TableSettings(rows_of(systems), into=results))
    assert results.read_text() == content


def test_float_model_is_measured(systems, tmp_path):
    """Bits from the header of model.safetensors, bytes from the file; first directory first."""
    lm = tmp_path / "lm"
    lm.mkdir()
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {}}).encode()
    (lm / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
    (lm / "ppl.json").write_text('{"dev": {"perplexity": 1.5}}')
    (row,) = read_rows([f"float={systems['first']},{lm}"])
    assert (row.bits, row.size_bytes, row.perplexities) == (32.0, 8 + len(header) + 24, {"dev": 1.5})
    (row,) = read_rows([f"other={systems['model']},{lm}"])
    assert (row.bits, row.size_bytes, row.perplexities["dev"]) == (4.126, 5_242_880, 79.04)
    (lm / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        read_rows([f"float={lm}"])


def test_size_by_hand_and_by_file(systems, tmp_path):
    """A model file is its size; bits:N and bytes:N win over what is measured."""
    (tmp_path / "G.carpa").write_bytes(bytes(1234))
    (row,) = read_rows([f"n-gram={tmp_path / 'G.carpa'},{systems['first']},bits:16"])
    assert (row.bits, row.size_bytes) == (16.0, 1234)
    (row,) = read_rows([f"n-gram={tmp_path / 'G.carpa'},bytes:99"])
    assert row.size_bytes == 99 and row.sets == {}
    with pytest.raises(ConfigError, match="bad value for bits"):
        read_rows([f"n-gram={tmp_path},bits:few"])


def test_all_missing_paths_are_named(tmp_path):
    """Of every row."""
    with pytest.raises(MissingInputError, match=r"(?s)one.*two"):
        read_rows([f"a={tmp_path / 'one'}", f"b={tmp_path},{tmp_path / 'two'}"])


@pytest.mark.parametrize("rows", [(), ("name",), ("=path",), ("name=",), ("name=/", "name=/")])
def test_bad_rows_are_shown(rows):
    """Not NAME=PATH, or a name twice."""
    with pytest.raises(ConfigError, match="row"):
        read_rows(rows)


@pytest.mark.parametrize("name", ["wer", "ppl", "size"])
def test_other_json_is_refused(systems, name):
    """With the file's name."""
    (systems["model"] / f"{name}.json").write_text('{"dev": {"x": 1}}')
    with pytest.raises(ScoringError, match=rf"{name}\.json"):
        read_rows([f"a={systems['model']}"])


def test_unknown_reference_and_set_are_refused(systems):
    """The nearest name is told."""
    with pytest.raises(ConfigError, match="did you mean '3-gram'"):
        write_table(TableSettings(rows_of(systems), reference=("3gram",)))
    with pytest.raises(ConfigError, match="did you mean 'eval'"):
        write_table(TableSettings(rows_of(systems), test_set="evel"))


def test_systems_on_different_utterances_have_no_p(systems, tmp_path):
    """Both rows are named."""
    other = make_system(tmp_path / "other", [GOOD] * 3)
    with pytest.raises(ScoringError, match=r"other against 3-gram.*different utterances"):
        write_table(TableSettings((*rows_of(systems), f"other={other}"), reference=("3-gram",)))


def test_stale_alignments_are_noticed(systems):
    """per_utt of another scoring than wer.json's."""
    write_per_utt(systems["model"] / "eval" / "per_utt", list(texts([GOOD] * 18).values()))
    with pytest.raises(ScoringError, match=r"do not belong to wer\.json"):
        write_table(TableSettings(rows_of(systems), reference=("3-gram",)))


def test_rows_scored_differently_are_noticed(systems, caplog):
    """Both signatures are shown."""
    report = json.loads((systems["model"] / "wer.json").read_text())
    (systems["model"] / "wer.json").write_text(json.dumps({**report, "signature": "scorer:other"}))
    assert "scorer:test; scorer:other" in write_table(TableSettings(rows_of(systems)))
    assert "not scored alike" in caplog.text


def test_picture_is_written(systems, tmp_path):
    """As PNG and SVG; another ending is refused."""
    pytest.importorskip("matplotlib")
    write_table(TableSettings(rows_of(systems), plot=tmp_path / "wer.png"))
    assert (tmp_path / "wer.png").read_bytes().startswith(b"\x89PNG")
    write_table(TableSettings(rows_of(systems), plot=tmp_path / "wer.svg"))
    assert "LSTM 4 bit" in (tmp_path / "wer.svg").read_text()
    with pytest.raises(ConfigError, match="unknown kind of picture"):
        write_table(TableSettings(rows_of(systems), plot=tmp_path / "wer.bmp"))
