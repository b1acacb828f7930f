# SPDX-License-Identifier: Apache-2.0
"""The benchmark's end of the pipe to a worker process (`protocol` is the other)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peers.protocol import Job, Skipped

__all__ = ["BENCHMARKS", "Worker", "environment_of"]

BENCHMARKS = Path(__file__).resolve().parent.parent
ENVIRONMENT = {
    "MKL_DEBUG_CPU_TYPE": "5",  # MKL 2020, torch 1.13.1's, is more than twice as slow on AMD without it
    "CT2_VERBOSE": "-1",
    "OMP_NUM_THREADS": "1",  # a job says how many it wants
}


class Worker:
    """A process of an engine.

    Args:
      engine: a module of `peers`.
      python: the interpreter to run it with.
      environment: variables that it wants.
    Raises:
      Skipped: there is no such interpreter, or the engine does not start.
    """

    def __init__(self, engine: str, python: Path, environment: Mapping[str, str] | None = None) -> None:
        if not python.exists():
            raise Skipped(f"no {python.parent.parent.name}: benchmarks/peers/make_env.sh makes it")
        self.engine = engine
        self._process = subprocess.Popen(
            [str(python), "-m", "peers.worker", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=BENCHMARKS,
            env=environment_of(environment),
        )

    def prepare(self, name: str, job: Job) -> Mapping[str, Any]:
        """Make a job ready, run it once, write its result to the file ``job["result"]``; return what is said of it.

        Raises:
          Skipped: the engine cannot do it.
        """
        answer = self._ask({"do": "prepare", "name": name, "job": dict(job)})
        if "skipped" in answer:
            raise Skipped(answer["skipped"])
        return answer["about"]

    def run(self, name: str) -> Mapping[str, float]:
        """Run a job; return its seconds by the clock and of the processor."""
        return self._ask({"do": "run", "name": name})

    def forget(self, name: str) -> None:
        """Free what a job holds."""
        self._ask({"do": "forget", "name": name})

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its end says more
        line = self._process.stdout.readline()
        if not line:
            raise Skipped(f"{self.engine} ended with status {self._process.wait()} at {request['do']}")
        return json.loads(line)


def environment_of(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that processes are started with."""
    path = [str(BENCHMARKS), str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, path))} | (more or {})
