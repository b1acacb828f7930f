# SPDX-License-Identifier: Apache-2.0
"""Jobs: in order, after those that they need, through a runner like run.pl, ended when the sweep is interrupted."""

import os
import signal
import threading
import time

import pytest

from kaldi_mpq.sweep.jobs import Job, run_jobs


def job(tmp_path, name, script, **options):
    """Return a job that runs a shell script."""
    return Job(name, ("bash", "-c", script), tmp_path / "log" / f"{name}.log", **options)


def run(jobs, runner="", nj=1):
    """Run jobs; return the failed ones and the names in the order in which they ended."""
    ended = []
    failed = run_jobs(jobs, runner, nj, lambda name, reason: ended.append(name))
    return failed, ended


def test_earlier_jobs_start_first_and_no_more_than_asked_for_run_at_once(tmp_path):
    """Six jobs, two at a time: never three, and they start in order."""
    script = f"echo start >> {tmp_path}/events; sleep 0.15; echo end >> {tmp_path}/events"
    failed, ended = run([job(tmp_path, str(i), script) for i in range(6)], nj=2)
    assert (failed, sorted(ended)) == ({}, list("012345"))
    running = most = 0
    for event in (tmp_path / "events").read_text().split():
        running += 1 if event == "start" else -1
        most = max(most, running)
    assert most == 2


def test_a_job_waits_for_those_that_it_needs(tmp_path):
    """Also when it is listed first and there is room for both."""
    jobs = [
        job(tmp_path, "second", f"test -e {tmp_path}/made", after=("first", "finished long ago")),
        job(tmp_path, "first", f"sleep 0.2; touch {tmp_path}/made"),
    ]
    assert run(jobs, nj=2) == ({}, ["first", "second"])


def test_failures_are_named_and_the_others_go_on(tmp_path):
    """A status, a reason not to start; what waits for a failed job still gets its chance to say why it cannot run."""
    jobs = [
        job(tmp_path, "bad", "echo to the log; exit 3"),
        job(tmp_path, "blocked", f"touch {tmp_path}/started", after=("bad",), blocked=lambda: "needs bad"),
        job(tmp_path, "good", "true"),
    ]
    failed, ended = run(jobs)
    assert sorted(failed) == ["bad", "blocked"]
    assert "status 3" in failed["bad"]
    assert str(tmp_path / "log" / "bad.log") in failed["bad"]
    assert failed["blocked"] == "needs bad"
    assert "good" in ended
    assert not (tmp_path / "started").exists()
    assert (tmp_path / "log" / "bad.log").read_text() == "to the log\n"


def test_the_runner_is_called_as_run_pl_is(tmp_path):
    """Options of the runner, the log, then the command's words."""
    runner = tmp_path / "runner.pl"
    runner.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {tmp_path}/words\nshift 3\nexec "$@"\n')
    runner.chmod(0o755)
    assert run([job(tmp_path, "one", f"touch {tmp_path}/made")], runner=f"{runner} --mem 4G") == ({}, ["one"])
    words = (tmp_path / "words").read_text().splitlines()
    assert words[:4] == ["--mem", "4G", str(tmp_path / "log" / "one.log"), "bash"]
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_jobs(tmp_path, signalled):
    """Ctrl-C or a batch system's signal: no job of the sweep goes on behind its back."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.6, os.kill, (os.getpid(), signalled)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run([job(tmp_path, "long", f"echo $$ > {tmp_path}/pid; sleep 60 & wait")])
    finally:
        signal.signal(signal.SIGINT, before)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
