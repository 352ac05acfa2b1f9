"""Facts as they are gathered here, so far as they are the same everywhere."""

import importlib.metadata
import sys

import pytest
import rich.style  # noqa: F401 - draws a random number when it is first imported, which the command has it be
from healthy import CPU, GPU, TORCH, made
from PIL import Image

from autotrain.cli.main import run
from autotrain.decode import simd
from autotrain.doctor import decoding, folders, gpu_load
from autotrain.doctor import facts as facts_module
from autotrain.doctor.check import NotDone
from autotrain.doctor.decoding import decode_times, pillow_facts, simplejpeg_missing
from autotrain.doctor.facts import Facts
from autotrain.doctor.folders import data_facts, temporary_folder
from autotrain.doctor.gpu_load import copy_rate, load
from autotrain.doctor.installed import installed, namesakes
from autotrain.doctor.interpreter import interpreter
from autotrain.doctor.torch_facts import torch_facts
from autotrain.errors import DataError, InstallationError
from autotrain.installation import check_installation, reinstallation


def test_the_files_of_a_folder_are_counted_read_and_decoded(jpeg_folder):
    found = data_facts(jpeg_folder, readers=2)
    files = list(jpeg_folder.rglob("*.jpg"))
    assert (found.files, found.complete, found.read_files) == (len(files), True, len(files))
    assert found.bytes == found.read_bytes == sum(path.stat().st_size for path in files)
    assert found.files_per_s == pytest.approx(found.read_files / found.read_s)
    assert 0 < found.decode_s < 1
    assert found.cold_share is None or 0 <= found.cold_share <= 1


def test_files_that_are_no_images_are_not_decoded(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(1000))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / ".hidden").write_bytes(bytes(9))
    found = data_facts(tmp_path, readers=3, quick=True)
    assert (found.files, found.bytes, found.decode_s) == (2, 1008, None)


@pytest.mark.parametrize("error", [Image.DecompressionBombError, SyntaxError, ValueError, OSError])
def test_an_image_that_pillow_refuses_in_any_way_is_passed_over(jpeg_folder, tmp_path, monkeypatch, error):
    open_image = Image.open

    def refusing(path, *arguments):
        if "odd" in str(path):
            raise error("odd")
        return open_image(path, *arguments)

    for name in ("odd.png", "fine.jpg"):
        (tmp_path / name).write_bytes((jpeg_folder / "apple/00.jpg").read_bytes())
    monkeypatch.setattr(Image, "open", refusing)
    assert data_facts(tmp_path, readers=1).decode_s > 0
    (tmp_path / "fine.jpg").unlink()
    assert data_facts(tmp_path, readers=1).decode_s is None


def test_counting_stops_when_its_time_is_over(tmp_path, monkeypatch):
    for number in range(600):
        (tmp_path / f"{number}.txt").touch()
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(folders.time, "perf_counter", lambda: next(clock))
    found, complete = folders._list(tmp_path, limit_s=15)
    assert (len(found), complete) == (512, False)


@pytest.mark.parametrize(("name", "words"), [("missing", "no such folder"), ("", "no files in it")])
def test_a_folder_without_files_is_told(tmp_path, name, words):
    with pytest.raises(DataError, match=words):
        data_facts(tmp_path / name, readers=1)


def test_the_folder_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(folders.tempfile, "tempdir", str(tmp_path))
    assert temporary_folder().path == str(tmp_path)
    assert temporary_folder().free_bytes > 0

    def none():
        raise FileNotFoundError

    monkeypatch.setattr(folders.tempfile, "gettempdir", none)
    assert temporary_folder().path is None


def test_the_distributions_of_this_environment():
    found = installed()
    assert found.find("torch").version == importlib.metadata.version("torch")
    assert found.find("no-such-thing") is None


def test_metadata_is_read_with_its_folder(tmp_path):
    for name, version in (("Pillow_SIMD-9.5.0.post2", "9.5.0.post2"), ("damaged-1", None)):
        folder = tmp_path / f"{name}.dist-info"
        folder.mkdir()
        if version:
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Pillow_SIMD\nVersion: {version}\n")
    found = installed(importlib.metadata.distributions(path=[str(tmp_path)]))
    (entry,) = found.distributions
    assert (entry.name, entry.version, entry.folder) == ("pillow-simd", "9.5.0.post2", str(tmp_path))
    assert found.find("Pillow.SIMD") is entry


def test_other_distributions_that_bring_a_module_of_this_name_are_told_by_their_files(tmp_path):
    files = {
        "autotrain_lite": ("top_level.txt", "autotrain\nautotrain_lite\n"),
        "auto.gluten": ("RECORD", "auto_gluten-1.0.dist-info/METADATA,,\nautotrain/__init__.py,sha256=0,1\n"),
        "one-file": ("RECORD", "autotrain.py,,\n"),
        "autotrain-torch": ("RECORD", "autotrain/__init__.py,,\n"),
        "autotrainer": ("RECORD", "autotrainer/__init__.py,,\nlib/autotrain/__init__.py,,\n"),
    }
    for name, (file, text) in files.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / file).write_text(text)
    found = namesakes(importlib.metadata.distributions(path=[str(tmp_path)]))
    assert found == ("auto-gluten", "autotrain-lite", "one-file")
    owners = importlib.metadata.packages_distributions().get("autotrain", [])
    assert Facts().namesakes == tuple(sorted({name.lower() for name in owners} - {"autotrain-torch"}))


def test_remedies_name_a_copy_of_the_repository_as_the_package_is_not_on_pypi(monkeypatch, capsys):
    remove, install = reinstallation("autotrain-advanced")
    with pytest.raises(InstallationError) as problem:
        check_installation(lambda name: "0.8.36")
    assert str(problem.value).endswith(f": {remove}, then from your copy of autotrain's repository: {install}")
    assert install == "pip install --force-reinstall --no-deps ."
    monkeypatch.setitem(sys.modules, "autotrain.doctor.facts", None)
    assert run(["doctor"]) == 2
    assert "from your copy of its repository: pip install ." in capsys.readouterr().err


def test_the_decoders_of_this_environment():
    found = pillow_facts()
    assert (found.error, found.jpeg) == (None, True)
    assert found.name == simd.in_use()
    assert found.simd_copy is None
    times = decode_times(repeats=1)
    assert 0 < times.pillow_s < 1
    assert (times.simplejpeg_s is None) == (simplejpeg_missing() is not None)


def test_the_copy_of_pillow_simd_is_found(tmp_path, monkeypatch):
    (tmp_path / "PIL").mkdir()
    (tmp_path / "Pillow_SIMD-9.5.0.post2.dist-info").mkdir()
    monkeypatch.setenv(simd.VARIABLE, str(tmp_path))
    assert pillow_facts().simd_copy == "9.5.0.post2"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(simd, "installed", homeless)
    assert (pillow_facts().error, pillow_facts().simd_copy) == (None, None)


def test_a_pillow_that_is_broken_is_a_fact(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.delattr("PIL.Image")
    found = pillow_facts()
    assert found.error
    assert not found.turbo
    with pytest.raises(NotDone, match="needs a Pillow that works"):
        decode_times(repeats=1)


def test_a_simplejpeg_that_is_not_there_is_a_fact(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert simplejpeg_missing()
    assert decode_times(repeats=1).simplejpeg_s is None


def test_this_interpreter():
    found = interpreter()
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.development_mode == sys.flags.dev_mode


def test_what_torch_does_here():
    import torch

    threads = torch.get_num_threads()
    found = torch_facts(threads)
    assert (found.version, found.threads) == (torch.__version__, threads)
    assert found.own_step_s > 0
    assert found.idle_cores >= 0
    assert found.cuda_works == torch.cuda.is_available()
    assert torch.get_num_threads() == threads


def test_a_device_is_asked_for_its_state_while_it_works():
    import torch

    place, asked = torch.device("cpu"), []
    assert load(place, lambda: asked.append("state") or GPU, seconds=0.01, side=8) is GPU
    assert asked == ["state"]
    assert copy_rate(place, size=1 << 16) > 0


def test_the_work_that_is_queued_outlasts_the_question(monkeypatch):
    import torch

    products, asked, real = [], [], torch.mm
    clock = iter(range(1000))
    monkeypatch.setattr(gpu_load.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(torch, "mm", lambda *matrices, out: products.append(1) or real(*matrices, out=out))
    load(torch.device("cpu"), lambda: asked.append(len(products)), seconds=100, side=8)
    assert asked == [4 * 99 + 99]


def test_gpus_and_cores_are_looked_at_before_torch_uses_them(monkeypatch):
    order = []

    def note(name, value):
        return lambda *arguments, **options: order.append(name) or value

    monkeypatch.setattr(facts_module, "gpu_health", note("gpus", ()))
    monkeypatch.setattr(facts_module, "cpu_facts", note("cores", CPU))
    monkeypatch.setattr(facts_module, "torch_facts", note("torch", TORCH))
    assert Facts().torch is TORCH
    assert order == ["cores", "gpus", "torch"]


def test_no_load_without_a_gpu_that_works():
    facts = made(torch={"cuda_works": False})
    del facts.__dict__["gpu_loads"]
    assert facts.gpu_loads == ()


def test_what_cannot_be_had_says_why():
    facts = Facts(quick=True)
    with pytest.raises(NotDone, match="--quick does not import torch"):
        _ = facts.torch
    with pytest.raises(NotDone, match="give --data DIR"):
        _ = facts.data
    with pytest.raises(NotDone, match="the NVIDIA driver does not answer"):
        _ = Facts(known={"visible_gpus": (), "nvidia_devices": 1}).gpus
    assert decoding.SIDE == (400, 533)
