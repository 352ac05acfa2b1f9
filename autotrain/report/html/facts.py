"""The rest: task, machine, versions, conditions, notes; the plan and the raw data to take along."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from autotrain.hardware.machine import GIB
from autotrain.measure.session import Session
from autotrain.plan.plan import Plan
from autotrain.report.conditions import condition_lines
from autotrain.report.costs import compile_lines
from autotrain.report.html.blocks import Beside, Block, Cell, Code, Column, Download, Facts, Fold, Section, Table, Words
from autotrain.report.html.headline import lines_as_facts
from autotrain.report.story import data_words, device_words
from autotrain.report.summary import cost_lines
from autotrain.report.words import many
from autotrain.settings import Settings


def cost_section(session: Session, plan: Plan) -> Section:
    """Tell what the probe took, when it pays back, and what a reader should know besides."""
    rows = [*lines_as_facts(cost_lines(session, plan)), *lines_as_facts(compile_lines(session, plan.settings))]
    if plan.evidence.largest_batch:
        rows.append(("batch size", f"advice only, it changes what is learned: {plan.evidence.largest_batch}"))
    blocks: list[Block] = [Facts(rows=tuple(rows))]
    if session.notes:
        blocks.append(Words(texts=session.notes, listed=True))
    return Section(name="cost", title="What it costs and when it pays", blocks=tuple(blocks))


def machine_section(session: Session, plan: Plan) -> Section:
    """Tell task, machine, versions and under which conditions was measured."""
    parts: list[tuple[str, tuple[Block, ...]]] = [
        ("Task", (Facts(rows=tuple(_task(session))),)),
        ("Machine", (Facts(rows=tuple(_machine(session, plan))),)),
    ]
    conditions = tuple(lines_as_facts(condition_lines(session)))
    blocks: list[Block] = [Beside(parts=tuple(parts))]
    if conditions:
        blocks.append(Facts(rows=conditions))
    if session.exchange is not None:
        blocks.append(_ranks(session))
    versions = tuple(name_version for name_version in (("python", session.machine.python), *session.machine.versions))
    blocks.append(Fold(summary="Versions", blocks=(Facts(rows=versions),)))
    return Section(name="machine", title="Task, machine and conditions", blocks=tuple(blocks))


def _task(session: Session) -> Iterator[tuple[str, str]]:
    job = session.job
    yield "model", f"{job.model}, {many(job.parameters, 'parameter')}"
    yield "device", device_words(job)
    yield "data", data_words(job)
    if job.planned_images:
        yield "planned", many(job.planned_images, "image")
    yield "seed", str(job.seed)
    changed = session.default.changes(Settings())
    if changed:
        yield "default", f"PyTorch's own, with {', '.join(f'{name} = {value}' for name, value in changed.items())}"


def _machine(session: Session, plan: Plan) -> Iterator[tuple[str, str]]:
    machine = session.machine
    cpu, memory = machine.cpu, machine.memory
    yield "CPU", f"{cpu.name}, {cpu.usable} of {many(cpu.logical, 'logical core')} usable"
    yield "features", ", ".join(cpu.features) or "none known"
    yield "memory", f"{memory.total_bytes / GIB:.1f} GiB, {memory.available_bytes / GIB:.1f} available at the start"
    for gpu in machine.gpus:
        size = f", {gpu.memory_bytes / GIB:.0f} GiB" if gpu.memory_bytes else ""
        yield f"GPU {gpu.index}", f"{gpu.name}{size}, driver {gpu.driver}"
    if not machine.gpus:
        yield "GPU", "none"
    yield "platform", machine.platform
    if plan.provenance.date:
        yield "date", plan.provenance.date
    if plan.provenance.autotrain:
        yield "autotrain", plan.provenance.autotrain
    yield "fingerprint", machine.fingerprint


def _ranks(session: Session) -> Table:
    assert session.exchange is not None
    rows = tuple(
        (
            Cell(text=f"rank {rank}"),
            Cell(text=entry.host),
            Cell(text=f"{entry.training_s * 1e3:.3g} ms"),
            Cell(text=f"{entry.loading_s * 1e3:.3g} ms"),
        )
        for rank, entry in enumerate(session.exchange.ranks)
    )
    found = session.exchange
    caption = (
        f"{many(len(found.ranks), 'rank')}: a step takes {found.together_s * 1e3:.3g} ms, "
        f"without the exchange of gradients {found.apart_s * 1e3:.3g} ms"
    )
    columns = (
        Column(title="Rank"),
        Column(title="Host"),
        Column(title="Training of its part", numeric=True),
        Column(title="Loading of its part", numeric=True),
    )
    return Table(caption=caption, columns=columns, rows=rows)


def data_section(session: Session, plan: Plan) -> Section:
    """Give the plan to copy and all measurements to save."""
    data = json.dumps(finite(json.loads(session.to_json())), separators=(",", ":"), allow_nan=False)
    blocks = (
        Words(
            texts=(
                "The plan is what autotrain trains with. The session holds every measurement with its raw windows; the "
                "command autotrain report session.json makes this page from it again.",
            )
        ),
        Download(
            name="session.json",
            media_type="application/json",
            content=data,
            words=f"all measurements, {len(data) / 1024:,.0f} KiB",
        ),
        Code(name="plan.yaml", text=plan.to_yaml()),
    )
    return Section(name="data", title="Plan and raw data", blocks=blocks)


def finite(value: Any) -> Any:
    """Return a value with None in place of what JSON does not know: NaN and infinity."""
    if isinstance(value, dict):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
