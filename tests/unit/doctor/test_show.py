"""What people read: 80 columns, no escape codes in a pipe, commands and addresses in one piece."""

import io

import pytest
from healthy import GPU, made
from rich.console import Console

from autotrain.doctor.checks import CHECKS
from autotrain.doctor.examine import examine
from autotrain.doctor.show import show_examination, summary

HARMED = {
    "environ": {"CUDA_LAUNCH_BLOCKING": "1", "TORCH_LOGS": "+dynamo"},
    "memory": {"shm_bytes": 64 << 20},
    "clock": None,
}


def shown(facts, *, width=80):
    file = io.StringIO()
    show_examination(examine(facts, CHECKS), Console(file=file, width=width, highlight=False))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 60])
def test_lines_fit_but_for_what_must_not_be_broken(width):
    text = shown(made(**HARMED), width=width)
    commands = [problem.command for _, problem in examine(made(**HARMED), CHECKS).problems]
    for line in text.splitlines():
        words = line.strip()
        assert len(line) <= width or words in commands or "https://" in words, line
    assert "\x1b" not in text


def test_problems_come_last_and_the_gravest_of_them_first():
    lines = shown(made(**HARMED)).splitlines()
    heads = [line for line in lines if line[:1].isdigit()]
    assert heads == [
        "1. may crash: 64.0 MiB free in /dev/shm  [shared-memory]",
        "2. slows training: CUDA_LAUNCH_BLOCKING=1  [switches]",
        "3. worth knowing: TORCH_LOGS=+dynamo  [switches]",
    ]
    assert lines.index(heads[0]) > next(number for number, line in enumerate(lines) if "Left out" in line)
    counts = "1 that may crash training, 1 slowing it down, 1 worth knowing"
    end = " ".join(" ".join(lines[-2:]).split())
    assert end == f"Found: {counts}; {len(CHECKS) - 3} checks passed, 1 left out"
    assert "  mend              " in "\n".join(lines)
    assert "                    unset CUDA_LAUNCH_BLOCKING" in lines


def test_all_well_in_one_sentence_with_the_facts():
    text = shown(made())
    assert text.splitlines()[-1] == f"All well: {len(CHECKS)} checks passed"
    assert "  shared-memory     64.0 GiB free in /dev/shm" in text
    assert "Left out" not in text


def test_notes_alone_are_all_well_but():
    found = examine(made(environ={"TORCH_LOGS": "+dynamo"}), CHECKS)
    assert summary(found) == f"All well but for this: 1 worth knowing; {len(CHECKS) - 1} checks passed"


def test_checks_that_are_left_out_for_one_reason_are_told_together():
    facts = made(visible_gpus=(), nvidia_devices=0, torch={"cuda_works": False, "devices": ()})
    rows = [line for line in shown(facts).splitlines() if line.startswith("  gpu")]
    assert rows == ["  gpu               no NVIDIA GPU here", "  gpu-*             no NVIDIA driver here (7 checks)"]
    assert GPU.index == 0


def test_a_check_that_failed_is_told():
    facts = made()
    facts.__dict__["throttling"] = object()
    text = shown(facts)
    assert "Checks that failed themselves" in text
    assert "  quota             AttributeError: " in text
    assert text.splitlines()[-1].endswith(f"{len(CHECKS) - 1} checks passed, 1 failed")
