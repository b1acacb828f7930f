# SPDX-License-Identifier: Apache-2.0
# Everything works in a fresh clone: what it needs is installed first (local/env/make_env.sh), and a second call starts at once.
.PHONY: help env env-current test test-current check demo sample bench results clean

PYTEST_ARGS ?=
# Options of recipes/mini/run.sh, as in make demo DEMO_ARGS="--lm transformer".
DEMO_ARGS ?=
# The lattices that are rescored for speed: the developers' dev set where it is, else the sample.
BENCH_DECODE ?= $(firstword $(wildcard ../shared/testbed/ami/exp/chain/tdnn/decode_dev_tg) tests/data/ami/exp/chain/tdnn/decode_dev_tg)
SHELL_FILES = .ci/run $(shell find local recipes benchmarks -name '*.sh' | sort)

help:              ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

env:               ## .venv: Python 3.10, torch 1.13.1, k2, this package
	@local/env/make_env.sh k2

env-current:       ## .venv-current: Python 3.11 or later, current torch
	@local/env/make_env.sh current

test: env check    ## checks, then all tests
	.venv/bin/python -m pytest $(PYTEST_ARGS)

test-current: env-current  ## all tests on the current stack
	.venv-current/bin/python -m pytest $(PYTEST_ARGS)

check: env         ## ruff, shellcheck, layers of imports, tests that cannot fail
	.venv/bin/ruff check
	.venv/bin/shellcheck --external-sources $(SHELL_FILES)
	.venv/bin/lint-imports --no-logo
	.venv/bin/python tests/lint_asserts.py tests

demo: env          ## recipes/mini, from chat text by way of speech, acoustic model and lattices to the table: ten minutes
	bash recipes/mini/run.sh --out build/demo $(DEMO_ARGS)

sample: env        ## all stages of the AMI recipe on the 60 real utterances in tests/data, with tiny models: two minutes
	bash recipes/ami/run.sh --kaldi-dir tests/data/ami --out build/sample --quick true --max-jobs 0 --bits "4 2" --rescore "nbest lattice"

bench: env         ## speed of reading, rescoring and training beside their peers, in the same run
	.venv/bin/python benchmarks/lattice_io.py --archive $(lastword $(sort $(wildcard $(BENCH_DECODE)/lat.*.gz)))
	.venv/bin/python benchmarks/nbest_speed.py --decode $(BENCH_DECODE)
	.venv/bin/python benchmarks/lattice_speed.py
	.venv/bin/python benchmarks/packed_speed.py
	benchmarks/peers/make_env.sh || echo "bench: without ONNX Runtime and CTranslate2"
	.venv/bin/python benchmarks/against_peers.py
	.venv/bin/python benchmarks/lm_train.py

results: env       ## stage 7 of the AMI recipe again, written into recipes/ami/RESULTS.md (KALDI_DIR=...)
	bash recipes/ami/run.sh --kaldi-dir "$${KALDI_DIR:?the Kaldi recipe directory}" --stage 7 --write-results true

clean:             ## what was built and measured; keeps environments and recipes' experiments
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache benchmarks/out
	find kaldi_mpq tests -name __pycache__ -type d -prune -exec rm -rf {} +
