"""What of a plan each library is given: nothing is dropped in silence, and every text is of the library's own form."""

from __future__ import annotations

import argparse
import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from autotrain.cli.export import Library
from autotrain.integrations.draft import Fate
from autotrain.integrations.targets import TARGETS, Target, target
from autotrain.knobs.base import Knob
from autotrain.knobs.registry import KNOBS
from autotrain.plan.evidence import Evidence, Verdict
from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.settings import Settings
from autotrain.stats.summary import Estimate

GPU = Provenance(
    autotrain="0.1.0",
    usable_cpus=16,
    device="cuda",
    batch_size=256,
    image_size=224,
    processes=2,
    processes_per_machine=2,
)
CPU = replace(GPU, device="cpu", usable_cpus=2, processes=1, processes_per_machine=1)
PROVEN = Evidence(verdict=Verdict.FASTER, ratio=Estimate(value=1.93, low=1.89, high=1.98, n=20))
RICH = Settings(
    precision="bf16",
    memory_format="channels_last",
    compile="reduce-overhead",
    optimizer_kernel="fused",
    cudnn_benchmark=True,
    micro_batches=2,
    bucket_mib=100,
    gradient_precision="bf16",
    gradient_views=True,
    static_graph=True,
    augmentation="crop",
    placement="device",
    decoder="simplejpeg",
    resize="torch",
    cache="ram",
    threads=1,
    workers=4,
    prefetch=4,
    pinning=True,
)
PLAN = Plan(settings=RICH, evidence=PROVEN, provenance=GPU)
SINGLE = [
    replace(Settings(), **{knob.name: value})
    for knob in KNOBS
    for value in (knob.known or ({"workers": 2, "prefetch": 4, "threads": 1, "bucket_mib": 5}.get(knob.name, 2),))
    if value != getattr(Settings(), knob.name)
]
OTHERS = [entry for entry in TARGETS if entry.name != "json"]


def words_of(settings: Settings) -> str:
    return ",".join(f"{name}={value}" for name, value in settings.changes(Settings()).items())


def uncommented(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def yaml_of(text: str) -> Any:
    return YAML(typ="safe").load(text)


def module_of(text: str) -> dict[str, Any]:
    """Return the constants of a module, which imports a library that need not be installed."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def test_the_command_offers_what_there_is() -> None:
    assert [entry.value for entry in Library] == [entry.name for entry in TARGETS]


@pytest.mark.parametrize("library", TARGETS, ids=lambda entry: entry.name)
@pytest.mark.parametrize("settings", [*SINGLE, RICH, replace(RICH, loader="threads")], ids=words_of)
def test_no_change_is_dropped_in_silence(library: Target, settings: Settings) -> None:
    draft = library.draft(Plan(settings=settings, provenance=GPU))
    told = {entry.setting for entry in draft.entries}
    needless = {"prefetch", "loader"} if not settings.workers else set()
    needless |= {"prefetch"} if settings.loader == "threads" else set()
    assert set(settings.changes(Settings())) - told - needless == set()


@pytest.mark.parametrize("library", TARGETS, ids=lambda entry: entry.name)
def test_a_setting_has_one_fate(library: Target) -> None:
    for settings in (*SINGLE, RICH, replace(RICH, loader="threads"), replace(RICH, precision="tf32")):
        entries = [entry.setting for entry in library.draft(Plan(settings=settings, provenance=GPU)).entries]
        assert sorted(set(entries)) == sorted(entries)


@pytest.mark.parametrize("library", TARGETS, ids=lambda entry: entry.name)
def test_the_default_loses_nothing(library: Target) -> None:
    draft = library.draft(Plan(settings=Settings()))
    assert draft.of(Fate.LOST) == draft.of(Fate.BY_HAND) == ()


@pytest.mark.parametrize("library", OTHERS, ids=lambda entry: entry.name)
def test_the_text_says_what_is_lost_and_promises_nothing(library: Target) -> None:
    words = " ".join(library.missing(library.draft(PLAN)))
    assert f"Lost, since {library.title} has nothing for it" in words
    for name in ("decoder = simplejpeg", "cache = ram", "resize = torch", "placement = device"):
        assert name in words
    if library.comments:
        comments = " ".join(line[1:] for line in library.text(PLAN).splitlines() if line.startswith("#"))
        comments = " ".join(comments.split())
        assert " ".join(words.split()) in comments
        assert "was measured with autotrain's own loader and step" in comments
        assert f"Under {library.title} nothing was measured" in comments
        assert all(len(line) <= 100 for line in library.text(PLAN).splitlines() if line.startswith("#"))


def test_a_plan_without_a_proof_is_not_called_faster() -> None:
    text = target("lightning").text(Plan(settings=RICH))
    assert "the plan itself was not proven to be faster" in " ".join(text.replace("#", "").split())


def test_lightning() -> None:
    text = target("lightning").text(PLAN)
    values = module_of(text)
    assert values["TRAINER"] == {
        "accelerator": "gpu",
        "devices": 2,
        "num_nodes": 1,
        "precision": "bf16-mixed",
        "benchmark": True,
        "accumulate_grad_batches": 2,
    }
    assert values["LOADER"] == {
        "num_workers": 4,
        "persistent_workers": True,
        "prefetch_factor": 4,
        "pin_memory": True,
        "batch_size": 64,
        "drop_last": True,
    }
    assert values["OPTIMIZER"] == {"fused": True}
    assert values["DDP"] == {"bucket_cap_mb": 100, "gradient_as_bucket_view": True, "static_graph": True}
    for line in (
        "torch.set_num_threads(1)",
        "pl_module.to(memory_format=torch.channels_last)",
        'torch.compile(model, mode="reduce-overhead")',
        "DDPStrategy(**DDP, ddp_comm_hook=bf16_compress_hook)",
    ):
        assert line in text


@pytest.mark.parametrize("settings", [*SINGLE, RICH, Settings()], ids=words_of)
@pytest.mark.parametrize("name", ["lightning", "ray"])
def test_python_is_python(name: str, settings: Settings) -> None:
    text = target(name).text(Plan(settings=settings, provenance=CPU))
    compile(text, "exported.py", "exec")
    assert "\n\n\n\n" not in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_tf32_is_two_lines_of_python() -> None:
    for name in ("lightning", "ray"):
        text = target(name).text(Plan(settings=Settings(precision="tf32"), provenance=GPU))
        assert 'torch.backends.cuda.matmul.fp32_precision = "tf32"' in text
        assert 'torch.backends.cudnn.conv.fp32_precision = "tf32"' in text


def test_accelerate() -> None:
    text = target("accelerate").text(PLAN)
    assert yaml_of(text) == {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "num_processes": 2,
        "num_machines": 1,
        "use_cpu": False,
        "mixed_precision": "bf16",
        "dynamo_config": {"dynamo_backend": "INDUCTOR", "dynamo_mode": "reduce-overhead"},
    }
    comments = " ".join(text.replace("#", "").split())
    for line in (
        "Accelerator(gradient_accumulation_steps=2)",
        "DataLoader(num_workers=4)",
        "DataLoader(prefetch_factor=4)",
        "DataLoader(pin_memory=True)",
        "DistributedDataParallelKwargs(bucket_cap_mb=100) among Accelerator's kwargs_handlers",
    ):
        assert line in comments


def test_transformers() -> None:
    assert json.loads(target("transformers").text(PLAN)) == {
        "output_dir": "trainer_output",
        "bf16": True,
        "torch_compile": True,
        "torch_compile_mode": "reduce-overhead",
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 64,
        "dataloader_num_workers": 4,
        "dataloader_persistent_workers": True,
        "dataloader_prefetch_factor": 4,
        "dataloader_pin_memory": True,
        "dataloader_drop_last": True,
        "ddp_bucket_cap_mb": 100,
        "ddp_static_graph": True,
    }


def test_timm_has_a_worker_in_any_case() -> None:
    """Its loader keeps workers between epochs, which torch refuses where there are none."""
    assert "--workers 1" in uncommented(target("timm").text(replace(PLAN, settings=Settings())))


def test_full_precision_is_lost_where_timms_script_turns_tf32_on() -> None:
    draft = target("timm").draft(replace(PLAN, settings=Settings()))
    assert [entry.setting for entry in draft.of(Fate.LOST)] == ["precision"]


def test_timm() -> None:
    text = uncommented(target("timm").text(PLAN))
    parser = argparse.ArgumentParser()
    for name in ("--device", "--amp-dtype", "--torchcompile", "--torchcompile-mode", "--opt-kwargs"):
        parser.add_argument(name)
    for name in ("--grad-accum-steps", "--batch-size", "--img-size", "--workers"):
        parser.add_argument(name, type=int)
    for name in ("--amp", "--channels-last", "--pin-mem"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("--color-jitter", type=float)
    found = parser.parse_args(text.split())
    assert vars(found) == {
        "device": "cuda",
        "amp": True,
        "amp_dtype": "bfloat16",
        "channels_last": True,
        "torchcompile": "inductor",
        "torchcompile_mode": "reduce-overhead",
        "opt_kwargs": "fused=True",
        "grad_accum_steps": 2,
        "batch_size": 64,
        "img_size": 224,
        "workers": 4,
        "pin_mem": True,
        "color_jitter": 0.0,
    }


def test_composer() -> None:
    assert yaml_of(target("composer").text(PLAN)) == {
        "trainer": {
            "device": "gpu",
            "precision": "amp_bf16",
            "compile_config": {"mode": "reduce-overhead"},
            "device_train_microbatch_size": 64,
        },
        "algorithms": {"channels_last": {}},
        "loader": {
            "batch_size": 128,
            "drop_last": True,
            "num_workers": 4,
            "persistent_workers": True,
            "prefetch_factor": 4,
            "pin_memory": True,
        },
        "optimizer": {"fused": True},
    }


def test_composer_has_no_autocast_on_a_cpu() -> None:
    library = target("composer")
    draft = library.draft(Plan(settings=Settings(precision="bf16"), provenance=CPU))
    assert [str(entry) for entry in draft.of(Fate.LOST)] == [
        "precision = bf16: on a CPU Composer computes in fp32 only"
    ]
    assert yaml_of(library.text(Plan(settings=Settings(precision="bf16"), provenance=CPU)))["trainer"] == {
        "device": "cpu",
        "precision": "fp32",
        "device_train_microbatch_size": 256,
    }


def test_ray() -> None:
    text = target("ray").text(PLAN)
    values = module_of(text)
    assert values["SCALING"] == {"num_workers": 2, "use_gpu": True, "resources_per_worker": {"CPU": 5, "GPU": 1}}
    assert values["LOADER"]["batch_size"] == 64
    assert 'torch.autocast("cuda", dtype=torch.bfloat16)' in text
    assert values["DDP"] == {"bucket_cap_mb": 100, "gradient_as_bucket_view": True, "static_graph": True}
    assert "prepare_model(model, parallel_strategy_kwargs=DDP)" in text


def test_ray_asks_for_no_more_cores_than_there_are() -> None:
    values = module_of(target("ray").text(Plan(settings=RICH, provenance=CPU)))
    assert values["SCALING"] == {"num_workers": 1, "use_gpu": False, "resources_per_worker": {"CPU": 2}}


def test_threads_are_lost_with_their_number() -> None:
    draft = target("lightning").draft(Plan(settings=replace(RICH, loader="threads")))
    assert {entry.setting for entry in draft.of(Fate.LOST)} >= {"workers", "loader"}
    assert "num_workers" not in draft.section("loader")


def test_the_table_in_the_documents_is_true() -> None:
    page = (Path(__file__).parents[3] / "docs" / "other-libraries.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `") and line.count("|") > 4]
    assert rows == [f"| `{knob.name}` | {' | '.join(cell(entry, knob) for entry in OTHERS)} |" for knob in KNOBS]


def cell(library: Target, knob: Knob) -> str:
    """Return what becomes of a setting's values, as the documents' table says it."""
    signs = {Fate.KEPT: "+", Fate.BY_HAND: "s", Fate.LOST: "-"}
    found = []
    for settings in SINGLE:
        if knob.name in settings.changes(Settings()):
            loaded = replace(settings, workers=2) if knob.name in ("prefetch", "loader") else settings
            entries = library.draft(Plan(settings=loaded, provenance=GPU)).entries
            found += [signs[entry.fate] for entry in entries if entry.setting == knob.name]
    return " or ".join(dict.fromkeys(found))


def test_json_is_the_whole_plan() -> None:
    assert json.loads(target("json").text(PLAN)) == json.loads(json.dumps(PLAN.as_dict()))
