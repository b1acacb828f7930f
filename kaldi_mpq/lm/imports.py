# SPDX-License-Identifier: Apache-2.0
"""``mpq lm import``: which kind of foreign model it is.

Not here: the two kinds (`pytorchnn`, `kaldi_rnnlm.importer`).
"""

from __future__ import annotations

from kaldi_mpq.artefact import require
from kaldi_mpq.errors import ModelFileError
from kaldi_mpq.lm.kaldi_rnnlm.importer import import_kaldi_rnnlm
from kaldi_mpq.lm.pytorchnn import import_pytorchnn
from kaldi_mpq.lm.settings import ImportSettings

__all__ = ["import_lm"]


def import_lm(settings: ImportSettings) -> str:
    """Write an LM directory made from a Kaldi RNNLM directory or a file of pytorchnn; return its shape in one line.

    Raises:
      MpqError: what `import_kaldi_rnnlm` and `import_pytorchnn` raise.
    """
    require([path for path in (settings.model, settings.words) if path is not None])
    if settings.model.is_dir():
        return import_kaldi_rnnlm(settings)
    with settings.model.open("rb") as stream:
        if b"<Nnet3>" in stream.read(64):
            hint = "name its directory: the embeddings and words beside it are needed too"
            raise ModelFileError("an nnet3 network alone", where=settings.model, hint=hint)
    return import_pytorchnn(settings)
