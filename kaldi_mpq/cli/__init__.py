# SPDX-License-Identifier: Apache-2.0
"""The ``mpq`` command: one subcommand per verb. Not here: what the verbs do."""
