"""Augmentation strength where the user leaves it open: the strongest policy that costs little."""

from __future__ import annotations

from dataclasses import replace

from autotrain.augment.policy import POLICIES
from autotrain.hardware.machine import Machine
from autotrain.knobs.registry import canonical, illegal, knob
from autotrain.measure.burst import BurstOptions
from autotrain.search.recorder import Recorder
from autotrain.settings import Settings

OPTIONS = BurstOptions(windows=6, limit_s=2.0, warmup_s=1.5)


def choose_policy(recorder: Recorder, machine: Machine, settings: Settings, *, allowance: float) -> Settings:
    """Measure every policy at every placement under the chosen settings; return those with the strongest that is cheap.

    Cheap means at most ``allowance`` of the images/s that training without augmentation reaches, each policy at its
    best placement and, because heavy policies want more workers, at the best of the worker counts tried.
    """
    workload = recorder.workload
    rates: dict[str, tuple[float, Settings]] = {}
    table = []
    for policy in POLICIES:
        for placement in ("worker", "device"):
            best: tuple[float, Settings] | None = None
            for workers in dict.fromkeys((settings.workers, _more_workers(recorder, machine, settings))):
                wanted = replace(settings, augmentation=policy.name, placement=placement, workers=workers)
                variant = canonical(wanted, workload)
                if variant.placement != placement or illegal(variant, workload, machine):
                    continue
                measured = recorder.full(variant, options=OPTIONS)
                if measured is not None and (best is None or measured.rate.value > best[0]):
                    best = measured.rate.value, variant
            if best is None:
                continue
            table.append((policy.name, placement, best[0]))
            if policy.name not in rates or best[0] > rates[policy.name][0]:
                rates[policy.name] = best
    recorder.note(policies=tuple(table))
    # Where training without augmentation failed, the fastest policy takes its place.
    free = rates["none"][0] if "none" in rates else max((rate for rate, _ in rates.values()), default=0.0)
    for policy in reversed(POLICIES):
        if policy.name in rates and rates[policy.name][0] >= (1 - allowance) * free:
            return rates[policy.name][1]
    return settings


def _more_workers(recorder: Recorder, machine: Machine, settings: Settings) -> int:
    counts = [int(count) for count in knob("workers").choices(recorder.workload, machine).allowed]
    return min((count for count in counts if count > settings.workers), default=settings.workers)
