"""The probe: measure the default, diagnose, search, prove. Each part can be the last: what is proven by then counts."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from autotrain.diagnose.demand import bound, predict
from autotrain.diagnose.finding import Bottleneck, Finding
from autotrain.diagnose.rules import diagnose
from autotrain.engine.restore import untouched
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError
from autotrain.hardware.machine import Machine
from autotrain.hardware.storage import cold_read
from autotrain.knobs.base import Effect, Side
from autotrain.knobs.registry import canonical, illegal, key, legal_space, without_each
from autotrain.measure.burst import SCREENING, BurstOptions
from autotrain.measure.clock import Clock
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.search.batch import largest_batch
from autotrain.search.budget import Budget
from autotrain.search.duel import FEWEST_PAIRS, MOST_PAIRS, DuelOptions, duel, interleave
from autotrain.search.events import Diagnosed, Event, Interrupted, Observer, Stage, Started, Turn, silent
from autotrain.search.guard import guard, needs_guard
from autotrain.search.job import job_facts, planned_images
from autotrain.search.recorder import Recorder
from autotrain.search.strength import choose_policy
from autotrain.search.study import Study
from autotrain.settings import Settings, Value
from autotrain.stats.compare import Verdict
from autotrain.workload import AUTO, Workload
from autotrain.world import world

log = logging.getLogger(__name__)

WARM_BYTES, WARM_S = 1 << 30, 5.0
"""How much of the files is read, for how long at most, so that all candidates find the page cache warm."""

FINALISTS = 3
"""Candidates that meet in the play-off before the best of them meets the default."""

CLOSE = 0.88
"""Candidates whose screening rate is at least this share of the best one's are in the play-off."""


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
        self.workload = workload
        self.options = options
        self.observer = observer
        self.budget = Budget(options.budget_s, clock)
        self.machine = machine
        self.space = legal_space(workload, machine, allow=options.allow, fixed=options.fixed)
        session = Session(
            machine=machine,
            job=job_facts(workload, machine),
            default=self.space.default,
            cores=world().cpu_budget(machine.cpu.usable),
            left_out=self.space.left_out,
        )
        self.recorder = Recorder(workload, session, observer, clock)
        self.planned_images = planned_images(workload)

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
            chosen = self._prove()
            self._advise(chosen)
        except KeyboardInterrupt:
            self.recorder.note(interrupted=True)
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
        full = self.recorder.full(default, options=replace(SCREENING, limit_s=5.0))
        if full is None:
            raise CandidateError(f"the default settings failed: {self.session.failures[-1].reason}")
        rate = full.rate.value
        self.budget.plan(self.planned_images / rate, self.workload.batch_size / rate)
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

    # Search -----------------------------------------------------------------------------------------------------

    def _search(self) -> None:
        if len(self.space.members) < 2:
            return
        self._components()
        self._trials()
        self._refine()

    def _components(self) -> None:
        """Measure the ceilings of every compute setting, and of loading under every placement; bounds need them."""
        ceilings = {key(settings, Side.COMPUTE): settings for settings in reversed(self.space.members)}
        self._tell(Stage(title="ceilings", steps=len(ceilings)))
        finding = diagnose(self.session, self.space.members)
        share = 0.25 if finding is not None and finding.bottleneck is Bottleneck.INPUT else 0.45
        until = self.budget.spent_s + share * max(0.0, self.budget.search_left_s)
        best = 0.0
        for settings in sorted(ceilings.values(), key=lambda entry: len(entry.changes(self.space.default))):
            if self.budget.spent_s > until:
                break
            measured = self.recorder.compute(settings, incumbent=best or None)
            best = max(best, measured.rate.value if measured else 0.0)
        for settings in {(entry.augmentation, entry.placement): entry for entry in reversed(self.space.members)}.values():
            self.recorder.loading(replace(settings, workers=0))

    def _trials(self) -> None:
        study = Study(
            self.space,
            seed=self.workload.seed,
            path=self.options.study,
            name=f"{self.session.job.fingerprint}-{self.session.machine.fingerprint}-{self.options.allow.value}",
        )
        self._resume(study)
        settled = {entry.settings for entry in self.session.of(Kind.FULL)}
        ranked = sorted(self.space.members, key=lambda entry: -(predict(self.session, entry) or 0.0))
        for settings in ranked[:4]:
            study.enqueue(settings)
        self._tell(Stage(title="search"))
        asks = 0
        while self.budget.search_left_s > 0 and len(settled) < len(self.space.members) and asks < 400:
            asks += 1
            trial, suggested = study.ask()
            settings = canonical(suggested, self.workload)
            reason = illegal(settings, self.workload, self.machine) or self._hopeless(settings)
            if reason:
                if settings not in settled:
                    self.recorder.failed(settings, reason, pruned=True)
                study.prune(trial, reason)
                settled.add(settings)
                continue
            known = settings in settled
            measured = self.recorder.full(
                settings, incumbent=self._best_rate(), predicted=predict(self.session, settings)
            )
            settled.add(settings)
            if measured is None:
                study.fail(trial, self.session.failures[-1].reason)
                continue
            study.tell(trial, self._training_s(measured), None if known else measured)
            if self._none_can_win(settled):
                break

    def _resume(self, study: Study) -> None:
        """Take over what an earlier run of the study measured, so far as this run has not measured it itself."""
        known = {entry.settings for entry in self.session.of(Kind.FULL)}
        earlier = [entry for entry in study.earlier() if entry.settings not in known]
        if earlier:
            log.info("the study brings %d measurements of an earlier run", len(earlier))
            self.recorder.note(measurements=(*earlier, *self.session.measurements))

    def _hopeless(self, settings: Settings) -> str | None:
        limit, best = bound(self.session, settings), self._best()
        if limit is None or best is None or limit >= best.rate.low:
            return None
        return f"cannot exceed {limit:,.0f} images/s; the best so far has {best.rate.value:,.0f}"

    def _none_can_win(self, settled: set[Settings]) -> bool:
        best = self._best()
        if best is None:
            return False
        for settings in self.space.members:
            limit = bound(self.session, settings)
            if settings not in settled and (limit is None or limit >= best.rate.low):
                return False
        return True

    def _refine(self) -> None:
        """Take each change away from the best: what it is worth, and whether it is needed at all."""
        self._tell(Stage(title="what each setting is worth"))
        seen: set[Settings] = set()
        while True:
            best = self._best()
            if best is None or best.settings in seen:
                return
            seen.add(best.settings)
            for settings in without_each(best.settings, self.space.default, self.workload).values():
                if self.budget.search_left_s <= -0.1 * self.budget.total_s:
                    return
                self.recorder.full(
                    settings,
                    options=BurstOptions(windows=6, limit_s=2.5, warmup_s=2.0),
                    predicted=predict(self.session, settings),
                )

    def _best(self) -> Measurement | None:
        """Return the fastest full burst; of equals the one with the fewest changes."""
        return max(
            self._candidates(),
            key=lambda entry: (-self._training_s(entry), -len(entry.settings.changes(self.space.default))),
            default=None,
        )

    def _candidates(self) -> list[Measurement]:
        rejected = {entry.settings for entry in self.session.guards if entry.problem}
        latest = {entry.settings: entry for entry in self.session.of(Kind.FULL) if not entry.stopped_early}
        return [entry for settings, entry in latest.items() if settings not in rejected]

    def _best_rate(self) -> float | None:
        best = self._best()
        return best.rate.value if best else None

    def _training_s(self, measurement: Measurement) -> float:
        """Return the predicted seconds of the planned training: start-up and images at the measured rate."""
        return measurement.startup_s + (self.planned_images or 1_000_000) / measurement.rate.value

    def _policy(self) -> None:
        """Where the strength is left open: the strongest policy that costs little, at its best placement."""
        best = self._best()
        if self.workload.task.augmentation != AUTO or not self.workload.augmentable or best is None:
            return
        self._tell(Stage(title="augmentation strength"))
        chosen = choose_policy(self.recorder, self.machine, best.settings, allowance=self.workload.task.allowance)
        self.workload = replace(self.workload, augmentation=chosen.augmentation)
        self.recorder.workload = self.workload
        default = canonical(replace(self.space.default, augmentation=chosen.augmentation), self.workload)
        self.space = replace(self.space, default=default, members=(default, chosen))
        self.recorder.note(default=default)
        for settings in (default, chosen):
            self.recorder.full(settings)

    # Proof ------------------------------------------------------------------------------------------------------

    def _prove(self) -> Settings:
        """Let the best candidates meet, then the best of them and the default; return what has won."""
        default = self.space.default
        for _ in range(FINALISTS):
            finalist = self._play_off()
            if finalist is None or finalist == default:
                return default
            if self._passes_guard(finalist):
                return finalist if self._wins(finalist) else default
        return default

    def _play_off(self) -> Settings | None:
        best = self._best()
        if best is None:
            return None
        close = sorted(
            (
                entry
                for entry in self._candidates()
                if entry.rate.value >= CLOSE * best.rate.value and entry.settings.augmentation == best.settings.augmentation
            ),
            key=lambda entry: -entry.rate.value,
        )[:FINALISTS]
        step_s = self.workload.batch_size / best.rate.value
        round_s = len(close) * max(0.6, 3 * step_s)
        rounds = min(6, int(0.4 * max(0.0, self.budget.left_s) / round_s))
        if len(close) < 2 or rounds < 2:
            return best.settings
        contenders = [entry.settings for entry in close]
        self._tell(Stage(title="play-off"))
        options = DuelOptions(turn_s=0.5, warmup_s=0.5)
        try:
            rows = interleave(self.workload, contenders, rounds=rounds, options=options, seed=self.workload.seed)
        except CandidateError as problem:
            log.info("the play-off ended: %s", problem)
            return best.settings
        scores = [math.fsum(math.log(row[place]) for row in rows) / len(rows) for place in range(len(contenders))]
        tied = [
            contender
            for contender, score in zip(contenders, scores, strict=True)
            if score >= max(scores) - math.log(1.015)
        ]
        return min(
            tied,
            key=lambda entry: (len(entry.changes(self.space.default)), -scores[contenders.index(entry)]),
        )

    def _passes_guard(self, finalist: Settings) -> bool:
        if not needs_guard(finalist, self.space.default):
            return True
        self._tell(Stage(title="numerics guard"))
        default_s = self.workload.batch_size / self._rate_of(self.space.default)
        steps = max(6, min(24, int(0.12 * self.budget.total_s / (4 * default_s))))
        try:
            result = guard(self.workload, finalist, self.space.default, steps=steps)
        except CandidateError as problem:
            self.recorder.failed(finalist, str(problem))
            return False
        self.recorder.note(guards=(*self.session.guards, result))
        if result.problem:
            self.recorder.failed(finalist, f"numerics guard: {result.problem}")
        return result.problem is None

    def _wins(self, finalist: Settings) -> bool:
        default = self.space.default
        turn_s = sum(max(1.3, 3 * self.workload.batch_size / self._rate_of(side)) for side in (default, finalist))
        pairs = max(FEWEST_PAIRS, min(MOST_PAIRS, int((self.budget.left_s - 4.0) / turn_s)))
        self._tell(Stage(title="duel", steps=pairs))
        try:
            record = duel(
                self.workload,
                default,
                finalist,
                options=DuelOptions(pairs=pairs),
                seed=self.workload.seed,
                on_pair=lambda pair, first, second: self._tell(
                    Turn(pair=pair, pairs=pairs, baseline_rate=first, candidate_rate=second)
                ),
            )
        except CandidateError as problem:
            self.recorder.failed(finalist, f"failed in the duel: {problem}")
            return False
        self.recorder.note(duels=(*self.session.duels, record))
        comparison = record.comparison
        return comparison is not None and comparison.verdict is Verdict.FASTER

    def _rate_of(self, settings: Settings) -> float:
        measured = self.session.find(Kind.FULL, settings) or self.session.of(Kind.FULL)[0]
        return measured.rate.value

    def _advise(self, chosen: Settings) -> None:
        if self.options.advise_batch and not self.session.interrupted:
            self._tell(Stage(title="largest batch"))
            advice = largest_batch(self.workload, chosen, limit_s=max(4.0, 0.08 * self.budget.total_s))
            self.recorder.note(largest_batch=advice)

    def _tell(self, event: Event) -> None:
        self.observer(event)


def finding_of(session: Session, members: tuple[Settings, ...] = ()) -> Finding | None:
    """Return the finding about the default, with a remedy among the measured settings where none are given."""
    measured = tuple(entry.settings for entry in session.of(Kind.FULL))
    return diagnose(session, members or measured)


