"""The schema is what the reader accepts: the file in docs is up to date, real plans pass, wrong ones do not."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from autotrain.plan.evidence import Evidence, Verdict, Worth
from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.plan.schema import plan_schema
from autotrain.plan.values import check_value
from autotrain.settings import Settings
from autotrain.stats.summary import Estimate

FILE = Path(__file__).parents[3] / "docs" / "plan.schema.json"
HALF = Estimate(value=1.5, low=1.4, high=1.6, n=8)

FULL = Plan(
    settings=Settings(precision="bf16", workers=2, cudnn_benchmark=True, bucket_mib=5),
    seed=2**64 - 1,
    evidence=Evidence(
        verdict=Verdict.FASTER,
        default_rate=HALF,
        chosen_rate=HALF,
        ratio=HALF,
        usual_rate=HALF,
        bottleneck="input-bound",
        findings=("one: with a colon", "two"),
        bursts=3,
        probe_s=70.5,
        largest_batch="512 fit",
        worth=(Worth(setting="workers", value=2, instead_of=0, alone=HALF, within=HALF, ratio=HALF, note="a note"),),
        left_out=(("pinning", True, "no CUDA device"), ("workers", 4, "too many")),
    ),
    provenance=Provenance(
        date="2026-01-01T00:00:00+00:00",
        autotrain="0.1.0",
        hardware="ab",
        cpu="a CPU",
        usable_cpus=2,
        gpus=("a GPU",),
        versions=(("torch", "2.15.0"),),
        task="cd",
        model="Net",
        dataset="photos",
        batch_size=8,
        image_size=32,
        device="cpu",
        processes=1,
        processes_per_machine=1,
    ),
)

WRONG = {
    "no settings": ("schema: 1\n", "settings"),
    "no schema": ("settings: {}\n", "schema"),
    "a newer schema": ("schema: 2\nsettings: {}\n", "2"),
    "an unknown section": ("schema: 1\nsettings: {}\nsetings: {}\n", "setings"),
    "an unknown knob": ("schema: 1\nsettings: {precison: fp32}\n", "precison"),
    "an unknown value": ("schema: 1\nsettings: {precision: fp23}\n", "fp23"),
    "a number too small": ("schema: 1\nsettings: {prefetch: 0}\n", "0"),
    "a number as text": ("schema: 1\nsettings: {workers: '2'}\n", "2"),
    "a switch as a number": ("schema: 1\nsettings: {pinning: 1}\n", "1"),
    "an unknown field": ("schema: 1\nsettings: {}\nevidence: {verdit: faster}\n", "verdit"),
    "an unknown verdict": ("schema: 1\nsettings: {}\nevidence: {verdict: fast}\n", "fast"),
    "half an estimate": ("schema: 1\nsettings: {}\nevidence: {ratio: {value: 1, low: 1, n: 3}}\n", "high"),
    "text for a list": ("schema: 1\nsettings: {}\nevidence: {findings: slow}\n", "slow"),
    "a worth of nothing": ("schema: 1\nsettings: {}\nevidence: {worth: [{setting: workers}]}\n", "value"),
    "a negative count": ("schema: 1\nsettings: {}\nprovenance: {processes: -1}\n", "-1"),
}


def values(text: str) -> Any:
    return YAML(typ="safe").load(text)


def test_the_file_in_docs_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == json.dumps(plan_schema(), indent=2) + "\n", (
        "write it anew: autotrain export --schema --out docs/plan.schema.json"
    )


def test_every_setting_is_described_with_its_default() -> None:
    properties = plan_schema()["properties"]["settings"]["properties"]
    assert tuple(properties) == Settings.names()
    for name, value in Settings().as_dict().items():
        assert properties[name]["default"] == value
        assert properties[name]["description"].endswith(".")


@pytest.mark.parametrize("name", Settings.names())
def test_it_allows_what_the_reader_allows(name: str) -> None:
    allowed = plan_schema()["properties"]["settings"]["properties"][name]
    for value in allowed.get("enum", (True, False) if allowed.get("type") == "boolean" else (allowed.get("minimum"),)):
        assert check_value(name, value) is None
    if "minimum" in allowed:
        assert check_value(name, allowed["minimum"] - 1) is not None


@pytest.mark.parametrize("name", WRONG)
def test_the_reader_refuses_what_the_schema_is_tested_to_refuse(name: str) -> None:
    text, words = WRONG[name]
    with pytest.raises(Exception, match=words):
        Plan.from_yaml(text)


class TestByTheReferenceImplementation:
    """With the package jsonschema, which is among the development tools."""

    @pytest.fixture
    def validator(self) -> Any:
        jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install -e '.[dev]'")
        schema = plan_schema()
        jsonschema.Draft7Validator.check_schema(schema)
        return jsonschema.Draft7Validator(schema)

    @pytest.mark.parametrize("plan", [FULL, Plan(settings=Settings())], ids=["full", "by hand"])
    def test_written_plans_pass(self, validator: Any, plan: Plan) -> None:
        assert [problem.message for problem in validator.iter_errors(values(plan.to_yaml()))] == []

    @pytest.mark.parametrize("text", ["schema: 1\nsettings:\n", "schema: 1\nsettings: {}\nevidence:\n  ratio:\n"])
    def test_what_the_reader_takes_for_left_out_passes(self, validator: Any, text: str) -> None:
        Plan.from_yaml(text)
        assert validator.is_valid(values(text))

    @pytest.mark.parametrize("name", WRONG)
    def test_wrong_plans_do_not(self, validator: Any, name: str) -> None:
        assert not validator.is_valid(values(WRONG[name][0]))
