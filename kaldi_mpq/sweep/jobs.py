# SPDX-License-Identifier: Apache-2.0
"""Commands that run side by side through a job runner, in order, each after those that it needs.

A runner is called as Kaldi's run.pl is, ``CMD LOG COMMAND...``, once for each job, and waits for it; so queue.pl and
slurm.pl spread the jobs over a cluster. Not here: what the jobs do.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Job", "run_jobs"]

log = logging.getLogger(__name__)
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Job:
    """A command.

    Args:
      name: unlike any other's.
      command: its words.
      log: file for what it prints.
      after: jobs that must have ended before; names that are no jobs are taken for ended.
      blocked: asked before it starts; a reason not to start it at all, or None.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    after: tuple[str, ...] = ()
    blocked: Callable[[], str | None] = field(default=lambda: None)


def run_jobs(jobs: Sequence[Job], runner: str, nj: int, ended: Callable[[str, str | None], None]) -> dict[str, str]:
    """Run jobs, earlier ones first, and return the names of those that failed, with the reason.

    An interruption (Ctrl-C, SIGTERM) ends the jobs too.

    Args:
      runner: words of the job runner; empty: none, the command itself.
      nj: jobs at a time.
      ended: called with each job's name and the reason why it failed, None if it did not.
    """
    waiting, running, failed = list(jobs), {}, {}
    unfinished = {job.name for job in jobs}

    def end(job: Job, reason: str | None) -> None:
        unfinished.discard(job.name)
        if reason is not None:
            failed[job.name] = reason
        ended(job.name, reason)

    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        while waiting or running:
            for job in [job for job in waiting if not unfinished.intersection(job.after)][: nj - len(running)]:
                waiting.remove(job)
                reason = job.blocked()
                if reason is None:
                    running[job.name] = (job, _start(job, runner))
                else:
                    end(job, reason)
            for job, process in [entry for entry in running.values() if entry[1].poll() is not None]:
                del running[job.name]
                end(job, f"status {process.returncode}, see {job.log}" if process.returncode else None)
            time.sleep(_POLL_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop({name: process for name, (_, process) in running.items()})
    return failed


def _start(job: Job, runner: str) -> subprocess.Popen:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    # A session of its own: Ctrl-C reaches this process, which ends the jobs in an orderly way.
    if runner:
        words = [*shlex.split(runner), str(job.log), *job.command]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    with open(job.log, "wb") as stream:
        return subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )


def _stop(running: Mapping[str, subprocess.Popen]) -> None:
    """End processes that still run, and what they have started."""
    for name, process in running.items():
        log.warning("ending %s", name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in running.values():
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
