"""Exported plans and live arguments, used with the real libraries; ``make test-integrations`` installs those.

Each library trains two steps in a process of its own, as a user's script would: they change environment and threads.
Composer takes older versions of torch than autotrain does, so it runs in another interpreter.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotrain.integrations.targets import target
from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.settings import Settings

COMPOSER = os.environ.get("AUTOTRAIN_COMPOSER_PYTHON")
"""A Python interpreter that has Composer."""

PLAN = Plan(
    settings=Settings(
        precision="bf16",
        memory_format="channels_last",
        optimizer_kernel="fused",
        micro_batches=2,
        augmentation="crop",
        threads=1,
        workers=1,
        prefetch=4,
    ),
    provenance=Provenance(autotrain="0.1.0", device="cpu", usable_cpus=1, batch_size=16, image_size=16),
    seed=3,
)

NET = """
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

    def forward(self, images):
        self.seen = self.conv(images)
        return self.head(self.seen.mean((2, 3)))

data = TensorDataset(torch.rand(64, 3, 16, 16), torch.arange(64) % 3)

def check(net, dtype=torch.bfloat16):
    assert net.conv.weight.is_contiguous(memory_format=torch.channels_last), "not channels-last"
    assert net.seen.dtype == dtype, f"computed in {net.seen.dtype}"
    assert net.seen.is_contiguous(memory_format=torch.channels_last)

"""

LIGHTNING = """
import lightning.pytorch as pl

class Module(pl.LightningModule):
    options = {}

    def __init__(self):
        super().__init__()
        self.net, self.batches = Net(), []

    def training_step(self, batch, place):
        images, labels = batch
        self.batches.append((images.clone(), labels.clone()))
        return functional.cross_entropy(self.net(images), labels)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), **self.options)

QUIET = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)

"""


def wanted(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: make test-integrations")


@pytest.fixture
def run(tmp_path: Path):
    """Run a script in a folder of its own, with the plan in it; it must print ``done`` at its end."""
    PLAN.save(tmp_path / "plan.yaml")

    def call(script: str, *before: str, python: str = sys.executable) -> None:
        (tmp_path / "script.py").write_text(f"{script}\nprint('done')\n")
        command = [python, *before, "script.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        assert done.stdout.rstrip().endswith("done")

    return call


def exported(name: str, place: Path) -> None:
    place.write_text(target(name).text(PLAN))


@pytest.mark.slow
@wanted("lightning")
def test_lightning_trains_with_the_exported_module(run, tmp_path):
    exported("lightning", tmp_path / "exported.py")
    run(
        NET
        + LIGHTNING
        + """
import exported

module = Module()
module.options = exported.OPTIMIZER
trainer = pl.Trainer(**exported.trainer_arguments(), **QUIET, max_steps=2)
loader = DataLoader(data, shuffle=True, **exported.LOADER)
trainer.fit(module, loader)
check(module.net)
assert trainer.global_step == 2
assert len(module.batches) == 4, "two parts of a batch for each step"
assert loader.batch_size == 8 and loader.num_workers == 1 and loader.prefetch_factor == 4
assert trainer.optimizers[0].param_groups[0]["fused"] is True
assert torch.get_num_threads() == 1
"""
    )


@pytest.mark.slow
@wanted("lightning")
def test_lightning_trains_on_the_tuned_batches(run):
    run(
        NET
        + LIGHTNING
        + """
from autotrain import Plan, Task
from autotrain.engine.rig import Rig
from autotrain.integrations.lightning import TunedDataModule, trainer_arguments
from autotrain.preparation import prepare_workload
from dataclasses import replace

plan = Plan.load("plan.yaml")
images = torch.randint(0, 256, (40, 3, 20, 20), dtype=torch.uint8)
labels = torch.arange(40) % 3
options = dict(batch_size=16, image_size=16, augmentation="crop", seed=3)
threads = torch.get_num_threads()
module = Module()
trainer = pl.Trainer(**trainer_arguments(plan), **QUIET, max_epochs=2)
trainer.fit(module, datamodule=TunedDataModule("plan.yaml", (images, labels), **options))
check(module.net)
assert torch.get_num_threads() == threads, "the thread count was not put back"
assert trainer.optimizers[0].param_groups[0]["fused"] is True
assert trainer.global_step == 4, "two epochs of two whole batches"
assert len(module.batches) == 8

task = Task(model=Net(), dataset=(images, labels), device="cpu", **options)
workload = replace(prepare_workload(task), batch_size=8)
settings = replace(plan.settings, micro_batches=1, precision="fp32", optimizer_kernel="own", threads=0)
with Rig(workload, settings, stop=10) as rig, rig.active():
    expected = [rig.transfer.finish(rig.move(rig.input.next())) for _ in range(10)]
for place, (seen, labels) in zip((0, 1, 2, 3, 5, 6, 7, 8), module.batches, strict=True):  # of 5 parts, 4 make batches
    assert torch.equal(seen, expected[place][0]) and torch.equal(labels, expected[place][1]), f"part {place}"
"""
    )


@pytest.mark.slow
@wanted("lightning")
def test_lightnings_ranks_share_each_batch(run):
    run(
        NET
        + LIGHTNING
        + """
from autotrain import Plan, Settings
from autotrain.data.stream import Stream
from autotrain.integrations.lightning import TunedDataModule, trainer_arguments
from autotrain.plan.provenance import Provenance

torch.manual_seed(0)
images, labels = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8), torch.arange(40)
settings = Settings(memory_format="channels_last", workers=1, bucket_mib=5, gradient_precision="bf16")
plan = Plan(settings=settings, provenance=Provenance(device="cpu", batch_size=16, processes=2, processes_per_machine=2))
module = Module()
module.net.head = nn.Linear(8, 40)
trainer = pl.Trainer(**trainer_arguments(plan), **QUIET, max_epochs=1)
trainer.fit(module, datamodule=TunedDataModule(plan, (images, labels), batch_size=16))
stream = Stream(40, 16, seed=0, rank=trainer.global_rank, world_size=2)
assert trainer.global_step == 2
assert [labels.tolist() for _, labels in module.batches] == [stream.ticket(step).indices.tolist() for step in (0, 1)]
"""
    )


@wanted("accelerate")
def test_accelerate_takes_configuration_and_arguments(run, tmp_path):
    exported("accelerate", tmp_path / "config.yaml")
    run(
        NET
        + """
from accelerate import Accelerator
from autotrain import Plan
from autotrain.integrations.accelerate import accelerator_arguments

assert Accelerator().mixed_precision == "bf16", "the configuration file was not taken"
Accelerator().free_memory()
accelerator = Accelerator(**accelerator_arguments(Plan.load("plan.yaml")))
assert accelerator.gradient_accumulation_steps == 2
assert str(accelerator.device) == "cpu"
net = Net().to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(net.parameters(), fused=True)
wrapped, optimizer, loader = accelerator.prepare(net, optimizer, DataLoader(data, batch_size=8))
steps = 0
for images, labels in loader:
    with accelerator.accumulate(wrapped):
        accelerator.backward(functional.cross_entropy(wrapped(images), labels))
        optimizer.step()
        steps += accelerator.sync_gradients
        optimizer.zero_grad()
check(net)
assert steps == 4
""",
        *("-m", "accelerate.commands.launch", "--config_file", "config.yaml"),
    )


@wanted("transformers", "accelerate")
def test_the_hugging_face_trainer_reads_the_json(run, tmp_path):
    exported("transformers", tmp_path / "arguments.json")
    run(
        NET
        + """
from transformers import HfArgumentParser, Trainer, TrainingArguments
from autotrain import Plan
from autotrain.integrations.transformers import training_arguments

(arguments,) = HfArgumentParser(TrainingArguments).parse_json_file("arguments.json")
live = TrainingArguments(output_dir="trainer_output", **training_arguments(Plan.load("plan.yaml")))
for name in training_arguments(Plan.load("plan.yaml")):
    assert getattr(live, name) == getattr(arguments, name), name
assert arguments.bf16 and arguments.gradient_accumulation_steps == 2
assert arguments.per_device_train_batch_size == 8 and arguments.dataloader_num_workers == 1

class WithLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net().to(memory_format=torch.channels_last)

    def forward(self, images, labels):
        outputs = self.net(images)
        return {"loss": functional.cross_entropy(outputs, labels), "logits": outputs}

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return len(data)

    def __getitem__(self, place):
        images, label = data[place]
        return {"images": images, "labels": label}

arguments.max_steps, arguments.save_strategy, arguments.report_to = 2, "no", []
arguments.disable_tqdm = True
model = WithLoss()
trainer = Trainer(model=model, args=arguments, train_dataset=Rows())
trainer.train()
assert trainer.state.global_step == 2
check(model.net)
"""
    )


@wanted("timm")
def test_timm_takes_what_its_script_would_hand_on(run, tmp_path):
    exported("timm", tmp_path / "arguments")
    run(
        NET
        + """
import argparse
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.utils import ParseKwargs

# The options as train.py declares them; the script itself is not in timm's package.
parser = argparse.ArgumentParser()
for name in ("--device", "--amp-dtype"):
    parser.add_argument(name, type=str)
for name in ("--workers", "--batch-size", "--grad-accum-steps", "--img-size"):
    parser.add_argument(name, type=int)
for name in ("--amp", "--channels-last", "--pin-mem"):
    parser.add_argument(name, action="store_true")
parser.add_argument("--opt-kwargs", nargs="*", default={}, action=ParseKwargs)
parser.add_argument("--color-jitter", type=float)
words = [line.split() for line in open("arguments") if not line.startswith("#")]
args = parser.parse_args([word for line in words for word in line])
assert args.amp and args.channels_last and args.grad_accum_steps == 2 and args.batch_size == 8

class Images(torch.utils.data.Dataset):
    transform = None

    def __len__(self):
        return 16

    def __getitem__(self, place):
        from PIL import Image
        return self.transform(Image.new("RGB", (20, 20), (place, 0, 0))), place % 3

loader = create_loader(
    Images(), (3, args.img_size, args.img_size), args.batch_size, is_training=True, use_prefetcher=False,
    num_workers=args.workers, pin_memory=args.pin_mem, color_jitter=args.color_jitter, device=torch.device(args.device),
)
net = Net().to(memory_format=torch.channels_last) if args.channels_last else Net()
optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-3, **args.opt_kwargs)
assert optimizer.param_groups[0]["fused"] is True
for images, labels in loader:
    with torch.autocast(args.device, dtype=getattr(torch, args.amp_dtype)):
        loss = functional.cross_entropy(net(images), labels)
    loss.backward()
optimizer.step()
check(net)
"""
    )


@pytest.mark.slow
@wanted("ray")
def test_ray_trains_with_the_exported_module(run, tmp_path):
    exported("ray", tmp_path / "exported.py")
    run(
        NET
        + """
import os
import exported
import ray
from autotrain import Plan
from autotrain.integrations.ray import loader_arguments, scaling_config, torch_config
from ray.train import RunConfig
from ray.train.torch import TorchTrainer, prepare_data_loader

plan = Plan.load("plan.yaml")
assert scaling_config(plan).resources_per_worker == exported.scaling_config().resources_per_worker == {"CPU": 1}
assert loader_arguments(plan) == exported.LOADER

def train():
    exported.begin()
    assert torch.get_num_threads() == 1
    net = Net()
    wrapped = exported.prepared(net)
    optimizer = torch.optim.AdamW(wrapped.parameters(), **exported.OPTIMIZER)
    assert optimizer.param_groups[0]["fused"] is True
    loader = prepare_data_loader(DataLoader(data, shuffle=True, **exported.LOADER))
    for images, labels in list(loader)[:4]:
        with exported.autocast():
            loss = functional.cross_entropy(wrapped(images), labels) / 2
        loss.backward()
    optimizer.step()
    check(net)
    open(os.path.join(FOLDER, "trained"), "w").close()

FOLDER = os.getcwd()
seen = {"PYTHONPATH": os.pathsep.join((FOLDER, os.environ.get("PYTHONPATH", "")))}
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": seen})
try:
    TorchTrainer(
        train,
        scaling_config=exported.scaling_config(),
        torch_config=torch_config(plan),
        run_config=RunConfig(storage_path=FOLDER),
    ).fit()
finally:
    ray.shutdown()
assert os.path.exists("trained")
"""
    )


@pytest.mark.skipif(COMPOSER is None, reason="no interpreter with Composer: bash tests/integrations.sh composer")
def test_composer_trains_with_the_exported_yaml(run, tmp_path):
    exported("composer", tmp_path / "exported.yaml")
    run(
        NET
        + """
import yaml
from composer import Trainer
from composer.algorithms import ChannelsLast
from composer.models import ComposerClassifier

values = yaml.safe_load(open("exported.yaml"))
assert values["algorithms"] == {"channels_last": {}}
net = Net()
model = ComposerClassifier(net, num_classes=3)
optimizer = torch.optim.AdamW(model.parameters(), **values["optimizer"])
trainer = Trainer(
    model=model,
    train_dataloader=DataLoader(data, shuffle=True, **values["loader"]),
    optimizers=optimizer,
    algorithms=[ChannelsLast()],
    max_duration="2ba",
    progress_bar=False,
    **values["trainer"],
)
trainer.fit()
check(net, dtype=torch.float32)  # what Composer has on a CPU
assert trainer.state.timestamp.batch == 2
assert trainer.state.device_train_microbatch_size == 8
""",
        python=str(COMPOSER),
    )
