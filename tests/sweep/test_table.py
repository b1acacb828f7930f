# SPDX-License-Identifier: Apache-2.0
"""The table: seeds together, references above, what is better than uniform precision and whether the seeds agree."""

import json

import pytest

from kaldi_mpq.artefact import write_json
from kaldi_mpq.errors import ConfigError, MissingInputError, MpqError
from kaldi_mpq.settings import as_plain
from kaldi_mpq.sweep.cell import PLAN
from kaldi_mpq.sweep.rows import entries_of
from kaldi_mpq.sweep.settings import SweepTableSettings
from kaldi_mpq.sweep.table import print_table, write_tables


@pytest.fixture
def finished(sweep_of, tmp_path):
    """Return a function that lays down rows (method, budget, fit, seed, bytes, perplexity) and returns the sweep."""

    def make(*rows, **options):
        settings = sweep_of({"method": "uniform", "budget": "uniform_bits=2"}, **options)
        write_json(settings.out / PLAN, as_plain(settings))
        for method, budget, fit, seed, size, perplexity in rows:
            row = {
                "label": method, "method": method, "budget": budget, "fit": fit, "seed": seed, "budget_bytes": 1000,
                "bytes": size, "ratio": 9960 / size, "mean_bits": 1.0, "perplexity": {"dev": 2.0, "eval": perplexity},
                "seconds": {"search": 1.0, "fit": 2.0 * seed}, "restarted": seed == 3, "allocation_gap": None,
            }  # fmt: skip
            write_json(settings.out / "cells" / f"{method}{budget}{fit}{seed}" / "row.json", row)
        return settings

    return make


def lines_of(text):
    """Return the cells of each line of a Markdown table, head first."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_seeds_of_one_setting_are_one_line(finished):
    """Mean and standard deviation, the largest file, mean seconds, marked where a part of them is missing."""
    settings = finished(*(("kl", "ratio=16", "ste", seed, 990 + seed, 10.0 + seed) for seed in (1, 2, 3)))
    line = lines_of(write_tables(settings))[-1]
    assert line["PPL eval"] == "12.00 ± 1.00"
    assert (line["seeds"], line["bytes"], line["seconds"]) == ("3", "993", "5+")
    assert line["over uniform"] == "-"


def test_uniform_precision_is_compared_at_the_same_budget_and_fit(finished):
    """In percent; a star where all seeds lie on one side of all of the other's, and there are more than one."""
    rows = [("uniform", "ratio=16", "ste", seed, 1000, 20.0 + seed) for seed in (1, 2)]
    rows += [("uniform", "ratio=16", "round", 1, 1000, 99.0), ("uniform", "ratio=8", "ste", 1, 1000, 1.0)]
    rows += [("kl", "ratio=16", "ste", seed, 1000, 10.0 + seed) for seed in (1, 2)]
    rows += [("nas", "ratio=16", "ste", seed, 1000, perplexity) for seed, perplexity in ((1, 10.0), (2, 21.5))]
    rows += [("csq", "ratio=16", "own", seed, 1000, 40.0 + 3 * seed) for seed in (1, 2)]
    rows += [("hessian", "ratio=16", "ste", 1, 1000, 10.75)]
    found = {(line["method"], line["fit"]): line["over uniform"] for line in lines_of(write_tables(finished(*rows)))}
    assert found["kl", "ste"] == "-46.5%*"
    assert found["nas", "ste"] == "-26.7%"
    assert found["csq", "own"] == "+107.0%*"
    assert found["hessian", "ste"] == "-50.0%"
    assert found["uniform", "round"] == "-"


def test_references_stand_above_and_lines_are_sorted(finished, toy_lm, tmp_path):
    """The n-gram, the float LM, then by budget and perplexity; over float is told."""
    ngram = tmp_path / "ngram"
    write_json(ngram / "ppl.json", {"dev": {"perplexity": 30.0}})
    (ngram / "lm.arpa.gz").write_bytes(b"12345")
    settings = finished(
        ("b", "ratio=16", "ste", 1, 1000, 12.0), ("a", "ratio=16", "ste", 1, 1000, 11.0), ngram=ngram
    )  # fmt: skip
    lines = lines_of(write_tables(settings))
    assert [line["method"] for line in lines] == ["n-gram", f"{toy_lm.name} float", "a", "b"]
    assert lines[0]["bytes"] == "5"
    assert lines[1]["bytes"] == f"{(toy_lm / 'model.safetensors').stat().st_size:,}"
    assert lines[1]["over float"] == lines[0]["over float"] == "-"


def test_every_form_has_the_same_numbers(finished):
    """Markdown, TSV and JSON."""
    settings = finished(*(("kl", "ratio=16", "ste", seed, 990, 10.0 + seed) for seed in (1, 2)))
    text = write_tables(settings, picture=True)
    assert (settings.out / "table.md").read_text() == text + "\n"
    head, *lines = [line.split("\t") for line in (settings.out / "table.tsv").read_text().splitlines()]
    tsv = dict(zip(head, lines[-1], strict=True))
    (entry,) = [each for each in json.loads((settings.out / "table.json").read_text()) if each["label"] == "kl"]
    assert float(tsv["ppl_eval"]) == entry["perplexities"]["eval"]["mean"] == 11.5
    assert float(tsv["sd_eval"]) == pytest.approx(entry["perplexities"]["eval"]["spread"], rel=1e-4)
    assert (tsv["seeds"], entry["seeds"]) == ("1,2", [1, 2])
    assert (settings.out / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_finished_is_a_table_too(finished):
    """Of the float LM alone."""
    settings = finished()
    assert len(lines_of(write_tables(settings, picture=True))) == 1
    assert len(entries_of(settings)) == 1


def test_wrong_input_is_refused(finished, tmp_path):
    """No directories, one without a sweep, a set that was not measured, a file without markers, a row that is none."""
    settings = finished(("kl", "ratio=16", "ste", 1, 990, 10.0))
    (tmp_path / "plain.md").write_text("nothing\n")
    outs = (settings.out,)
    for options, error in [
        ({}, ConfigError),
        ({"outs": (tmp_path,)}, MissingInputError),
        ({"outs": outs, "test_set": "evil"}, ConfigError),
        ({"outs": outs, "into": tmp_path / "plain.md"}, ConfigError),
        ({"outs": outs, "plot": tmp_path / "plain.txt"}, ConfigError),
    ]:
        with pytest.raises(error):
            print_table(SweepTableSettings(**options))
    (settings.out / "cells" / "bad").mkdir()
    write_json(settings.out / "cells" / "bad" / "row.json", {"label": "kl"})
    with pytest.raises(MpqError, match="not a row"):
        print_table(SweepTableSettings(outs=outs))
