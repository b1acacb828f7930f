# SPDX-License-Identifier: Apache-2.0
"""Kaldi's own programs as the judge: they read what is written here, and what they write is read here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kaldi_mpq.native import Lattices
from tests.native.archives import as_text_tells, assert_same, read, six_digits, write
from tests.native.random_lattices import batches, build, dense

# Each example starts ten processes; shrinking would start thousands.
FEW = settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def real(testbed: Path) -> Lattices:
    """Every tenth lattice of a real archive."""
    lattices = read(testbed / "exp/chain/tdnn/decode_dev_tg/lat.1.gz")
    return lattices.select(np.arange(0, len(lattices), 10))


def of_type(lattices: Lattices, compact: bool) -> Lattices:
    """Return the lattices of one type."""
    return lattices.select(np.flatnonzero(lattices.compact == compact))


def random_batch(seed: int) -> Lattices:
    """Return bigger random lattices, with unsorted states of high out-degree."""
    rng = np.random.default_rng(seed)
    return build(*[dense(rng, 6, 4, key=f"dense-{i}") for i in range(3)])


def in_float32(values: np.ndarray) -> np.ndarray:
    """Return costs as a binary archive of Kaldi's has them."""
    return values.astype(np.float32).astype(np.float64)


def six_digits_in_float32(values: np.ndarray) -> np.ndarray:
    """Return costs as Kaldi has them after it read text."""
    return in_float32(six_digits(values))


@FEW
@given(lattices=batches(max_lattices=6), seed=st.integers(0, 1000))
def test_kaldi_reads_every_form(kaldi, tmp_path: Path, lattices: Lattices, seed: int):
    """lattice-copy reads our binary and text, float and double, gz and scp, and its copy is our lattice exactly."""
    for compact in (True, False):
        some = of_type(Lattices.concat([lattices, random_batch(seed)]), compact)
        if len(some) == 0:
            continue
        copy = f"lattice-copy --write-compact={str(compact).lower()}"  # each type is copied as itself
        for text in (False, True):
            for double in (False, True):
                write(f"ark,scp:{tmp_path}/ours,{tmp_path}/scp", some, text=text, double=double)
                kaldi(f"{copy} scp:{tmp_path}/scp ark:{tmp_path}/theirs")
                expected = as_text_tells(some) if text else some
                expected.compact[:] = compact  # which Kaldi was told
                kept = six_digits_in_float32 if text and not double else in_float32
                assert_same(read(tmp_path / "theirs"), expected, kept)
        write(tmp_path / "ours.gz", some)
        kaldi(f"{copy} 'ark:gunzip -c {tmp_path}/ours.gz |' ark,t:{tmp_path}/theirs")
        assert_same(as_text_tells(read(tmp_path / "theirs")), as_text_tells(some), six_digits)


@pytest.mark.parametrize("compact", [True, False])
def test_our_text_is_kaldis_text(kaldi, tmp_path: Path, real: Lattices, compact: bool):
    """Byte for byte, on real and random lattices of both types."""
    write(tmp_path / "ours", Lattices.concat([real, random_batch(1)]))
    kaldi(f"lattice-copy --write-compact={str(compact).lower()} ark:{tmp_path}/ours ark:{tmp_path}/theirs")
    kaldi(f"lattice-copy --write-compact={str(compact).lower()} ark:{tmp_path}/theirs ark,t:{tmp_path}/theirs.txt")
    write(tmp_path / "ours.txt", read(tmp_path / "theirs"), text=True)
    assert (tmp_path / "ours.txt").read_bytes() == (tmp_path / "theirs.txt").read_bytes()


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("mode", ["ark", "ark,t"])
def test_real_lattices_through_kaldi_and_back(kaldi, tmp_path: Path, real: Lattices, mode: str, compact: bool):
    """Ours, copied by Kaldi in any form, read and written by us again, is equivalent to the original for Kaldi."""
    write(tmp_path / "ours.gz", real)
    copy = f"lattice-copy --write-compact={str(compact).lower()}"
    kaldi(f"{copy} 'ark:gunzip -c {tmp_path}/ours.gz |' '{mode}:{tmp_path}/theirs'")
    write(tmp_path / "back", read(tmp_path / "theirs"))
    same = kaldi(f"lattice-equivalent --delta=0.01 'ark:gunzip -c {tmp_path}/ours.gz |' ark:{tmp_path}/back")
    assert f"Done {len(real)} lattices, {len(real)} were equivalent" in same.stderr.decode()


def test_kaldi_takes_our_output_from_a_pipe_into_a_pipe(kaldi, tmp_path: Path, real: Lattices):
    """The property bits let Kaldi's programs copy from pipe to pipe, and best paths are those of the original."""
    write(tmp_path / "ours.gz", real)
    through = kaldi(
        f"gunzip -c {tmp_path}/ours.gz | lattice-scale --acoustic-scale=0.5 ark:- ark:- "
        f"| lattice-scale --acoustic-scale=2 ark:- ark:- | cat > {tmp_path}/through"
    )
    assert through.returncode == 0
    found = read(tmp_path / "through")
    assert found.keys == real.keys
    np.testing.assert_array_equal(found.arc_acoustic, real.arc_acoustic)


def test_kaldis_script_file_is_read(kaldi, tmp_path: Path, real: Lattices):
    """ark,scp written by Kaldi, binary and text; and both programs agree on offsets."""
    write(f"ark,scp:{tmp_path}/ours,{tmp_path}/ours.scp", real)
    for mode, kept in (("", np.asarray), (",t", six_digits)):
        kaldi(f"lattice-copy ark:{tmp_path}/ours ark{mode},scp:{tmp_path}/theirs,{tmp_path}/theirs.scp")
        assert_same(read(f"scp:{tmp_path}/theirs.scp"), real, kept)
    kaldi(f"lattice-copy ark:{tmp_path}/ours ark,scp:{tmp_path}/theirs,{tmp_path}/theirs.scp")
    assert (tmp_path / "theirs.scp").read_text() == (tmp_path / "ours.scp").read_text().replace("/ours", "/theirs")


def test_pipes_of_kaldis_programs_are_sources_and_sinks(kaldi, tmp_path: Path, real: Lattices, monkeypatch):
    """`ark:lattice-copy ... |` and `ark:| lattice-copy ...` work as in Kaldi, with its programs on PATH."""
    path = kaldi("echo -n $PATH").stdout.decode()
    library = kaldi("echo -n $LD_LIBRARY_PATH").stdout.decode()
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("LD_LIBRARY_PATH", library)
    write(f"ark:| lattice-copy ark:- ark,t:{tmp_path}/t 2>/dev/null", real)
    assert_same(read(f"ark,s,cs:lattice-copy ark:{tmp_path}/t ark:- 2>/dev/null |"), real, six_digits_in_float32)
