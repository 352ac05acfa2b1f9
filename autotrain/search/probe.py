"""The probe: measure the default, diagnose, search, prove. Each part can be the last: what is proven by then counts."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from optuna.trial import Trial

from autotrain.data.caching import WarmSets
from autotrain.diagnose.demand import bound, predict
from autotrain.diagnose.finding import Bottleneck, Finding
from autotrain.diagnose.rules import COMPUTE_KNOBS, diagnose
from autotrain.engine.restore import untouched
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError
from autotrain.hardware.machine import Machine
from autotrain.hardware.storage import cold_read
from autotrain.knobs.base import Effect, Side
from autotrain.knobs.registry import canonical, default_settings, illegal, key, legal_space, without_each
from autotrain.measure.burst import SCREENING
from autotrain.measure.clock import Clock
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.search.batch import largest_batch
from autotrain.search.budget import Budget
from autotrain.search.events import Diagnosed, Event, Interrupted, Noted, Observer, Stage, Started, silent
from autotrain.search.job import job_facts
from autotrain.search.narrow import RACED, fastest_ways, measure_contents
from autotrain.search.objective import best, least_needed, predicted_s, training_s
from autotrain.search.proof import Proof
from autotrain.search.recorder import Recorder
from autotrain.search.strength import choose_policy
from autotrain.search.study import Study
from autotrain.settings import Settings, Value
from autotrain.workload import AUTO, Workload
from autotrain.world import world

log = logging.getLogger(__name__)

MOST_ASKS = 400
"""Suggestions that are asked for at most; most of them cost nothing, being known or hopeless."""

ENQUEUED = 8
"""Settings that are tried first, by the contention model's ranking; the sampler goes on from there."""

REFINE_SHARE = 0.25
"""Part of the search's time that is kept for taking each change away from the best."""

WARM_BYTES, WARM_S = 1 << 30, 5.0
"""How much of the files is read, for how long at most, so that all candidates find the page cache warm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """What a probe may do and how long."""

    budget_s: float | None = None
    """Seconds that it may take; chosen by itself where None."""

    allow: Effect = Effect.NUMERICS
    """Strongest effect on learning that the search may use."""

    fixed: Mapping[str, Value] | None = None
    """Settings that stay as given."""

    study: Path | None = None
    """File in which the Optuna study is kept and gone on with."""

    advise_batch: bool = True
    """Whether to look for the largest batch that fits."""


def run_probe(
    workload: Workload,
    machine: Machine,
    *,
    options: ProbeOptions = ProbeOptions(),
    observer: Observer = silent,
    clock: Clock | None = None,
) -> Session:
    """Probe a workload; return all that was measured, with the chosen settings.

    The user's model, random states, flags and threads are as before afterwards.

    Raises:
        AutotrainError: the task itself does not work; what fails for a candidate only is recorded.
    """
    clock = clock or Clock()
    with untouched(workload.device):
        prober = Prober(workload, machine, options, observer, clock)
        return prober.run()


class Prober:
    """One probe from start to end; the parts follow each other in ``run``."""

    def __init__(
        self, workload: Workload, machine: Machine, options: ProbeOptions, observer: Observer, clock: Clock
    ) -> None:
        self.workload = workload = replace(workload, warm=WarmSets(_warm_samples(workload), workload.cache_dir))
        self.options = options
        self.observer = observer
        self.budget = Budget(options.budget_s, clock)
        self.machine = machine
        # Which ways to load an image can win is found out first; until then there is the default's.
        own = default_settings(workload)
        held = {name: (getattr(own, name),) for name in RACED if name not in (options.fixed or {})}
        self.space = legal_space(workload, machine, allow=options.allow, fixed=options.fixed, only=held)
        session = Session(
            machine=machine,
            job=job_facts(workload, machine),
            default=self.space.default,
            cores=world().cpu_budget(machine.cpu.usable),
            left_out=self.space.left_out,
        )
        self.recorder = Recorder(workload, session, observer, clock)

    @property
    def session(self) -> Session:
        """What is known so far."""
        return self.recorder.session

    def run(self) -> Session:
        """Run all parts; after Ctrl-C the best so far is put to the proof, after a second one the default stays."""
        chosen = self.space.default
        try:
            self._check()
            self._default()
            try:
                self._search()
                self._policy()
            except KeyboardInterrupt:
                self.recorder.note(interrupted=True)
                self.observer(Interrupted())
            chosen = Proof(self.recorder, self.budget, self.observer).choose()
            self._advise(chosen)
        except KeyboardInterrupt:
            self.recorder.note(interrupted=True)
        finally:
            assert self.workload.warm is not None
            self.workload.warm.close()
        self.recorder.note(chosen=chosen, seconds=self.budget.spent_s)
        return self.session

    def _check(self) -> None:
        job = self.session.job
        self._tell(
            Started(
                machine=self.machine.describe(),
                job=job,
                candidates=len(self.space.members),
                budget_s=self.budget.total_s,
            )
        )
        self._warm_files()
        with Rig(self.workload, self.space.default) as rig, rig.active():
            rig.check(rig.input.next())
        self.study = self._open_study()

    def _open_study(self) -> Study:
        """Open the study before anything is measured; one of other choices or another default is another study."""
        task = self.workload.task
        own = [getattr(entry, "__qualname__", type(entry).__qualname__) for entry in (task.step, task.collate)]
        choices = [(name, entry.allowed) for name, entry in self.space.choices.items()]
        facts = self.space.default.as_dict(), choices, self.workload.source.name, own
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:8]
        name = f"{self.session.job.fingerprint}-{self.session.machine.fingerprint}-{digest}"
        return Study(self.space, seed=self.workload.seed, path=self.options.study, name=name)

    def _warm_files(self) -> None:
        """Read the files once: the default, measured first, must not pay for what later candidates find warm."""
        source, order = self.workload.source, self.workload.stream().order(0)
        files = source.files(order[:1].tolist())
        if not files:
            return
        read = cold_read(
            source.files(order[:20_000].tolist()), limit_bytes=WARM_BYTES, limit_s=WARM_S, clock=self.recorder.clock.now
        )
        self.recorder.note(cold_bytes_per_s=read.bytes_per_s)

    def _default(self) -> None:
        default = self.space.default
        self._tell(Stage(title="the job as it is"))
        full = self.recorder.full(default, options=replace(SCREENING, windows=8, warmup_s=2.0))
        if full is None:
            raise CandidateError(f"the default settings failed: {self.session.failures[-1].reason}")
        rate = full.rate.value
        before = self.budget.total_s
        self.budget.plan(self.session.job.planned_images / rate, self.workload.batch_size / rate)
        if self.budget.total_s > before:
            self._tell(Noted(words=f"at this rate the probe may take {self.budget.total_s:.0f} s"))
        self.recorder.compute(default)
        self.recorder.loading(default)
        finding = diagnose(self.session, self.space.members)
        if finding is not None:
            self._tell(Diagnosed(finding=finding))
        usual = self._usual()
        if usual is not None and usual != default:
            self.recorder.full(usual, predicted=predict(self.session, usual))

    def _usual(self) -> Settings | None:
        """Return the usual hand setting: the default with as many workers as usable cores."""
        settings = canonical(replace(self.space.default, workers=self.session.cores), self.workload)
        return settings if settings in self.space.members else None

    def _search(self) -> None:
        if len(self.space.members) < 2:
            return
        self._narrow()
        self._components()
        self._trials()
        self._refine()

    def _narrow(self) -> None:
        """Race the ways to load an image; the legal space is made of those that can win."""
        self._tell(Stage(title="ways to load an image"))
        only, losers = fastest_ways(self.recorder, self.space)
        self.space = legal_space(
            self.workload, self.machine, allow=self.options.allow, fixed=self.options.fixed, only=only
        )
        self.recorder.note(left_out=(*self.space.left_out, *losers))
        measure_contents(self.recorder, self.space.members)

    def _components(self) -> None:
        """Measure the ceilings of every compute setting; bounds need them."""
        ceilings = {key(settings, Side.COMPUTE): settings for settings in reversed(self.space.members)}
        self._tell(Stage(title="ceilings", steps=len(ceilings)))
        finding = diagnose(self.session, self.space.members)
        share = 0.25 if finding is not None and finding.bottleneck is Bottleneck.INPUT else 0.45
        until = self.budget.spent_s + share * max(0.0, self.budget.search_left_s)
        highest = 0.0
        for settings in sorted(ceilings.values(), key=lambda entry: len(entry.changes(self.space.default))):
            if self.budget.spent_s > until:
                break
            measured = self.recorder.compute(settings, incumbent=highest or None)
            highest = max(highest, measured.rate.value if measured else 0.0)

    def _trials(self) -> None:
        study = self.study
        self._resume(study)
        members = set(self.space.members)
        settled = members & {entry.settings for entry in self.session.of(Kind.FULL)}
        for settings in self._promising():
            study.enqueue(settings)
        self._tell(Stage(title="search"))
        reserve = REFINE_SHARE * max(0.0, self.budget.search_left_s)
        for _ in range(MOST_ASKS):
            if self.budget.search_left_s <= reserve or len(settled) >= len(self.space.members):
                break
            trial, suggested = study.ask()
            settings = canonical(suggested, self.workload)
            if settings not in members:
                study.prune(trial, illegal(settings, self.workload, self.machine) or "others load images faster here")
                continue
            self._settle(study, trial, settings, known=settings in settled)
            settled.add(settings)
            if self._none_can_win(settled):
                break

    def _promising(self) -> list[Settings]:
        """Return what the contention model ranks highest, to be tried first; of equals, what asks for least.

        The model knows least about threads and workers that share cores, so the best with each thread count, with and
        without workers, comes before the runners-up.
        """

        def rank(settings: Settings) -> tuple[float, int, int]:
            seconds = predicted_s(self.session, settings) or 1e9
            return round(math.log(seconds) / math.log(1.03)), settings.workers, settings.prefetch

        ranked = sorted(self.space.members, key=rank)
        ways = {(entry.threads, entry.workers > 0): entry for entry in reversed(ranked)}
        first = sorted(ways.values(), key=rank)
        return list(dict.fromkeys((*first, *ranked)))[:ENQUEUED]

    def _settle(self, study: Study, trial: Trial, settings: Settings, *, known: bool) -> None:
        """Measure what a trial suggests, or say why not; what is known already is told again, at no cost."""
        measured = self.session.find(Kind.FULL, settings)
        if measured is None:
            failure = next((entry for entry in self.session.failures if entry.settings == settings), None)
            reason = illegal(settings, self.workload, self.machine) or self._hopeless(settings)
            if failure is not None or reason:
                if failure is None and reason:
                    self.recorder.failed(settings, reason, pruned=True)
                study.prune(trial, failure.reason if failure else str(reason))
                return
            measured = self.recorder.full(
                settings, incumbent=_rate(best(self.session)), predicted=predict(self.session, settings)
            )
        if measured is None:
            study.fail(trial, self.session.failures[-1].reason)
        else:
            study.tell(trial, training_s(self.session, measured), None if known else measured)

    def _resume(self, study: Study) -> None:
        """Take over what an earlier run of the study measured, so far as this run has not measured it itself."""
        known = {entry.settings for entry in self.session.of(Kind.FULL)}
        earlier = [entry for entry in study.earlier() if entry.settings not in known]
        if earlier:
            log.info("the study brings %d measurements of an earlier run", len(earlier))
            self.recorder.note(measurements=(*earlier, *self.session.measurements))

    def _hopeless(self, settings: Settings) -> str | None:
        limit, leader = bound(self.session, settings), best(self.session)
        if limit is None or leader is None or limit >= least_needed(self.session, leader):
            return None
        return f"cannot exceed {limit:,.0f} images/s; the best so far has {leader.rate.value:,.0f}"

    def _none_can_win(self, settled: set[Settings]) -> bool:
        leader = best(self.session)
        if leader is None:
            return False
        least = least_needed(self.session, leader)
        for settings in self.space.members:
            limit = bound(self.session, settings)
            if settings not in settled and (limit is None or limit >= least):
                return False
        return True

    def _refine(self) -> None:
        """Take each change away from the best: what it is worth, and whether it is needed at all."""
        self._tell(Stage(title="what each setting is worth"))
        seen: set[Settings] = set()
        while True:
            leader = best(self.session)
            if leader is None or leader.settings in seen:
                return
            seen.add(leader.settings)
            for settings in without_each(leader.settings, self.space.default, self.workload).values():
                if self.budget.search_left_s <= -0.1 * self.budget.total_s:
                    return
                failed = any(entry.settings == settings and not entry.pruned for entry in self.session.failures)
                if not failed and illegal(settings, self.workload, self.machine) is None:
                    self.recorder.full(settings, predicted=predict(self.session, settings))

    def _policy(self) -> None:
        """Where the strength is left open: the strongest policy that costs little, at its best placement."""
        leader = best(self.session)
        if self.workload.task.augmentation != AUTO or not self.workload.augmentable or leader is None:
            return
        self._tell(Stage(title="augmentation strength"))
        chosen = choose_policy(self.recorder, self.machine, leader.settings, allowance=self.workload.task.allowance)
        self.workload = replace(self.workload, augmentation=chosen.augmentation)
        self.recorder.workload = self.workload
        default = canonical(replace(self.space.default, augmentation=chosen.augmentation), self.workload)
        self.space = replace(self.space, default=default, members=(default, chosen))
        self.recorder.note(default=default)
        self.recorder.compute(default)
        self.recorder.loading(default)
        for settings in (default, chosen):
            self.recorder.full(settings)

    def _advise(self, chosen: Settings) -> None:
        if self.options.advise_batch and not self.session.interrupted:
            self._tell(Stage(title="largest batch"))
            advice = largest_batch(self.workload, chosen, limit_s=min(8.0, 0.08 * self.budget.total_s))
            self.recorder.note(largest_batch=advice)

    def _tell(self, event: Event) -> None:
        self.observer(event)


def _warm_samples(workload: Workload) -> int:
    """Return how many samples stand in for a dataset in a filled cache: a few batches."""
    return max(256, 4 * workload.batch_size)


def _rate(measurement: Measurement | None) -> float | None:
    return measurement.rate.value if measurement else None


def finding_of(session: Session) -> Finding | None:
    """Return the finding about the default, its remedy looked for among all that was measured, in full or in part."""
    default = session.default
    remedies = [entry.settings for entry in session.of(Kind.FULL)]
    for entry in session.of(Kind.COMPUTE):
        own = {name: value for name, value in key(entry.settings, Side.COMPUTE) if name in COMPUTE_KNOBS}
        remedies.append(replace(default, **own))  # type: ignore[arg-type]
    return diagnose(session, dict.fromkeys(remedies))
