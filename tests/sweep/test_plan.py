# SPDX-License-Identifier: Apache-2.0
"""Blocks become cells: in which order, under which names, with which settings; faults are told before anything runs."""

import pytest

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.sweep.plan import cells_of


def names_of(settings):
    """Return the names of the cells in their order."""
    return [cell.name for cell in cells_of(settings)]


def test_a_list_stands_for_one_cell_each(sweep_of):
    """Every combination is there once, and each has its own place and its own settings."""
    block = {"method": ["uniform", "kl"], "budget": ["uniform_bits=2", "ratio=1.5", 6000], "fit": ["ste", "round"]}
    cells = cells_of(sweep_of(block, seeds=[3, 5]))
    assert len({cell.name for cell in cells}) == 2 * 3 * 2 * 2
    for cell in cells:
        assert cell.name == f"{cell.search.out.name}_{cell.fit}"
        assert cell.search.seed == cell.fitting.seed == cell.seed
        assert cell.fitting.precision == cell.search.out / "precision.json"
        budget = (cell.search.uniform_bits, cell.search.ratio, cell.search.budget)
        assert (
            budget
            == {"uniform_bits=2": (2, None, None), "ratio=1.5": (None, 1.5, None), "6000": (None, None, 6000)}[
                cell.budget
            ]
        )


def test_the_first_seed_of_everything_comes_first_then_the_order_of_the_file(sweep_of):
    """Seeds vary slowest over all blocks, so that the table is whole at one seed before it has two."""
    blocks = [
        {"method": "kl", "budget": "ratio=1.5"},
        {"method": "uniform", "budget": ["uniform_bits=4", "uniform_bits=2"]},
    ]
    names = names_of(sweep_of(*blocks, seeds=[2, 1]))
    assert names == [
        "kl_ratio1.5_s2_ste", "uniform_4bit_s2_ste", "uniform_2bit_s2_ste",
        "kl_ratio1.5_s1_ste", "uniform_4bit_s1_ste", "uniform_2bit_s1_ste",
    ]  # fmt: skip


def test_cells_that_share_a_search_name_the_one_that_runs_it(sweep_of):
    """The first in order runs it, the others wait for that; another option is another search."""
    block = {"method": "kl", "budget": "ratio=1.5", "around": ["float", "auto"], "fit": ["ste", "round"]}
    cells = {cell.name: cell for cell in cells_of(sweep_of(block))}
    owners = {name: cell.owner for name, cell in cells.items()}
    assert owners == {
        "kl_ratio1.5_around-float_s1_ste": None,
        "kl_ratio1.5_around-float_s1_round": "kl_ratio1.5_around-float_s1_ste",
        "kl_ratio1.5_around-auto_s1_ste": None,
        "kl_ratio1.5_around-auto_s1_round": "kl_ratio1.5_around-auto_s1_ste",
    }
    assert {cell.label for cell in cells.values()} == {"kl around=float", "kl around=auto"}


def test_prototypes_are_the_uniform_cells_of_a_fit(sweep_of):
    """Their weights are kept, and the search is told where they are; without such cells it is refused."""
    uniform = {"method": "uniform", "budget": [f"uniform_bits={bits}" for bits in (1, 2, 4, 8)], "fit": "ste"}
    measured = {"method": "kl", "budget": "ratio=1.5", "prototypes": "ste"}
    *prototypes, cell = cells_of(sweep_of(uniform, measured))
    assert cell.prototypes == tuple(each.name for each in prototypes)
    assert all(each.keep_weights for each in prototypes)
    assert not cell.keep_weights
    assert cell.search.prototypes == tuple(
        f"{bits}={each.fitting.out}" for bits, each in zip((1, 2, 4, 8), prototypes, strict=True)
    )
    with pytest.raises(ConfigError, match=r"prototypes that no cell makes.*uniform_4bit_s1_ste"):
        cells_of(sweep_of({**uniform, "budget": "uniform_bits=2"}, measured))


def test_methods_that_train_have_fits_of_their_own(sweep_of):
    """Unless another one is asked for at the widths that they find."""
    own, other = cells_of(
        sweep_of({"method": "csq", "budget": "ratio=1.5"}, {"method": "csq", "budget": "ratio=1.5", "fit": "ste"})
    )
    assert (own.fit, own.fitting) == ("own", None)
    assert other.fitting.method == "ste"
    assert other.owner == own.name


def test_scales_are_shared_alike_in_search_and_fit(sweep_of):
    """Or the file would be larger than the budget."""
    (cell,) = cells_of(sweep_of({"method": "kl", "budget": "ratio=1.2"}, search={"granularity": "block", "block": 4}))
    assert (cell.fitting.granularity, cell.fitting.block) == ("block", 4)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"method": "kl", "budget": "ratio=16", "sede": 1}, "unknown key 'sede'.*did you mean 'seed'"),
        ({"method": "kl", "budget": "ratio=16", "out": "x"}, "unknown key 'out'"),
        ({"method": "kl"}, "no budget"),
        ({"budget": "ratio=16"}, "no method"),
        ({"method": "lk", "budget": "ratio=16"}, "unknown method 'lk'"),
        ({"method": "kl", "budget": "ratoi=16"}, "bad budget"),
        ({"method": "kl", "budget": "ratio=-1"}, "bad budget"),
        ({"method": "kl", "budget": "uniform_bits=3"}, "bad value for uniform_bits"),
        ({"method": "kl", "budget": "ratio=16", "fit": "rond"}, "no fit is called 'rond'.*did you mean 'round'"),
        ({"method": "kl", "budget": "ratio=16", "fit": "own"}, "kl does not train"),
        ({"method": "kl", "budget": "ratio=16", "probes": 1}, "bad value for probes"),
        ({"method": "kl", "budget": "ratio=16", "seed": [1, 1]}, "is there twice"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_block_is_refused_by_number(sweep_of, block, message):
    """The message says which block, what is wrong and what was meant."""
    good = {"method": "uniform", "budget": "uniform_bits=2"}
    with pytest.raises(ConfigError, match=message) as caught:
        cells_of(sweep_of(good, block))
    assert "block 2" in str(caught.value) or "twice" in message or "probes" in message


@pytest.mark.parametrize(
    ("fits", "message"),
    [
        ({"ste": {"method": "ste", "epoch": 1}}, "fits, ste: unknown setting 'epoch'"),
        ({"ste": {"method": "ste", "granularity": "row"}}, "granularity is set by the sweep"),
        ({"ste": "ste"}, "not options of mpq fit"),
    ],
)
def test_bad_fits_are_refused(sweep_of, fits, message):
    """By name."""
    with pytest.raises(ConfigError, match=message):
        cells_of(sweep_of({"method": "uniform", "budget": "uniform_bits=2", "fit": "ste"}, fits=fits))


def test_settings_of_the_sweep_are_checked(sweep_of):
    """No cells, no seeds, no job at a time."""
    for options in ({"cells": ()}, {"seeds": [-1]}, {"nj": 0}):
        with pytest.raises(ConfigError):
            sweep_of(*options.pop("cells", [{"method": "uniform", "budget": 6000}]), **options)
