# SPDX-License-Identifier: Apache-2.0
"""Mixed-precision quantized language models for Kaldi lattice rescoring.

Importing the package loads nothing heavy: torch and k2 are imported by the verb that needs them.
"""

from kaldi_mpq.artefact import use_fast_mkl_on_amd

__all__ = ["__version__"]
__version__ = "0.1.0"

use_fast_mkl_on_amd()
