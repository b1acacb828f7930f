# SPDX-License-Identifier: Apache-2.0
"""local/run_jobs.sh: the call and the logs of Kaldi's run.pl, and failures inside pipes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

DATE = r"\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \w+ \d{4}"
LOG = re.compile(
    rf"# (?P<command>.*)\n# Started at {DATE}\n#\n(?P<output>(?s:.*))"
    rf"# Accounting: time=\d+ threads=1\n"
    rf"# Ended \(code (?P<code>\d+)(?P<signal>; signal \d+)?\) at {DATE}, elapsed time \d+ seconds\n"
)


@pytest.fixture
def run(shell):
    """Run jobs in an empty folder."""
    return lambda *words, **environment: shell("local/run_jobs.sh", *words, **environment)


def read_log(path: Path) -> re.Match[str]:
    """Return the parts of a log, which must have Kaldi's form."""
    found = LOG.fullmatch(path.read_text())
    assert found, path.read_text()
    return found


def processes_in(folder: Path) -> list[str]:
    """Return the ids of all processes whose working directory it is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or is not ours to look at
            if (
                os.readlink(process / "cwd") == str(folder.resolve())
                and "\nState:\tZ" not in (process / "status").read_text()
            ):
                found.append(process.name)
    return found


def test_every_job_has_its_number_in_command_and_log(run, tmp_path):
    """JOB is replaced everywhere, and the log is what run.pl writes."""
    done = run("JOB=2:4", "log/x.JOB.log", "echo", "job", "JOB", "|", "cat", ">", "out.JOB")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [(tmp_path / f"out.{n}").read_text() for n in (2, 3, 4)] == ["job 2\n", "job 3\n", "job 4\n"]
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["x.2.log", "x.3.log", "x.4.log"]
    log = read_log(tmp_path / "log" / "x.3.log")
    assert log["command"] == "echo job 3 | cat > out.3"
    assert (log["output"], log["code"], log["signal"]) == ("", "0", None)


def test_both_streams_are_in_the_log(run, tmp_path):
    """stdout and stderr of the program, in order."""
    assert run("x.log", "echo one; echo two >&2; echo three").returncode == 1  # one word is quoted: no such program
    assert run("x.log", "echo", "one", "&&", "echo", "two", ">&2", "&&", "echo", "three").returncode == 0
    assert read_log(tmp_path / "x.log")["output"] == "one\ntwo\nthree\n"


@pytest.mark.parametrize("words", [["false", "|", "cat"], ["cat", "/dev/null", "|", "false", "|", "cat"], ["false"]])
def test_a_failure_in_a_pipe_is_a_failure(run, tmp_path, words):
    """Whichever program of a pipe fails, the job has failed; Kaldi's run.pl sees the last one only."""
    done = run("JOB=1:1", "x.JOB.log", *words)
    assert done.returncode == 1
    assert "failed, log is in x.1.log" in done.stderr
    assert read_log(tmp_path / "x.1.log")["code"] == "1"


def test_failures_are_counted_and_the_others_run(run, tmp_path):
    """One of three fails: status 1, how many, where the logs are; the other two have done their work."""
    done = run("JOB=1:3", "log/x.JOB.log", "test", "JOB", "!=", "2", "&&", "touch", "done.JOB")
    assert done.returncode == 1
    assert done.stderr == "run_jobs.sh: 1 / 3 failed, log is in log/x.*.log\n"
    assert sorted(path.name for path in tmp_path.glob("done.*")) == ["done.1", "done.3"]


def test_a_killed_program_shows_its_signal(run, tmp_path):
    """The signal is in the log, as run.pl has it."""
    assert run("x.log", "kill", "-9", "$$").returncode == 1
    log = read_log(tmp_path / "x.log")
    assert (log["code"], log["signal"]) == ("137", "; signal 9")


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["echo", "a b"], 'echo "a b"'),
        (["echo", 'say "a b"'], "echo 'say \"a b\"'"),
        (["echo", "$HOME/x*"], "echo $HOME/x*"),
        (["echo", "", "x"], 'echo "" x'),
    ],
)
def test_words_are_quoted_as_run_pl_does(run, tmp_path, words, command):
    """White space brings quotes, double ones unless the word has some; all else is the shell's."""
    assert run("x.log", *words).returncode == 0
    assert read_log(tmp_path / "x.log")["command"] == command


def test_options_of_queues_are_ignored(run, tmp_path):
    """--mem and its like have a value that is no command; they may stand before and behind the range."""
    assert run("--mem", "4G", "-l", "x", "JOB=1:2", "--num-threads", "2", "x.JOB.log", "true").returncode == 0
    assert read_log(tmp_path / "x.2.log")["command"] == "true"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["JOB=1:2", "x.log", "true"], "no JOB in it"),
        (["JOB=3:1", "x.JOB.log", "true"], "bad range"),
        (["JOB=0:1", "x.JOB.log", "true"], "bad range"),
        (["JOB=1:2", "x.JOB.log"], "run_jobs.sh [options] JOB=1:4"),
        (["--mem", "--max-jobs-run", "2", "JOB=1:2", "x.JOB.log", "true"], "followed by another option"),
        (["--max-jobs-run", "many", "JOB=1:2", "x.JOB.log", "true"], "is a number"),
        (["--pick", "some", "x.log", "true"], "all, failed or incomplete"),
    ],
)
def test_a_wrong_call_is_refused(run, tmp_path, words, message):
    """Status 1 and a reason, before anything runs."""
    done = run(*words)
    assert done.returncode == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_more_jobs_at_a_time_than_asked_for(run, tmp_path):
    """--max-jobs-run 1: no job starts before the one before has ended."""
    body = ["date", "+%s%N", ">", "began.JOB", "&&", "sleep", "0.1", "&&", "date", "+%s%N", ">", "ended.JOB"]
    assert run("--max-jobs-run", "1", "JOB=1:3", "x.JOB.log", *body).returncode == 0
    began, ended = ([int((tmp_path / f"{name}.{n}").read_text()) for n in (1, 2, 3)] for name in ("began", "ended"))
    assert ended[0] <= began[1] and ended[1] <= began[2]


def test_jobs_run_at_the_same_time(run):
    """Two jobs that wait for each other both end."""
    body = [
        "touch",
        "here.JOB",
        "&&",
        "timeout",
        "20",
        "bash",
        "-c",
        "until [ -e here.1 -a -e here.2 ]; do sleep 0.02; done",
    ]
    assert run("-tc", "2", "JOB=1:2", "x.JOB.log", *body).returncode == 0


@pytest.mark.parametrize(("pick", "again"), [("all", ["1", "2"]), ("failed", ["2"]), ("incomplete", ["2"])])
def test_only_the_jobs_that_are_picked_run_again(run, tmp_path, pick, again):
    """After a failure the rest may be run alone."""
    run("JOB=1:2", "x.JOB.log", "test", "JOB", "=", "1")
    assert run("--pick", pick, "JOB=1:2", "x.JOB.log", "touch", "again.JOB").returncode == 0
    assert sorted(path.suffix[1:] for path in tmp_path.glob("again.*")) == again


def test_a_program_cannot_read_the_callers_input(run, tmp_path):
    """stdin is empty: run.pl's shell reads its script there, and a program that reads stdin would eat it."""
    assert run("x.log", "cat", "&&", "echo", "end").returncode == 0
    assert read_log(tmp_path / "x.log")["output"] == "end\n"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_threads_of_a_job_are_not_the_number_of_jobs(run):
    """Two jobs run at a time though each may have one thread: nproc counts what OMP_NUM_THREADS says."""
    until = "until [ -e began.1 -a -e began.2 ]; do sleep 0.02; done"
    job = ["touch", "began.JOB", "&&", "timeout", "20", "bash", "-c", until]
    assert run("JOB=1:2", "x.JOB.log", *job, OMP_NUM_THREADS="1").returncode == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_jobs(tmp_path, how):
    """Nothing goes on in the background after Ctrl-C."""
    command = [
        "bash",
        str(ROOT / "local" / "run_jobs.sh"),
        "JOB=1:2",
        "x.JOB.log",
        "touch",
        "began.JOB",
        "&&",
        "sleep",
        "30",
    ]
    runner = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored by what runs in the background
    )
    while len(list(tmp_path.glob("began.*"))) < 2:
        assert runner.poll() is None
        time.sleep(0.02)
    runner.send_signal(how)
    assert runner.wait(timeout=10) == 130
    time.sleep(0.2)
    assert processes_in(tmp_path) == []


def test_run_pl_writes_the_same_log(run, kaldi, tmp_path):
    """Kaldi's own run.pl, same call: the same logs but for times, the same status."""
    call = ["--mem", "1G", "JOB=1:2", "log/x.JOB.log", "echo", "a b", "JOB", "&&", "test", "JOB", "=", "1"]
    logs = {}
    words = " ".join(f"'{word}'" for word in call)
    for name, folder in (("ours", tmp_path), ("theirs", tmp_path / "theirs")):
        (folder / "log").mkdir(parents=True)
        if name == "ours":
            assert run(*call).returncode == 1
        else:
            program = "$KALDI_ROOT/egs/wsj/s5/utils/parallel/run.pl"
            assert kaldi(f"cd {folder} && {program} {words}", check=False).returncode == 1
        texts = [(folder / "log" / f"x.{n}.log").read_text() for n in (1, 2)]
        logs[name] = [re.sub(rf"{DATE}|(?<=time[= ])\d+", "-", text.replace(" \n", "\n")) for text in texts]
    assert logs["ours"] == logs["theirs"]
