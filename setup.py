# SPDX-License-Identifier: Apache-2.0
"""Build kaldi_mpq's C++ extensions; everything else about the package is in pyproject.toml."""

from glob import glob

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup

ParallelCompile("MPQ_BUILD_JOBS", default=2).install()


def extension(name: str) -> Pybind11Extension:
    """Return the extension ``kaldi_mpq.native._NAME``."""
    return Pybind11Extension(
        f"kaldi_mpq.native._{name}",
        sorted(source for pattern in SOURCES[name] for source in glob(f"kaldi_mpq/native/src/{pattern}.cpp")),
        include_dirs=["kaldi_mpq/native/src"],
        depends=glob("kaldi_mpq/native/src/**/*.h", recursive=True),
        cxx_std=17,
        extra_compile_args=["-O3", "-Wall", "-Wextra"],
    )


SOURCES = {name: [f"{name}/*"] for name in ("archive", "dense", "paths", "ngram", "search")}
SOURCES["packed"] = ["packed/*", "dense/kernels*", "dense/lstm_step"]  # the LSTM's cell is the float model's

setup(ext_modules=[extension(name) for name in SOURCES], cmdclass={"build_ext": build_ext})
