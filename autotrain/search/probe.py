"""The probe: measure the default, diagnose, search, prove. Each part can be the last: what is proven by then counts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from autotrain.data.caching import WarmSets
from autotrain.diagnose.finding import Bottleneck, Finding
from autotrain.diagnose.rules import COMPUTE_KNOBS, diagnose
from autotrain.engine.heap import kept_heap
from autotrain.engine.restore import untouched
from autotrain.errors import AutotrainError, CandidateError, TaskError, first_line
from autotrain.hardware.machine import Machine
from autotrain.hardware.storage import cold_read
from autotrain.knobs.base import Choices, Effect, Side
from autotrain.knobs.cache import possible
from autotrain.knobs.gradients import FULL
from autotrain.knobs.registry import Space, canonical, default_settings, key, legal_space
from autotrain.measure.burst import SCREENING
from autotrain.measure.clock import Clock
from autotrain.measure.crew import dismiss, follow
from autotrain.measure.exchange import Exchange, exchange
from autotrain.measure.failure import RanksLostError
from autotrain.measure.isolate import why_not
from autotrain.measure.measurement import Kind
from autotrain.measure.profile import StageProfile, profile
from autotrain.measure.session import LargestBatch, Session
from autotrain.search.attribution import attribute
from autotrain.search.batch import largest_batch
from autotrain.search.budget import ATTRIBUTION_END, Budget
from autotrain.search.check import check
from autotrain.search.events import Diagnosed, Event, Interrupted, Noted, Observer, Stage, Started, silent
from autotrain.search.job import job_facts
from autotrain.search.narrow import RACED, fastest_ways, measure_contents
from autotrain.search.objective import best, planned
from autotrain.search.proof import Proof
from autotrain.search.recorder import Recorder, describe
from autotrain.search.strength import choose_policy
from autotrain.search.study import Study
from autotrain.search.tournament import Tournament
from autotrain.settings import Settings, Value
from autotrain.workload import AUTO, Workload
from autotrain.world import world

log = logging.getLogger(__name__)

CEILINGS_SHARE = 0.5
"""Part of the time left to the search that training alone takes at most; more where it is what holds the job back."""

COMPILE_PAYS_S = 1800.0
"""Seconds of planned training from which on compiling is tried unasked: it takes 20 s to minutes."""

COMPILE_S = 90.0
"""Seconds that an automatic budget gains for that."""

LEAST_ATTRIBUTION_S = 3.0
"""Seconds below which no contender of the attribution could be set up; a single change is read off the duel."""

CHECK_S = 120.0
"""Seconds that loading the first batch and running the model on it may take in a child process."""

COMPILE = ("auto", "on", "off")
"""When the search tries a compiler: for long trainings, always, never."""

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

    study: Path | str | None = None
    """File, or URL of a database, in which the Optuna study is kept and gone on with, here and on other machines."""

    sampler: str = "auto"
    """What suggests candidates, by name; see ``search.samplers``."""

    compile: str = "auto"
    """When to try a compiler: auto (for long trainings), on or off."""

    isolate: bool = False
    """Whether every measurement runs in a child process, not only those that may kill theirs."""

    only: Settings | None = None
    """The one candidate that is put to the proof; None searches for candidates."""

    advise_batch: bool = True
    """Whether to look for the largest batch that fits."""

    before_training: bool = False
    """Whether the training follows at once, so that an automatic budget counts as a part of it."""


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
    with _all_told(workload):
        if options.isolate and not workload.team.alone:
            raise TaskError("isolate: a process of its own for every measurement cannot be shared by several ranks")
        with untouched(workload.device), kept_heap(workload.device):
            return Prober(workload, machine, options, observer, clock or Clock()).run()


@contextmanager
def _all_told(workload: Workload) -> Iterator[None]:
    """Let the other ranks go at the end, however that comes: nobody is left to wait for what nobody will ask."""
    try:
        yield
    except RanksLostError as lost:
        raise CandidateError(str(lost)) from lost
    except BaseException as raised:
        words = f"rank 0 came to an end with {type(raised).__name__}: {first_line(raised)}"
        with suppress(RanksLostError):
            dismiss(workload.team, raised if isinstance(raised, AutotrainError) else CandidateError(words))
        raise
    try:
        dismiss(workload.team)
    except RanksLostError as lost:
        raise CandidateError(str(lost)) from lost


def assist_probe(workload: Workload) -> None:
    """Measure what rank 0 asks for while it probes the same workload.

    Raises:
        AutotrainError: the probe came to an end with it.
    """
    with closing(WarmSets(warm_samples(workload), workload.cache_dir)) as warm:
        try:
            follow(workload, warm=warm)
        except RanksLostError as lost:
            raise CandidateError(str(lost)) from lost


class Prober:
    """One probe from start to end; the parts follow each other in ``run``."""

    def __init__(
        self, workload: Workload, machine: Machine, options: ProbeOptions, observer: Observer, clock: Clock
    ) -> None:
        self.workload = workload = replace(workload, warm=WarmSets(warm_samples(workload), workload.cache_dir))
        self.options = options
        self.observer = observer
        self.budget = Budget(options.budget_s, clock, before_training=options.before_training)
        self.machine = machine
        # Which ways to load an image can win is found out first; until then there is the default's.
        own = default_settings(workload)
        fixed = options.fixed or {}
        self._held = {name: (getattr(own, name),) for name in ("compile",) if name not in fixed}
        raced = {name: (getattr(own, name),) for name in RACED if name not in fixed}
        self.space = self._legal_space(raced)
        session = Session(
            machine=machine,
            job=job_facts(workload, machine),
            default=self.space.default,
            cores=world().cpu_budget(machine.cpu.usable),
            left_out=self.space.left_out,
        )
        self.recorder = Recorder(workload, session, observer, clock, isolate=options.isolate)

    @property
    def session(self) -> Session:
        """What is known so far."""
        return self.recorder.session

    def run(self) -> Session:
        """Run all parts; after Ctrl-C the best so far is put to the proof, after a second one the default stays."""
        chosen = self.space.default
        try:
            with self.recorder:
                self._check()
                self._default()
                if not self.session.too_short:
                    self._find()
                    tournament = self._tournament()
                    chosen = self._prove(tournament)
                    if self.options.only is None:
                        self._attribute(chosen, tournament)
                        self._advise(chosen)
        except KeyboardInterrupt:
            self.recorder.note(interrupted=True)
        finally:
            assert self.workload.warm is not None
            self.workload.warm.close()
        self.recorder.note(chosen=chosen, seconds=self.budget.spent_s)
        return self.session

    def _find(self) -> None:
        """Look for the finalist, until Ctrl-C."""
        try:
            if self.options.only is None:
                self._search()
                self._policy()
            else:
                self.recorder.full(self.options.only)
        except KeyboardInterrupt:
            self.recorder.note(interrupted=True)
            self.observer(Interrupted())

    def _prove(self, tournament: Tournament) -> Settings:
        """Return the settings that have beaten the default, or the default."""
        proof = Proof(self.recorder, tournament, self.budget, self._tell)
        if self.options.study is None:
            return proof.choose()
        tournament.share(self.study)
        chosen = proof.choose()
        if chosen == self.space.default:
            return chosen
        self.study.conclude(chosen)
        return self._shared(chosen, tournament, proof)

    def _shared(self, chosen: Settings, tournament: Tournament, proof: Proof) -> Settings:
        """Return a near equal that another machine has concluded with meanwhile, if it is proven here too."""
        if self.session.interrupted:
            return chosen
        tournament.share(self.study)
        other = tournament.equal_elsewhere(chosen)
        if other is None:
            return chosen
        self._tell(Noted(words=f"another machine came first: {describe(other, self.space.default)}"))
        before = self.session.duels
        try:
            if proof.holds(other):
                return other
        except KeyboardInterrupt:
            self.recorder.note(interrupted=True)
        self.recorder.note(duels=(*self.session.duels[len(before) :], *before))  # the last one is that of the choice
        return chosen

    def _legal_space(self, only: Mapping[str, Sequence[Value]]) -> Space:
        options = self.options
        only = {**self._held, **only}
        return legal_space(self.workload, self.machine, allow=options.allow, fixed=options.fixed, only=only)

    def _tournament(self) -> Tournament:
        return Tournament(self.recorder, self.space, self.budget, self._tell)

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
        warm_files(self.recorder)
        default = self.space.default
        self.recorder.run(check, default, settings=[default], limit_s=CHECK_S)
        self.study = self._open_study()

    def _open_study(self) -> Study:
        """Open the study before anything is measured; one of other choices or another default is another study."""
        task = self.workload.task
        own = [getattr(entry, "__qualname__", type(entry).__qualname__) for entry in (task.step, task.collate)]
        space = self.space
        if self.options.study is not None and "cache" not in (self.options.fixed or {}):
            # What there is room for now makes no other study.
            kept = dict.fromkeys((space.default.cache, *possible(self.workload)))
            space = replace(space, choices={**space.choices, "cache": Choices(allowed=tuple(kept))})
        choices = [(name, entry.allowed) for name, entry in space.choices.items()]
        facts = self.space.default.as_dict(), choices, self.workload.source.name, own
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:8]
        name = f"{self.session.job.fingerprint}-{self.session.machine.fingerprint}-{digest}"
        job, options = self.session.job, self.options
        told: dict[str, str | float] = {
            "model": job.model,
            "dataset": job.dataset,
            "batch_size": job.batch_size,
            "machine": self.machine.describe(),
            "default": describe(self.space.default, Settings()),
            "objective": "predicted seconds of the planned training",
        }
        study = Study(
            space,
            seed=self.workload.seed,
            path=options.study,
            name=name,
            sampler=options.sampler,
            facts=told,
        )
        if options.study is not None:
            self._tell(Noted(words=f"study {name}: {study.words()}"))
        return study

    def _default(self) -> None:
        default = self.space.default
        self._tell(Stage(title="the job as it is"))
        full = self.recorder.full(default, options=SCREENING)
        if full is None:
            raise CandidateError(f"the default settings failed: {self.session.failures[-1].reason}")
        rate = full.rate.value
        before = self.budget.total_s
        images, by_clock = self.session.job.planned_images, self.workload.span.seconds
        training_s = images / rate if by_clock is None else by_clock
        self.budget.plan(training_s, self.workload.batch_size / rate, wait_share=full.wait_share)
        if self._compiles():
            self.budget.extend(COMPILE_S)
        options, open_policy = self.options, self.workload.task.augmentation == AUTO
        asked = options.only is not None or options.study is not None or options.compile == "on" or open_policy
        if self.budget.in_vain and by_clock is None and not asked:
            self.recorder.note(too_short=True)
            return
        if self.budget.total_s != before:
            self._tell(Noted(words=f"at this rate the probe may take {self.budget.total_s:.0f} s"))
        self.recorder.compute(default)
        self.recorder.loading(default)
        self.recorder.note(profile=self._profile(self.workload.batch_size / rate))
        if not self.workload.team.alone and default.sharding != FULL:  # whose ranks can do nothing apart
            self._exchange(default)
        self.finding = diagnose(self.session, self.space.members)
        if self.finding is not None:
            self._tell(Diagnosed(finding=self.finding))

    def _exchange(self, default: Settings) -> None:
        """Measure what ranks spend on each other, and say which of them hold up the others."""
        try:
            found: Exchange = self.recorder.run(exchange, default, settings=[default], limit_s=20.0)
        except CandidateError as problem:
            log.info("the exchange of gradients could not be measured: %s", problem)
            return
        self.recorder.note(exchange=found, notes=(*self.session.notes, *found.stragglers()))
        for words in found.stragglers():
            self._tell(Noted(words=words))

    def _profile(self, step_s: float) -> StageProfile | None:
        """Return where the default's loading time goes; None where that cannot be told."""
        default = self.space.default
        try:
            found: StageProfile | None = self.recorder.run(
                profile, default, settings=[default], limit_s=20.0, clock=self.recorder.clock, step_s=step_s
            )
        except CandidateError as problem:
            log.info("no profile of the loading: %s", problem)
            return None
        return found and found.of_all(self.workload.team.world.world_size)

    def _usual(self) -> Settings:
        """Return the usual hand setting: the default with as many workers as usable cores."""
        return canonical(replace(self.space.default, workers=self.session.cores), self.workload)

    def _search(self) -> None:
        """Measure the sides of a step alone, the binding one first, then whole steps."""
        training_first = self.finding is not None and self.finding.bottleneck in (
            Bottleneck.COMPUTE,
            Bottleneck.LAUNCH,
            Bottleneck.COMMUNICATION,
        )
        if training_first:
            self._ceilings(1.3 * CEILINGS_SHARE)
        self._narrow()
        tournament = self._tournament()
        if len(self.space.members) > 1:
            self._ceilings(CEILINGS_SHARE)
            tournament.search(self.study, (self._usual(),))
        if self._compiles():
            tournament.compiled()

    def _ceilings(self, share: float) -> None:
        self._tournament().ceilings(until_s=self.budget.spent_s + share * self.budget.search_left_s)

    def _narrow(self) -> None:
        """Race the ways to load an image; the legal space is made of those that can win."""
        self._tell(Stage(title="ways to load an image"))
        only, losers = fastest_ways(self.recorder, self.space)
        self.space = self._legal_space(only)
        self.recorder.note(left_out=(*self.space.left_out, *losers))
        measure_contents(self.recorder, self.space.members)

    def _compiles(self) -> bool:
        """Tell whether the search tries a compiler."""
        offered = self.space.choices["compile"].allowed
        if self.options.compile == "off" or len(offered) < 2 or why_not(self.workload) is not None:
            return False
        leader = best(self.session)
        long = leader is not None and planned(self.session) / leader.rate.value >= COMPILE_PAYS_S
        return long or self.options.compile == "on"

    def _policy(self) -> None:
        """Where the strength is left open: the strongest policy that costs little, at its best placement."""
        leader = best(self.session)
        if self.workload.task.augmentation != AUTO or not self.workload.augmentable or leader is None:
            return
        self._tell(Stage(title="augmentation strength"))
        limit_s = max(10.0, 0.25 * self.budget.total_s)
        chosen = choose_policy(
            self.recorder,
            self.machine,
            leader.settings,
            allowance=self.workload.task.allowance,
            limit_s=limit_s,
        )
        self.workload = replace(self.workload, augmentation=chosen.augmentation)
        self.recorder.workload = self.workload
        default = canonical(replace(self.space.default, augmentation=chosen.augmentation), self.workload)
        self.space = replace(self.space, default=default, members=(default, chosen))
        self.recorder.note(default=default)
        self.recorder.compute(default)
        self.recorder.loading(default)
        for settings in (default, chosen):
            self.recorder.full(settings)

    def _attribute(self, chosen: Settings, tournament: Tournament) -> None:
        """Find out what each change of a choice is worth, so far as there is time."""
        limit_s = 0.0 if self.budget.brief else self.budget.left_until(ATTRIBUTION_END)
        if chosen == self.space.default or self.session.interrupted:
            return
        if limit_s > LEAST_ATTRIBUTION_S:
            self._tell(Stage(title="attribution"))
        elif self.budget.brief:
            self._tell(Noted(words="the training is short: 'autotrain probe' finds out what each setting is worth"))
        found = attribute(self.recorder, chosen, turn_s=tournament.turn_s, turns=tournament.turns, limit_s=limit_s)
        self.recorder.note(attributions=found)

    def _advise(self, chosen: Settings) -> None:
        in_parts = chosen.sharding == FULL and not self.workload.team.alone
        # No rank could train on a larger batch by itself where the model lies in parts.
        if self.options.advise_batch and not in_parts and not self.session.interrupted and not self.budget.brief:
            self._tell(Stage(title="largest batch"))
            limit_s = max(2.0, min(8.0, self.budget.left_s))
            advice: LargestBatch | None = self.recorder.run(
                largest_batch, chosen, settings=[chosen], limit_s=limit_s, time_s=limit_s
            )
            self.recorder.note(largest_batch=advice and advice.of_all(self.workload.team.world.world_size))

    def _tell(self, event: Event) -> None:
        self.observer(event)


def warm_files(recorder: Recorder) -> None:
    """Read the files once: the default, measured first, must not pay for what later candidates find warm."""
    source, order = recorder.workload.source, recorder.workload.stream().order(0)
    if not source.files(order[:1].tolist()):
        return
    files = source.files(order[:20_000].tolist())
    read = cold_read(files, limit_bytes=WARM_BYTES, limit_s=WARM_S, clock=recorder.clock.now)
    recorder.note(cold_bytes_per_s=read.bytes_per_s)


def warm_samples(workload: Workload) -> int:
    """Return how many samples stand in for a dataset in a filled cache: a few batches."""
    return max(256, 4 * workload.batch_size)


def finding_of(session: Session) -> Finding | None:
    """Return the finding about the default, its remedy looked for among all that was measured, in full or in part."""
    default = session.default
    remedies = [entry.settings for entry in session.of(Kind.FULL)]
    for entry in session.of(Kind.COMPUTE):
        own = {name: value for name, value in key(entry.settings, Side.COMPUTE) if name in COMPUTE_KNOBS}
        remedies.append(replace(default, **own))  # type: ignore[arg-type]
    return diagnose(session, dict.fromkeys(remedies))
