"""Pillow-SIMD lies in a directory of its own: built elsewhere first, found by Python and CPU, never half there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import PIL
import pytest

from autotrain.decode import simd
from autotrain.decode.decoder import decoder
from autotrain.errors import InstallationError, UnsupportedError


@pytest.fixture
def home(monkeypatch, tmp_path) -> Path:
    """An empty data folder, on an x86-64 machine."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv(simd.VARIABLE, raising=False)
    monkeypatch.setattr(simd.platform, "machine", lambda: "x86_64")
    return tmp_path / "autotrain" / "pillow-simd"


def installer(number="9.5.0.post2", *, code=0, output="", works=True):
    """Return what stands for pip: it makes a package PIL, which need not work."""

    def install(target, variables):
        install.variables = variables
        if code == 0:
            (target / "PIL").mkdir(parents=True)
            (target / "PIL" / "__init__.py").write_text(f"__version__ = '{number}'\n" if works else "raise OSError\n")
            (target / "PIL" / "Image.py").write_text(FAKE)
            (target / f"Pillow_SIMD-{number}.dist-info").mkdir()
        return subprocess.CompletedProcess([], code, stdout=output, stderr="")

    return install


FAKE = """
class Image:
    def save(self, *_): ...
    def convert(self, *_): return self
    def resize(self, *_): return self
    def getpixel(self, _): return (200, 100, 50)
class Resampling:
    BILINEAR = 2
def new(*_): return Image()
def open(*_): return Image()
"""


def test_nothing_is_there_at_first(home):
    assert simd.installed() is None
    assert "autotrain simd" in decoder("pillow_simd").unavailable()
    assert simd.remove() == ()


def test_a_build_is_put_in_place_and_found(home):
    place = simd.build(installer())
    assert place == simd.installed() == home / f"{simd.tag()}-9.5.0.post2"
    assert simd.version(place) == "9.5.0.post2"
    assert decoder("pillow_simd").unavailable() is None
    assert [entry.name for entry in home.iterdir()] == [place.name]


def test_a_build_replaces_the_same_version_and_goes_before_an_older_one(home):
    simd.build(installer("9.4.0.post1"))
    old = simd.build(installer())
    (old / "mark").touch()
    assert simd.build(installer()) == old == simd.installed()
    assert not (old / "mark").exists()


def test_removing_deletes_all_builds_and_nothing_else(home):
    place = simd.build(installer())
    (home.parent / "other").touch()
    assert simd.remove() == (place,)
    assert simd.installed() is None
    assert (home.parent / "other").exists()


def test_builds_for_other_pythons_and_cpus_are_not_taken(home, monkeypatch):
    monkeypatch.setattr(simd, "_avx2", lambda: True)
    simd.build(installer())
    monkeypatch.setattr(simd, "_avx2", lambda: False)
    assert simd.installed() is None
    monkeypatch.setattr(sys.implementation, "cache_tag", "cpython-399")
    assert simd.installed() is None


def test_the_variable_names_another_directory(home, monkeypatch, tmp_path):
    simd.build(installer())
    monkeypatch.setenv(simd.VARIABLE, str(tmp_path / "mine"))
    assert simd.installed() is None
    assert "holds no package PIL" in simd.unavailable()
    (tmp_path / "mine" / "PIL").mkdir(parents=True)
    assert simd.installed() == tmp_path / "mine"


@pytest.mark.parametrize(("avx2", "compiler"), [(True, {"CC": "clang -mavx2"}), (False, {})])
def test_the_compiler_is_told_of_avx2_only_where_the_cpu_has_it(home, monkeypatch, avx2, compiler):
    monkeypatch.setenv("CC", "clang")
    monkeypatch.setattr(simd, "_avx2", lambda: avx2)
    install = installer()
    simd.build(install)
    assert install.variables == compiler


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        (
            "The headers or library files could not be found for jpeg,",
            "libjpeg's header files are missing.*libjpeg-dev",
        ),
        ("The headers or library files could not be found for zlib,", "zlib's header files are missing.*zlib1g-dev"),
        ("error: command 'cc' failed: No such file or directory", "C compiler.*apt-get install gcc"),
        ("fatal error: Python.h: No such file or directory", "Python's header files.*python3-dev"),
        ("ERROR: No matching distribution found for pillow-simd", "cannot reach the package index"),
        ("something else", "apt-get install .*something else"),
    ],
)
def test_a_failed_build_says_what_to_do_and_leaves_nothing(home, output, remedy):
    with pytest.raises(InstallationError, match=remedy):
        simd.build(installer(code=1, output=output))
    assert list(home.iterdir()) == []


def test_a_build_that_does_not_work_is_not_kept(home):
    working = simd.build(installer())
    with pytest.raises(InstallationError, match="does not work"):
        simd.build(installer("9.6.0.post1", works=False))
    assert simd.installed() == working
    assert list(home.iterdir()) == [working]


def test_an_environment_without_pip_is_told_how_to_get_it(home, monkeypatch):
    monkeypatch.setattr(simd.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "No module"))
    with pytest.raises(InstallationError, match="ensurepip"):
        simd.build()


def test_other_architectures_are_refused(home, monkeypatch):
    monkeypatch.setattr(simd.platform, "machine", lambda: "aarch64")
    with pytest.raises(UnsupportedError, match="aarch64"):
        simd.build(installer())
    assert "x86-64" in simd.unavailable()


def test_this_process_is_told_from_one_with_pillow_simd(monkeypatch):
    monkeypatch.setattr(PIL, "__version__", "9.5.0")
    assert simd.in_use() == "Pillow 9.5.0"
    assert "not Pillow-SIMD" in decoder("pillow_simd_draft").misplaced()
    monkeypatch.setattr(PIL, "__version__", "9.5.0.post2")
    assert simd.in_use() == "Pillow-SIMD 9.5.0.post2"
    assert decoder("pillow_simd").misplaced() is None
