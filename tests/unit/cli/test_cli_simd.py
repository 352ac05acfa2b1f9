"""``autotrain simd``: what it says, and that it needs no network to say it."""

import subprocess

import pytest

from autotrain.decode import simd


@pytest.fixture
def builder(monkeypatch, tmp_path):
    """Stands for building: returns a directory in an empty data folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv(simd.VARIABLE, raising=False)
    monkeypatch.setattr(simd.platform, "machine", lambda: "x86_64")

    def pip(target, variables):
        (target / "PIL").mkdir(parents=True)
        (target / "pillow_simd-9.5.0.post2.dist-info").mkdir()
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(simd, "_pip", pip)
    monkeypatch.setattr(simd, "_check", lambda target: None)
    return simd


def test_building_says_where_it_lies_and_how_long_it_took(autotrain, builder):
    done = autotrain("simd")
    assert (done.code, done.err) == (0, "")
    assert f"Pillow-SIMD 9.5.0.post2 in 0 s: {builder.installed()}" in done.out


def test_removing(autotrain, builder):
    autotrain("simd")
    place = builder.installed()
    assert autotrain("simd", "--remove").out == f"Removed {place}\n"
    assert builder.installed() is None
    assert "Nothing to remove" in autotrain("simd", "--remove").out


def test_a_build_that_the_variable_hides_says_so(autotrain, builder, monkeypatch, tmp_path):
    monkeypatch.setenv(builder.VARIABLE, str(tmp_path))
    assert f"{builder.VARIABLE} names another folder" in autotrain("simd").out


def test_a_failure_is_one_line_with_the_remedy(autotrain, builder, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "fatal error: jpeglib.h: No such file", "")
    monkeypatch.setattr(builder, "_pip", lambda *_: failed)
    done = autotrain("simd")
    assert done.code == 2
    assert done.err.startswith("autotrain: error: Pillow-SIMD cannot be built: libjpeg's header files are missing.")
    assert "apt-get install" in done.err
    assert done.err.count("\n") == 1


def test_ctrl_c_leaves_nothing(autotrain, builder, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(builder, "_pip", interrupted)
    assert autotrain("simd").code == 130
    assert list(builder.home().iterdir()) == []
