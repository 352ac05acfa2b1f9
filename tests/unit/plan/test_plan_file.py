"""What a written plan looks like, and that writing one never leaves a broken file."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from autotrain.errors import PlanError
from autotrain.plan import files
from autotrain.plan.evidence import Evidence, Verdict, Worth
from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.settings import Settings
from autotrain.stats.summary import Estimate


def estimate(value: float, low: float, high: float, n: int = 6) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=n)


PLAN = Plan(
    settings=Settings(precision="bf16", memory_format="channels_last", augmentation="crop", workers=2),
    seed=7,
    evidence=Evidence(
        verdict=Verdict.FASTER,
        default_rate=estimate(214.62341, 210.1, 219.99999, 24),
        chosen_rate=estimate(412.04, 400.1, 421.2, 24),
        ratio=estimate(1.92134, 1.75, 2.083),
        usual_rate=estimate(301, 290.5, 310, 12),
        bottleneck="input",
        findings=(
            "The loader keeps the model waiting for 61% of each step: 2 workers would hide it.",
            "Decoding takes 4.1 ms per image on one core, two thirds of all the work done for an image before "
            "it reaches the model.",
        ),
        bursts=31,
        probe_s=61.2345,
        largest_batch="256 images fit; 512 run out of memory.",
        worth=(
            Worth(
                setting="precision",
                value="bf16",
                instead_of="fp32",
                alone=estimate(1.31, 1.28, 1.34, 12),
                within=estimate(1.92499, 1.75, 2.083, 12),
            ),
            Worth(setting="memory_format", value="channels_last", instead_of="contiguous", note="With bf16 only."),
        ),
        left_out=(("precision", "fp16", "needs a CUDA device"), ("pinning", True, "no CUDA device to copy to")),
    ),
    provenance=Provenance(
        date="2026-01-05T12:00:00Z",
        autotrain="0.1.0",
        hardware="a1b2c3",
        cpu="Intel Xeon",
        usable_cpus=2,
        gpus=("NVIDIA H100",),
        versions=(("torch", "2.11.0"), ("pillow", "12.0")),
        task="00ff00",
        model="resnet18",
        dataset="/data/flowers: all",
        batch_size=64,
        image_size=176,
        device="cpu",
    ),
)


def test_file_says_what_it_is_and_how_to_use_it() -> None:
    header = PLAN.to_yaml().split("\nschema:")[0]
    assert "autotrain fit TARGET --plan plan.yaml" in header
    assert 'autotrain.fit(model, dataset, plan="plan.yaml")' in header
    assert all(line.startswith("#") for line in header.splitlines() if line)


def test_each_setting_has_its_comment() -> None:
    text = PLAN.to_yaml()
    section = text[text.index("settings:") : text.index("evidence:")]
    assert section.splitlines()[:17] == [
        "settings:",
        "  precision: bf16               # worth 1.93x (1.75 to 2.08), instead of fp32",
        "  memory_format: channels_last  # instead of contiguous",
        "  compile: none                 # the default",
        "  optimizer_kernel: own         # the default",
        "  cudnn_benchmark: false        # the default",
        "  micro_batches: 1              # the default",
        "  augmentation: crop            # the policy",
        "  placement: worker             # the default",
        "  decoder: pillow               # the default",
        "  resize: pillow                # the default",
        "  cache: none                   # the default",
        "  threads: 0                    # the default",
        "  loader: processes             # the default",
        "  workers: 2                    # instead of the default, 0",
        "  prefetch: 2                   # the default",
        "  pinning: false                # the default",
    ]


def test_measured_numbers_are_rounded_and_on_one_line() -> None:
    text = PLAN.to_yaml()
    assert "  default_rate: {value: 214.6, low: 210.1, high: 220, n: 24}\n" in text
    assert "  probe_s: 61.23\n" in text


def test_file_is_narrow_and_clean() -> None:
    lines = PLAN.to_yaml().splitlines()
    assert max(map(len, lines)) <= 104
    assert [line for line in lines if line != line.rstrip()] == []


def test_sections_come_in_order_and_text_is_deterministic() -> None:
    text = PLAN.to_yaml()
    tops = [line.split(":")[0] for line in text.splitlines() if line and line[0] not in " #"]
    assert tops == ["schema", "seed", "settings", "evidence", "provenance"]
    assert replace(PLAN).to_yaml() == text


def test_saved_plan_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    PLAN.save(path)
    loaded = Plan.load(path)
    assert (loaded.settings, loaded.provenance, loaded.seed) == (PLAN.settings, PLAN.provenance, PLAN.seed)
    assert loaded.evidence.findings == PLAN.evidence.findings
    assert loaded.evidence.left_out == PLAN.evidence.left_out
    assert loaded.evidence.default_rate == estimate(214.6, 210.1, 220.0, 24)
    assert [(entry.alone, entry.within) for entry in loaded.evidence.worth] == [
        (estimate(1.31, 1.28, 1.34, 12), estimate(1.925, 1.75, 2.083, 12)),
        (None, None),
    ]
    assert loaded.to_yaml() == path.read_text(encoding="utf-8")


def test_a_plan_from_before_attribution_still_loads() -> None:
    text = (
        "schema: 1\nsettings: {workers: 2}\nevidence:\n  worth:\n"
        "    - {setting: workers, value: 2, instead_of: 0, ratio: {value: 1.3, low: 1.2, high: 1.4, n: 6}}\n"
    )
    (worth,) = Plan.from_yaml(text).evidence.worth
    assert (worth.alone, worth.within, worth.ratio) == (None, None, estimate(1.3, 1.2, 1.4))
    assert "# worth 1.30x (1.20 to 1.40), instead of 0\n" in Plan.from_yaml(text).to_yaml()


def test_hand_written_plan_needs_two_lines() -> None:
    plan = Plan.from_yaml("schema: 1\nsettings: {workers: 2}\n")
    assert plan == Plan(settings=Settings(workers=2))
    assert plan.evidence.verdict == "given"


@pytest.mark.parametrize(
    "tail", ["settings:\n", "settings: {}\nevidence:\n", "settings:\n  # workers: 2\nprovenance: ~"]
)
def test_sections_without_content_are_defaults(tail: str) -> None:
    assert Plan.from_yaml(f"schema: 1\n{tail}") == Plan(settings=Settings())


def test_plan_given_by_hand_writes_no_empty_sections() -> None:
    text = Plan(settings=Settings(workers=2)).to_yaml()
    assert "evidence:" not in text
    assert "provenance:" not in text


def test_windows_line_ends_and_byte_order_mark_load(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + PLAN.to_yaml().replace("\n", "\r\n").encode())
    assert Plan.load(path).settings == PLAN.settings


def test_dictionary_is_json() -> None:
    content = json.loads(json.dumps(PLAN.as_dict()))
    assert content["schema"] == 1
    assert content["settings"] == PLAN.settings.as_dict()
    assert content["evidence"]["default_rate"]["value"] == 214.62341
    assert content["evidence"]["verdict"] == "faster"
    assert content["evidence"]["left_out"][0] == {"knob": "precision", "value": "fp16", "reason": "needs a CUDA device"}
    assert content["provenance"]["versions"] == {"torch": "2.11.0", "pillow": "12.0"}


def test_plan_with_an_impossible_setting_cannot_be_made() -> None:
    with pytest.raises(PlanError, match=r"precision: unknown value 'bf6'\. Did you mean"):
        Plan(settings=Settings(precision="bf6"))


def test_plan_that_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    broken = replace(PLAN, evidence=Evidence(default_rate=estimate(float("nan"), 1, 2)))
    with pytest.raises(PlanError, match=r"evidence\.default_rate\.value: nan is not a finite number"):
        broken.save(tmp_path / "plan.yaml")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    Plan(settings=Settings(workers=1)).save(path)
    return path


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_failed_save_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(PlanError, match=r"plan\.yaml: cannot be written \(No space left on device\)"):
        PLAN.save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_interrupted_save_leaves_no_draft(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        PLAN.save(saved)
    assert list(saved.parent.iterdir()) == [saved]


def test_save_keeps_mode_and_follows_links(saved: Path) -> None:
    saved.chmod(0o640)
    link = saved.with_name("link.yaml")
    link.symlink_to(saved)
    PLAN.save(link)
    assert link.is_symlink()
    assert Plan.load(saved).settings == PLAN.settings
    assert stat.S_IMODE(saved.stat().st_mode) == 0o640


def test_new_file_has_the_usual_mode(saved: Path) -> None:
    plain = saved.with_name("plain")
    plain.touch()
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_refused(saved: Path) -> None:
    saved.parent.chmod(0o555)
    try:
        with pytest.raises(PlanError, match=r"cannot be written \(Permission denied\)"):
            PLAN.save(saved)
    finally:
        saved.parent.chmod(0o755)
    assert Plan.load(saved).settings.workers == 1


def test_unwritable_places_are_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    places = {
        tmp_path / "missing" / "plan.yaml": "its folder does not exist. Make it first: mkdir -p",
        tmp_path: "a folder. Name the file in it",
        Path("/proc/plan.yaml"): "cannot be written",
        tmp_path / ("x" * 300): "cannot be written",
        tmp_path / "a\0b": "cannot be written",
        loop: "cannot be written",
    }
    for place, message in places.items():
        with pytest.raises(PlanError) as caught:
            PLAN.save(place)
        assert message in str(caught.value)
        assert str(caught.value).isprintable()
