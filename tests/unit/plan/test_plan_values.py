"""The check of single values covers every setting that exists."""

import pytest

from autotrain.plan.plan import Plan
from autotrain.plan.values import CHOICES, LEAST, SWITCHES, check_settings, check_value, shown
from autotrain.settings import Settings


def test_every_setting_is_checked() -> None:
    assert sorted([*CHOICES, *LEAST, *SWITCHES]) == sorted(Settings.names())


def test_defaults_pass() -> None:
    assert check_settings(Settings()) is None


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_every_choice_passes(name: str) -> None:
    assert [check_value(name, choice) for choice in CHOICES[name]] == [None] * len(CHOICES[name])


@pytest.mark.parametrize(("name", "value"), [("threads", False), ("workers", 1.0), ("pinning", 0), ("precision", None)])
def test_lookalikes_do_not_pass(name: str, value: object) -> None:
    assert check_value(name, value) is not None


def test_unknown_setting_gets_a_hint() -> None:
    assert str(check_value("worker", 2)).startswith("unknown knob 'worker'. Did you mean 'workers'?")


def test_shown_text_is_short_and_printable() -> None:
    assert shown("\x1b[2J") == "\\x1b[2J"
    assert len(shown("x" * 10_000)) == 60
    assert (shown(True), shown(None)) == ("true", "nothing")


def test_a_plan_from_before_a_setting_existed_still_loads():
    old = "schema: 1\nsettings:\n  precision: bf16\n  memory_format: channels_last\n  workers: 2\n"
    settings = Plan.from_yaml(old).settings
    assert settings == Settings(precision="bf16", memory_format="channels_last", workers=2)
    assert (settings.compile, settings.optimizer_kernel) == ("none", "own")
    assert (settings.cudnn_benchmark, settings.micro_batches) == (False, 1)


def test_compute_settings_survive_a_plan():
    settings = Settings(compile="max-autotune", optimizer_kernel="fused", cudnn_benchmark=True, micro_batches=4)
    assert Plan.from_yaml(Plan(settings=settings).to_yaml()).settings == settings
