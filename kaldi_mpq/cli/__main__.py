# SPDX-License-Identifier: Apache-2.0
"""``python -m kaldi_mpq.cli`` is ``mpq``."""

import sys

from kaldi_mpq.cli.main import main

sys.exit(main())
