# SPDX-License-Identifier: Apache-2.0
"""What a worker process and the benchmark say to each other: a line of JSON each, over pipes.

    -> {"do": "prepare", "name": NAME, "job": {"kind": KIND, ...}}    <- {"about": {...}} or {"skipped": REASON}
    -> {"do": "run", "name": NAME}                                    <- {"cpu": SECONDS, "clock": SECONDS}
    -> {"do": "forget", "name": NAME}                                 <- {}

An engine is a module with ``KINDS``, a function for every kind of job; what the function returns is run once to warm up
and to keep its result for comparison, then as often as asked. Needs only the standard library and NumPy, so that it
runs in every peer's environment. Not here: the benchmark's end of the pipe (`process`).
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

import numpy as np

__all__ = ["Job", "Prepared", "Skipped", "serve"]

Job = Mapping[str, Any]


class Skipped(Exception):  # noqa: N818  it is an answer
    """An engine cannot do a job, and why."""


@dataclass(frozen=True)
class Prepared:
    """A job that is ready to be run.

    Args:
      run: does it, and returns an array that other engines' results are compared with.
      about: what the table should say of how it is done.
    """

    run: Callable[[], np.ndarray]
    about: Mapping[str, Any] = field(default_factory=dict)


def serve(kinds: Mapping[str, Callable[[Job], Prepared]]) -> None:
    """Answer requests from standard input until it ends; what libraries print goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepared: dict[str, Prepared] = {}
    for line in sys.stdin:
        _say(answers, _answer(json.loads(line), kinds, prepared))


def _answer(
    request: Mapping[str, Any], kinds: Mapping[str, Callable[[Job], Prepared]], prepared: dict[str, Prepared]
) -> Mapping[str, Any]:
    name = request["name"]
    if request["do"] == "run":
        return _timed(prepared[name].run)
    if request["do"] == "forget":
        prepared.pop(name, None)
        gc.collect()
        return {}
    job = request["job"]
    try:
        if job["kind"] not in kinds:
            raise Skipped(f"no such job here: {job['kind']}")
        ready = kinds[job["kind"]](job)
    except Skipped as reason:
        return {"skipped": str(reason)}
    except ImportError as error:
        return {"skipped": f"not installed: {error.name}"}
    np.save(job["result"], ready.run())
    prepared[name] = ready
    return {"about": ready.about}


def _timed(run: Callable[[], object]) -> dict[str, float]:
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    return {"cpu": time.process_time() - cpu, "clock": time.perf_counter() - clock}


def _say(answers: TextIO, answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
