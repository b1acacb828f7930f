# SPDX-License-Identifier: Apache-2.0
"""Where bytes go: whole files or none, and no error of the outside world is lost."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kaldi_mpq.errors import LatticeError, MpqError
from kaldi_mpq.native import LatticeWriter
from kaldi_mpq.native.sinks import open_sink
from tests.native.archives import read, write
from tests.native.random_lattices import Spec, build

ROOT = Path(__file__).resolve().parents[2]
DATA = random.Random(2).randbytes(700_000)
LATTICES = build(Spec("a", 1, (), {0: (1.0, 2.0, tuple(range(100)))}))
MANY = build(*[Spec(f"u{i}", 1, (), {0: (1.0, 2.0, tuple(range(1000)))}) for i in range(100)])  # 400 kB


def test_files_and_pipes_get_the_bytes(tmp_path: Path):
    """Plain, compressed by the name's ending, through a command; in one piece or many."""
    for name, content in (("plain", Path.read_bytes), ("packed.gz", lambda path: gzip.decompress(path.read_bytes()))):
        for target in (f"{tmp_path}/{name}", f"| cat > {tmp_path}/piped"):
            with open_sink(target) as sink:
                for begin in range(0, len(DATA), 99_999):
                    sink.write(DATA[begin : begin + 99_999])
        assert content(tmp_path / name) == DATA
        assert (tmp_path / "piped").read_bytes() == DATA


def test_gzip_levels_trade_time_for_size(tmp_path: Path):
    """Any level gives the same content, a higher one no bigger file; the same content gives the same file."""
    sizes = []
    for level in (1, 6, 9):
        write(tmp_path / "a.gz", MANY, level=level)
        assert len(read(tmp_path / "a.gz")) == 100
        sizes.append((tmp_path / "a.gz").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    first = (tmp_path / "a.gz").read_bytes()
    write(tmp_path / "a.gz", MANY, level=9)
    assert (tmp_path / "a.gz").read_bytes() == first
    with pytest.raises(MpqError, match="gzip level out of range"):
        LatticeWriter(tmp_path / "a.gz", level=0)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path):
    """While it is written and after an error there is nothing of that name, or what was there before."""
    for name in ("a.ark", "a.gz"):
        for before in (None, b"old"):
            with pytest.raises(ZeroDivisionError), LatticeWriter(tmp_path / name) as writer:
                writer.write(LATTICES)
                assert (tmp_path / name).exists() == (before is not None)
                raise ZeroDivisionError
            assert [path.name for path in tmp_path.iterdir()] == ([name] if before else [])
            (tmp_path / name).write_bytes(b"old")
        assert (tmp_path / name).read_bytes() == b"old"
        write(tmp_path / name, LATTICES)
        assert len(read(tmp_path / name)) == 1
        (tmp_path / name).unlink()


def test_script_file_and_archive_appear_together(tmp_path: Path):
    """After an error there is neither."""
    with pytest.raises(ZeroDivisionError), LatticeWriter(f"ark,scp:{tmp_path}/a,{tmp_path}/s") as writer:
        writer.write(LATTICES)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_process_leaves_no_file(tmp_path: Path):
    """Ctrl-C in the middle of writing: nothing under the final name, nothing beside it."""
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it\n"
        "from kaldi_mpq.native import LatticeReader, LatticeWriter\n"
        "with LatticeReader(sys.argv[1]) as reader, LatticeWriter(sys.argv[2]) as writer:\n"
        "    for lattices in reader.batches(max_lattices=10):\n"
        "        writer.write(lattices)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
    )
    write(tmp_path / "in", MANY)
    command = [sys.executable, "-c", code, tmp_path / "in", tmp_path / "out.gz"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode != 0 and b"KeyboardInterrupt" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("target", ["/dev/full", "ark:/dev/full", "ark,t:| cat > /dev/full 2>/dev/null"])
def test_a_full_disk_is_noticed(target: str):
    """/dev/full is a disk that is always full, here and behind a command."""
    for lattices in (MANY, LATTICES):  # the latter are few enough to stay in a buffer until the end
        with pytest.raises(LatticeError, match=r"No space left on device|the command (failed|ended).*exit status 1"):
            write(target, lattices)


@pytest.mark.parametrize("name", ["out.ark", "out.gz"])
def test_a_disk_that_gets_full_leaves_no_file(tmp_path: Path, name: str):
    """A limit on the size of files stands for the disk: an error that names the file, and no part of it."""
    code = (
        "import resource, sys\n"
        "from kaldi_mpq.errors import MpqError\n"
        "from kaldi_mpq.native import LatticeReader, LatticeWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try:\n"
        "    with LatticeReader(sys.argv[1]) as reader, LatticeWriter(sys.argv[2]) as writer:\n"
        "        for lattices in reader.batches(max_lattices=10): writer.write(lattices)\n"
        "except MpqError as error: print(error)\n"
    )
    write(tmp_path / "in", MANY)
    command = [sys.executable, "-c", code, tmp_path / "in", tmp_path / name]
    done = subprocess.run(command, capture_output=True, check=True)
    assert f"{tmp_path / name}: cannot write" in done.stdout.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("cat > /dev/null; exit 3", "the command failed.*exit status 3"),
        ("exit 4", "exit status 4"),
        ("cat | false", "exit status 1|exit status 141"),
        ("head -c 10 > /dev/null", "ended before it had read everything"),
        ("no_such_program_at_all 2>/dev/null", "exit status 127"),
    ],
)
def test_a_failing_command_is_noticed(command: str, message: str):
    """At the end, or as soon as it reads no more; its name and status are told."""
    with pytest.raises(LatticeError, match=message) as caught:
        write(f"ark:| {command}", MANY)
    assert str(caught.value).startswith(f"| {command}: ")


def test_after_an_error_a_command_is_stopped(tmp_path: Path):
    """A command that would take the end of its input for success is killed first."""
    with pytest.raises(ZeroDivisionError), LatticeWriter(f"ark:| cat > /dev/null; touch {tmp_path}/done") as writer:
        writer.write(MANY)
        raise ZeroDivisionError
    assert not (tmp_path / "done").exists()


def test_devices_and_named_pipes_are_written_to_not_replaced(tmp_path: Path):
    """/dev/null stays a device, a named pipe gets the bytes, a link stays a link."""
    for device in ("/dev/null", "ark:/dev/fd/1"):
        with open(os.devnull, "wb") as nothing:
            code = f"from tests.native.test_sinks import *; write({device!r}, LATTICES)"
            subprocess.run([sys.executable, "-c", code], stdout=nothing, cwd=ROOT, check=True)
    assert not os.path.isfile("/dev/null")
    os.mkfifo(tmp_path / "fifo")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    write(tmp_path / "fifo", LATTICES)
    reader.join()
    write(tmp_path / "file", LATTICES)
    assert got == [(tmp_path / "file").read_bytes()]
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link", MANY)
    assert (tmp_path / "link").is_symlink() and len(read(tmp_path / "file")) == 100


def test_flush_option_passes_records_on_at_once(tmp_path: Path):
    """ark,f: what was written is there before the next is."""
    os.mkfifo(tmp_path / "fifo")
    keys = []

    def listen() -> None:
        with open(tmp_path / "fifo", "rb", buffering=0) as stream:
            keys.append(stream.read(1000)[:1])
        listened.set()

    listened = threading.Event()
    listener = threading.Thread(target=listen)
    listener.start()
    with LatticeWriter(f"ark,f:| cat > {tmp_path}/fifo") as writer:
        writer.write(LATTICES)
        assert listened.wait(timeout=30)
    listener.join()
    assert keys == [b"a"]


def test_what_cannot_be_written_to(tmp_path: Path):
    """A command to read from, a directory, a file where a directory is needed; and a writer that was not entered."""
    with pytest.raises(LatticeError, match="a command to read from"):
        write("ark:cat |", LATTICES)
    with pytest.raises(MpqError, match="cannot write"):
        write(tmp_path, LATTICES)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((MpqError, OSError)):
        write(tmp_path / "file" / "a.ark", LATTICES)
    with pytest.raises(ValueError, match="inside its with block"):
        LatticeWriter(tmp_path / "x").write(LATTICES)
