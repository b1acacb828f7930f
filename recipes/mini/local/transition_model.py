# SPDX-License-Identifier: Apache-2.0
"""final.mdl as Kaldi's lattice programs need it: topology and transition-ids, in text form, without a network.

It lets `lattice-align-words` and `show-transitions` read the lattices' alignments. Kaldi's decoders cannot use it: they
want Kaldi's network behind it.
"""

from __future__ import annotations

import math
from pathlib import Path

from phones import PhoneTable, first_pdf, loop_pdf

from kaldi_mpq.artefact import writing

__all__ = ["write_topology", "write_transition_model"]


def _topology(phones: PhoneTable) -> str:
    numbers = " ".join(str(number) for number in range(1, len(phones.names) + 1))
    return (
        f"<Topology>\n<TopologyEntry>\n<ForPhones>\n{numbers}\n</ForPhones>\n"
        "<State> 0 <ForwardPdfClass> 0 <SelfLoopPdfClass> 1 <Transition> 0 0.5 <Transition> 1 0.5 </State>\n"
        "<State> 1 </State>\n</TopologyEntry>\n</Topology>\n"
    )


def write_topology(path: Path, phones: PhoneTable) -> None:
    """Write Kaldi's topo."""
    with writing(path) as temporary:
        temporary.write_text(_topology(phones), encoding="ascii")


def write_transition_model(path: Path, phones: PhoneTable) -> None:
    """Write the transition model: transition-state i is that of phone i."""
    tuples = (
        f"{number} 0 {first_pdf(phones.base(name))} {loop_pdf(phones.base(name))}\n"
        for number, name in enumerate(phones.names, start=1)
    )
    half = f"{math.log(0.5):.6f}"
    log_probs = " ".join(["0", *[half] * (2 * len(phones.names))])
    with writing(path) as temporary:
        temporary.write_text(
            f"<TransitionModel>\n{_topology(phones)}<Tuples> {len(phones.names)}\n{''.join(tuples)}</Tuples>\n"
            f"<LogProbs>\n [ {log_probs} ]\n</LogProbs>\n</TransitionModel>\n",
            encoding="ascii",
        )
