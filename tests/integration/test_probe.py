"""A probe from start to end: it finishes, chooses only what is proven, and survives what goes wrong."""

import math
import os
import signal
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from torch import nn
from torch.utils.data import get_worker_info

import autotrain
from autotrain.augment.policy import POLICIES
from autotrain.diagnose.finding import Bottleneck
from autotrain.engine.rig import Rig
from autotrain.engine.step import Step
from autotrain.errors import DataError
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.base import Effect
from autotrain.knobs.compile import Compile
from autotrain.measure.burst import BurstOptions, burst, run_window
from autotrain.measure.clock import Clock
from autotrain.measure.drive import FullDrive, InputDrive
from autotrain.measure.heat import Cost, Heat, HeatInterrupted, HeatOptions, Lane, heat
from autotrain.measure.measurement import Kind, Measurement, Window
from autotrain.measure.session import DuelRecord, Guard, Session
from autotrain.plan.evidence import Verdict
from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.preparation import prepare_workload
from autotrain.report.html.page import report_page
from autotrain.report.summary import recommendation
from autotrain.search.batch import largest_batch
from autotrain.search.budget import SHORTEST_S
from autotrain.search.duel import DuelOptions, duel
from autotrain.search.events import Diagnosed, Interrupted, Measured, Stage, Started, Turn
from autotrain.search.planner import make_plan
from autotrain.search.probe import ProbeOptions, finding_of, run_probe
from autotrain.search.tournament import PLAY_OFF, SCREENING
from autotrain.settings import Settings
from autotrain.stats.compare import Verdict as Outcome
from autotrain.task import Task

SHORT = BurstOptions(window_s=0.04, windows=3, limit_s=0.2, warmup_s=0.05)
SHORT_DUEL = DuelOptions(pairs=5, most_pairs=5, heat=HeatOptions(turn_s=0.05, warmup_s=0.05, behind=None))


def tensors(count: int = 64, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=draws)
    return images, torch.randint(0, 3, (count,), generator=draws)


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch):
    """What else runs on the machine has nothing measured again."""
    for module in ("measure.heat", "search.recorder"):
        monkeypatch.setattr(f"autotrain.{module}.DISTURBED", 2.0)


@pytest.fixture
def quick(monkeypatch, one_thread):
    """Real bursts, heats and duels, as short as can be."""

    def short_burst(rig, *, options=None, **rest):
        return burst(rig, options=SHORT, **rest)

    def short_heat(*sides, options, **rest):
        return heat(*sides, options=replace(options, rounds=3, turns=1, turn_s=0.02, warmup_s=0.02), **rest)

    def short_duel(*sides, options=None, **rest):
        return duel(*sides, options=SHORT_DUEL, **rest)

    def short_advice(workload, settings, *, time_s):
        return largest_batch(workload, settings, time_s=0.2)

    monkeypatch.setattr("autotrain.search.probe.largest_batch", short_advice)
    monkeypatch.setattr("autotrain.search.recorder.burst", short_burst)
    monkeypatch.setattr("autotrain.search.recorder.heat", short_heat)
    monkeypatch.setattr("autotrain.search.attribution.heat", short_heat)
    monkeypatch.setattr("autotrain.search.proof.duel", short_duel)
    monkeypatch.setattr("autotrain.search.probe.profile", lambda *given, **options: None)


AS_IT_IS = {"threads": 0, "optimizer_kernel": "own", "micro_batches": 1, "loader": "processes", "cache": "none"}
FEW = AS_IT_IS | {"prefetch": 2}
"""What is held so that a search is over soon."""


class Laboratory(Clock):
    """Measures by formula, in a time of its own: a burst takes two seconds, a heat half a second for each contender.

    One process loads 400 images/s; fp32 trains 1000 of them a second, bf16 2000, and channels-last makes that worse. A
    policy costs its share wherever it is done.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 0.0
        self.log: list[tuple[Kind, Settings]] = []
        self.heats: list[tuple[list[Settings], HeatOptions]] = []
        self.duels: list[tuple[Settings, Settings]] = []
        self.guarded: list[Settings] = []
        self.cost = {
            "none": 1.0,
            "flip": 0.995,
            "crop": 0.97,
            "trivial": 0.85,
            "rand": 0.8,
            "autoaugment": 0.78,
            "augmix": 0.6,
        }
        self.speed = 1.0
        self.duel_ratio: float | None = None
        self.faulty: Settings | None = None
        self.broken = lambda settings: False
        places = {
            "one_burst": ("recorder",),
            "heat": ("recorder", "attribution"),
            "duel": ("proof",),
            "guard": ("proof",),
            "race": ("narrow",),
            "profile": ("probe",),
        }
        for name, modules in places.items():
            for module in modules:
                monkeypatch.setattr(f"autotrain.search.{module}.{name}", getattr(self, name))

    def begin_again(self) -> None:
        """Forget what was done."""
        self.time, self.log, self.heats, self.duels, self.guarded = 0.0, [], [], [], []

    def now(self) -> float:
        return self.time

    def rate(self, settings: Settings, kind: Kind = Kind.FULL) -> float:
        compute = (
            1000.0 * self.speed * (2.0 if settings.precision == "bf16" else 1.0) * self.cost[settings.augmentation]
        )
        compute *= 0.9 if settings.memory_format == "channels_last" else 1.0
        loading = 400.0 * self.speed * max(1, settings.workers) * self.cost[settings.augmentation]
        if kind is Kind.COMPUTE:
            return compute
        if kind is Kind.INPUT:
            return loading
        if settings.workers == 0:
            return 1 / (1 / compute + 1 / loading)
        return 0.95 * min(compute, loading)

    def one_burst(self, workload, settings, *, make_drive, options) -> Measurement:
        kind = {FullDrive: Kind.FULL, InputDrive: Kind.INPUT}.get(make_drive, Kind.COMPUTE)
        self.time += 2.0
        self.log.append((kind, settings))
        if self.broken(settings):
            raise RuntimeError("a kernel is missing")
        return self.measured(settings, kind)

    def heat(self, workload, contenders, *, options, make_drive=FullDrive, costs=None, seed=0) -> Heat:
        self.time += 0.5 * len(contenders)
        kind = Kind.FULL if make_drive is FullDrive else Kind.COMPUTE
        self.heats.append((list(contenders), options))
        self.log += [(kind, settings) for settings in contenders]
        costs = costs or [Cost() for _ in contenders]
        seconds = {entry: cost.seconds(self.rate(entry, kind)) for entry, cost in zip(contenders, costs, strict=True)}
        most = math.inf if options.behind is None else (1 + options.behind) * min(seconds.values())
        return Heat(kind=kind, lanes=tuple(self.lane(entry, kind, seconds[entry] > most) for entry in contenders))

    def lane(self, settings: Settings, kind: Kind, left_behind: bool) -> Lane:
        if self.broken(settings):
            return Lane(settings=settings, problem="a kernel is missing")
        windows = self.measured(settings, kind).windows[: 3 if left_behind else 6]
        return Lane(settings=settings, windows=windows, startup_s=0.1, warmup_steps=1, left_behind=left_behind)

    def profile(self, workload, settings, *, clock, step_s=None) -> None:
        self.time += 0.5

    def race(self, workload, entrants, *, clock, turns=6, seed=0):
        self.time += 0.5
        return [self.measured(replace(entry, workers=0), Kind.INPUT) for entry in entrants], []

    def measured(self, settings: Settings, kind: Kind) -> Measurement:
        seconds = 8 / self.rate(settings, kind)
        window = Window(steps=1, images=8, wall_s=seconds, wait_s=0.0, cpu_main_s=0.1 * seconds, cpu_workers_s=0.0)
        return Measurement(
            kind=kind, settings=settings, windows=(window,) * 6, startup_s=0.1, warmup_steps=1, stationary=True
        )

    def duel(self, workload, baseline, candidate, *, options, seed=0, report=None) -> DuelRecord:
        self.time += 10.0
        self.duels.append((baseline, candidate))
        ratio = self.duel_ratio or self.rate(candidate) / self.rate(baseline)
        first = tuple(self.rate(baseline) * (1 + 0.01 * (pair % 3)) for pair in range(options.pairs))
        second = tuple(rate * ratio * (1 + 0.002 * (pair % 2)) for pair, rate in enumerate(first))
        for pair in range(options.pairs):
            if report is not None:
                report((first[pair], second[pair]))
        return DuelRecord(baseline=baseline, candidate=candidate, baseline_rates=first, candidate_rates=second)

    def guard(self, workload, candidate, default, *, steps, parts=1) -> Guard:
        self.time += 3.0
        self.guarded.append(candidate)
        problem = "the loss is nan at step 1" if candidate == self.faulty else None
        return Guard(settings=candidate, candidate=(1.0,), references=((1.0,),), problem=problem)


@pytest.fixture
def laboratory(monkeypatch) -> Laboratory:
    return Laboratory(monkeypatch)


@pytest.fixture
def machine():
    """This machine, with four usable cores and bf16, so that the same space is searched everywhere."""
    facts = machine_facts()
    return replace(facts, cpu=replace(facts.cpu, usable=4))


@pytest.fixture
def search(laboratory, machine, tiny_model, monkeypatch):
    """A function that probes a small task in the laboratory."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False)

    def search(
        *,
        observer=None,
        study=None,
        allow=Effect.NUMERICS,
        budget_s=60.0,
        fixed=None,
        advise_batch=False,
        before_training=False,
        sampler="auto",
        **options,
    ):
        task = Task(**{"model": tiny_model(), "dataset": tensors(), "batch_size": 8, "device": "cpu", **options})
        workload = prepare_workload(task)
        probe_options = ProbeOptions(
            budget_s=budget_s,
            allow=allow,
            study=study,
            advise_batch=advise_batch,
            before_training=before_training,
            fixed=fixed,
            sampler=sampler,
        )
        session = run_probe(
            workload, machine, options=probe_options, observer=observer or (lambda event: None), clock=laboratory
        )
        return session, make_plan(session, workload, finding_of(session))

    return search


def is_proven(session: Session) -> bool:
    """Tell whether the choice is the default or has won the last duel against it."""
    if session.chosen == session.default:
        return True
    record = session.final_duel
    return (record.baseline, record.candidate) == (session.default, session.chosen) and (
        record.comparison.verdict is Outcome.FASTER
    )


def check(session: Session, plan: Plan) -> None:
    assert is_proven(session)
    assert plan.settings == session.chosen
    assert (plan.evidence.verdict is Verdict.FASTER) == (session.chosen != session.default)
    assert Session.from_json(session.to_json()) == session
    assert Plan.from_yaml(plan.to_yaml()).settings == plan.settings
    page = report_page(session, plan, finding_of(session))
    assert ("Faster, proven in a duel" in page) == (session.chosen != session.default)


def test_photographs_are_probed_for_real(jpeg_folder, tiny_model, tmp_path, capfd, one_thread):
    events, study = [], tmp_path / "study.db"
    started = time.monotonic()
    result = autotrain.probe(
        tiny_model(),
        jpeg_folder,
        image_size=32,
        batch_size=4,
        budget="6s",
        study=study,
        progress=False,
        observer=events.append,
        device="cpu",
    )
    session = result.session
    check(session, result.plan)
    assert time.monotonic() - started < 60
    assert session.find(Kind.FULL, session.default).stationary in (True, False)
    assert {Kind.FULL, Kind.COMPUTE, Kind.INPUT} == {entry.kind for entry in session.measurements}
    assert session.default.augmentation == "crop"
    assert result.finding.bottleneck in Bottleneck
    assert not session.interrupted
    assert session.cold_bytes_per_s > 0
    assert study.is_file()
    titles = [event.title for event in events if isinstance(event, Stage)]
    assert titles[0] == "the job as it is"
    assert "ways to load an image" in titles
    assert len([event for event in events if isinstance(event, Measured)]) == len(session.measurements)
    assert "".join(capfd.readouterr()) == ""


def test_the_fastest_is_found_proven_and_explained(search, laboratory):
    session, plan = search()
    check(session, plan)
    assert plan.settings.precision == "bf16"
    assert plan.settings.memory_format == "contiguous"
    assert laboratory.rate(plan.settings) == pytest.approx(0.95 * 2000)
    assert laboratory.duels == [(session.default, plan.settings)]
    assert laboratory.guarded == [plan.settings]
    assert plan.evidence.bottleneck == "input-bound"
    assert {entry.setting for entry in plan.evidence.worth} >= {"precision", "workers"}
    assert all(entry.within.value >= 1 for entry in plan.evidence.worth)
    worth = {entry.setting: entry for entry in plan.evidence.worth}
    assert worth["workers"].alone.value > worth["precision"].alone.value > 1
    assert worth["precision"].within.value == pytest.approx(2.0)


def test_before_a_short_training_what_only_informs_is_left_out(search, laboratory):
    told = []
    session, plan = search(observer=told.append, budget_s=None, advise_batch=True, before_training=True)
    check(session, plan)
    assert laboratory.rate(plan.settings) == pytest.approx(0.95 * 2000)
    assert session.seconds < SHORTEST_S
    assert session.largest_batch is None
    assert len(session.attributions) > 1
    assert all(entry.alone is entry.within is None for entry in session.attributions)
    assert any(
        "'autotrain probe' finds out what each setting is worth" in getattr(entry, "words", "") for entry in told
    )


def test_before_a_training_too_short_for_it_there_is_no_search(search, laboratory, tmp_path):
    """The default's step takes 2.8 s."""
    laboratory.speed = 0.01
    session, plan = search(budget_s=None, before_training=True)
    check(session, plan)
    assert session.too_short
    assert session.chosen == session.default
    assert laboratory.log == [(Kind.FULL, session.default)]
    words = " ".join(line.text for line in recommendation(session, plan, finding_of(session)))
    assert "Not searched: the training is too short for that, so the default stays" in words
    assert "It is 80 steps long, about 3.7 min; even the shortest search trains 40, about 112 s, more than it" in words
    assert "'autotrain probe', searches all the same" in words
    assert "Inconclusive" not in words
    assert plan.evidence.findings == (
        "nothing was searched, as the training is too short to win back what a search takes",
    )
    by_clock = {"duration": "1h", "fixed": {"compile": "none"}}
    study = {"study": tmp_path / "study.db"}
    for asked in ({"budget_s": 60.0}, {"before_training": False}, {"augmentation": "auto"}, study, by_clock):
        searched, _ = search(**{"budget_s": None, "before_training": True, "sampler": "random", **asked})
        assert not searched.too_short
        assert len(searched.measurements) > 3


def test_the_same_seed_measures_and_chooses_the_same(search, laboratory):
    first, _ = search(seed=3)
    log = laboratory.log
    laboratory.begin_again()
    second, _ = search(seed=3)
    assert laboratory.log == log
    assert second.chosen == first.chosen


def test_only_the_best_so_far_runs_twice_in_the_search(search, laboratory):
    session, _ = search()
    heats = [contenders for contenders, options in laboratory.heats if options.rounds == SCREENING.rounds]
    assert heats
    leader, seen = session.default, {session.default}
    for first, *others in heats:
        assert first == leader
        assert not seen & set(others)
        seen.update(others)
        leader = max((leader, *others), key=lambda it: (laboratory.rate(it), -len(it.changes(session.default))))


def test_what_cannot_win_is_not_measured(search, laboratory):
    events: list = []
    session, plan = search(budget_s=600.0, fixed=FEW, observer=events.append)
    measured = {entry.settings for entry in session.of(Kind.FULL)}
    pruned = {entry.settings for entry in session.failures if entry.pruned}
    assert not pruned & measured
    assert all("cannot exceed" in entry.reason for entry in session.failures)
    assert max((laboratory.rate(entry) for entry in pruned), default=0.0) < laboratory.rate(plan.settings)
    assert laboratory.time < 100, "it ends when nothing that is left can win"
    offered = next(event.candidates for event in events if isinstance(event, Started))
    assert len(measured) < offered


def test_the_budget_is_kept(search, laboratory):
    session, plan = search(budget_s=40.0)
    check(session, plan)
    assert session.seconds == laboratory.time <= 45.0


def test_a_candidate_that_ties_in_the_duel_is_not_chosen(search, laboratory):
    laboratory.duel_ratio = 1.0
    session, plan = search()
    assert session.chosen == session.default
    assert plan.evidence.verdict is Verdict.INCONCLUSIVE
    assert len(session.duels) == 1


def test_where_the_guard_disqualifies_the_best_the_next_one_has_its_chance(search, laboratory):
    laboratory.faulty = search()[0].chosen
    laboratory.begin_again()
    session, plan = search()
    check(session, plan)
    assert session.chosen not in (laboratory.faulty, session.default)
    assert any(entry.settings == laboratory.faulty for entry in session.failures)
    assert any("disqualified" in words for words in plan.evidence.findings)


def test_exact_never_changes_the_rounding(search, laboratory):
    session, plan = search(allow=Effect.EXACT)
    check(session, plan)
    assert {settings.precision for _, settings in laboratory.log} == {"fp32"}
    assert set(plan.settings.changes(session.default)) <= {"workers", "prefetch", "loader", "cache"}
    assert plan.settings.workers > 0
    assert laboratory.guarded == []


def test_a_study_is_gone_on_with(search, laboratory, tmp_path):
    study = tmp_path / "study.db"
    first, _ = search(study=study, budget_s=30.0, fixed=FEW)
    known = {entry.settings for entry in first.of(Kind.FULL)} - {first.default}
    laboratory.begin_again()
    second, plan = search(study=study, budget_s=60.0, fixed=FEW)
    check(second, plan)
    screened = [contenders for contenders, options in laboratory.heats if options.rounds == SCREENING.rounds]
    assert not known & {settings for contenders in screened for settings in contenders[1:]}, "measured once more"
    assert laboratory.rate(second.chosen) >= 0.99 * laboratory.rate(first.chosen)


def test_a_study_of_another_recipe_brings_nothing(search, laboratory, tmp_path):
    """Without augmentation the same task is faster: that must not win over the policy that the user asked for."""
    study = tmp_path / "study.db"
    search(study=study, augmentation="none", budget_s=20.0, fixed=FEW)
    laboratory.begin_again()
    session, plan = search(study=study, augmentation="crop", budget_s=30.0, fixed=FEW)
    check(session, plan)
    assert plan.settings.augmentation == "crop"
    assert {entry.settings.augmentation for entry in session.of(Kind.FULL)} == {"crop"}


def test_a_study_of_other_choices_does_not_stand_in_the_way(search, laboratory, tmp_path):
    """The user's own settings come first among the choices, and what can be chosen depends on the machine."""
    study = tmp_path / "study.db"
    search(study=study, budget_s=20.0, fixed=FEW)
    laboratory.begin_again()
    check(*search(study=study, budget_s=20.0, fixed=FEW, settings=Settings(workers=3)))


def test_what_is_no_study_is_refused_before_anything_is_measured(search, laboratory, tmp_path):
    path = tmp_path / "study.db"
    path.write_text("not a database, " * 100)
    with pytest.raises(autotrain.errors.StudyError):
        search(study=path)
    assert laboratory.log == []


class Stop:
    """Presses Ctrl-C at events of a kind."""

    def __init__(self, *moments) -> None:
        self.moments = list(moments)
        self.seen = []

    def __call__(self, event) -> None:
        self.seen.append(event)
        if self.moments and self.moments[0](self.seen):
            self.moments.pop(0)
            raise KeyboardInterrupt


def first(kind, *, after: str = ""):
    def reached(seen) -> bool:
        titles = [event.title for event in seen if isinstance(event, Stage)]
        return isinstance(seen[-1], kind) and (not after or after in titles)

    return reached


def test_ctrl_c_in_the_search_puts_the_best_so_far_to_the_proof(search, laboratory):
    stop = Stop(first(Measured, after="search"))
    session, plan = search(observer=stop)
    check(session, plan)
    assert session.interrupted
    assert plan.evidence.verdict is Verdict.FASTER
    assert laboratory.duels == [(session.default, session.chosen)]
    assert Interrupted() in stop.seen
    after = [event.title for event in stop.seen[stop.seen.index(Interrupted()) :] if isinstance(event, Stage)]
    assert set(after) <= {"play-off", "numerics guard", "duel"}
    assert "duel" in after
    assert session.attributions == ()


def test_ctrl_c_within_a_heat_keeps_what_it_saw(search, laboratory, monkeypatch):
    whole = laboratory.heat

    def interrupted(workload, contenders, *, options, **rest):
        result = whole(workload, contenders, options=options, **rest)
        if options.rounds == SCREENING.rounds:
            monkeypatch.setattr("autotrain.search.recorder.heat", whole)
            raise HeatInterrupted(result)
        return result

    monkeypatch.setattr("autotrain.search.recorder.heat", interrupted)
    session, plan = search()
    check(session, plan)
    assert session.interrupted
    assert session.chosen != session.default


def test_ctrl_c_before_the_default_is_known_keeps_it_unproven(search, laboratory):
    session, plan = search(observer=Stop(first(Measured)))
    check(session, plan)
    assert session.chosen == session.default
    assert plan.evidence.verdict is Verdict.NOT_PROVEN
    assert laboratory.duels == []


def test_a_second_ctrl_c_in_the_duel_keeps_the_default(search):
    session, plan = search(observer=Stop(first(Measured, after="search"), first(Turn)))
    check(session, plan)
    assert (session.chosen, session.duels) == (session.default, ())
    assert plan.evidence.verdict is Verdict.NOT_PROVEN


def test_ctrl_c_while_policies_are_compared_does_not_choose_a_weaker_one(search):
    session, plan = search(observer=Stop(first(Measured, after="augmentation strength")), augmentation="auto")
    check(session, plan)
    assert plan.settings.augmentation == "crop"


def test_the_strongest_policy_that_costs_little_is_chosen(search, laboratory):
    """rand and trivial cost 15% or more, crop 3%."""
    session, plan = search(augmentation="auto", budget_s=80.0, fixed=FEW)
    check(session, plan)
    assert plan.settings.augmentation == "crop"
    assert session.default.augmentation == "crop"
    assert {cost.policy for cost in session.policies} == {entry.name for entry in POLICIES}
    laboratory.cost |= {"rand": 0.96, "trivial": 0.9}
    laboratory.begin_again()
    session, plan = search(augmentation="auto", budget_s=80.0, fixed=FEW)
    check(session, plan)
    assert plan.settings.augmentation == "rand"


def test_a_policy_that_fails_is_left_out(search, laboratory):
    laboratory.broken = lambda settings: settings.augmentation == "none"
    session, plan = search(augmentation="auto", budget_s=80.0, fixed=FEW)
    check(session, plan)
    assert plan.settings.augmentation != "none"


ONLY_LAYOUT = AS_IT_IS | {"precision": "fp32", "workers": 0}
ONLY_WORKERS = AS_IT_IS | {"precision": "fp32", "memory_format": "contiguous", "prefetch": 2}


def probe_quickly(model, dataset, **options):
    options = {"budget": "10s", "batch_size": 8, "device": "cpu", "progress": False, **options}
    result = autotrain.probe(model, dataset, **options)
    check(result.session, result.plan)
    return result


def failures(result, *, pruned: bool = False) -> dict[Settings, str]:
    return {entry.settings: entry.reason for entry in result.session.failures if entry.pruned is pruned}


def is_channels_last(images: torch.Tensor) -> bool:
    return images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore lines"), "out of memory on cpu"),
        (RuntimeError("this kernel is not implemented\nmore lines"), "this kernel is not implemented"),
    ],
)
def test_a_candidate_that_fails_is_recorded_and_the_probe_goes_on(quick, tiny_model, monkeypatch, problem, words):
    step = Step.__call__

    def failing(self, content):
        if is_channels_last(content[0]):
            raise problem
        return step(self, content)

    monkeypatch.setattr(Step, "__call__", failing)
    result = probe_quickly(tiny_model(), tensors(), fix=ONLY_LAYOUT)
    failed = failures(result)
    assert failed
    assert {settings.memory_format for settings in failed} == {"channels_last"}
    assert set(failed.values()) == {words}
    assert result.plan.settings.memory_format == "contiguous"


class Mortal:
    """Images whose loading kills its worker process after a while."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if get_worker_info() is not None and index % 16 == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full((16, 16, 3), index, dtype=np.uint8), index % 3


def test_a_worker_killed_in_mid_burst_fails_its_candidate_only(quick, tiny_model):
    result = probe_quickly(tiny_model(), Mortal(), fix=ONLY_WORKERS)
    failed = failures(result)
    assert failed
    assert all(settings.workers > 0 for settings in failed)
    assert [reason for reason in failed.values() if "killed by signal: Killed" not in reason or "\n" in reason] == []
    assert result.plan.settings.workers == 0


def test_a_candidate_that_fails_in_the_guard_makes_room_for_the_next(search, laboratory, monkeypatch):
    best = search()[0].chosen
    tried = []

    def failing(workload, candidate, default, *, steps, parts=1):
        tried.append(candidate)
        if candidate == best:
            raise autotrain.errors.CandidateError("out of memory")
        return laboratory.guard(workload, candidate, default, steps=steps, parts=parts)

    monkeypatch.setattr("autotrain.search.proof.guard", failing)
    laboratory.begin_again()
    session, plan = search()
    check(session, plan)
    assert tried.count(best) == 1
    assert session.chosen not in (best, session.default)
    assert [entry.reason for entry in session.failures if entry.settings == best] == ["out of memory"]


@pytest.mark.parametrize("part", ["proof.guard", "proof.duel", "attribution.heat"])
@pytest.mark.parametrize("kind", [autotrain.errors.CandidateError, RuntimeError])
def test_a_failure_in_the_proof_is_a_result_too(search, monkeypatch, part, kind):
    def failing(*arguments, **options):
        raise kind("a kernel failed\nmore lines")

    monkeypatch.setattr(f"autotrain.search.{part}", failing)
    session, plan = search()
    check(session, plan)
    if part == "attribution.heat":
        assert session.chosen != session.default
        assert all(entry.alone is entry.within is None for entry in session.attributions)
    else:
        assert any("a kernel failed" in entry.reason for entry in session.failures)
        assert kind is not RuntimeError or all("\n" not in entry.reason for entry in session.failures)
    if part == "proof.duel":
        assert session.chosen == session.default


def test_who_fails_in_the_play_off_makes_room_for_the_next(search, laboratory):
    best = search()[0].chosen
    laboratory.begin_again()
    laboratory.broken = lambda settings: settings == best and laboratory.heats[-1][1].rounds == PLAY_OFF.rounds
    session, plan = search()
    check(session, plan)
    assert session.chosen not in (best, session.default)
    assert {entry.settings: entry.reason for entry in session.failures if not entry.pruned} == {
        best: "a kernel is missing"
    }


def test_the_default_itself_failing_is_the_users_error(quick, tiny_model, monkeypatch):
    def failing(self, content):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(Step, "__call__", failing)
    with pytest.raises(autotrain.errors.CandidateError, match="default settings failed: out of memory"):
        probe_quickly(tiny_model(), tensors())


class Unreadable(Mortal):
    """Images of which one raises."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index == 33:
            raise ValueError("row 33 is empty")
        return np.full((16, 16, 3), index, dtype=np.uint8), index % 3


def test_an_unreadable_sample_is_the_users_error(quick, tiny_model):
    with pytest.raises(DataError, match=r"sample 33 of Unreadable: .*row 33 is empty"):
        probe_quickly(tiny_model(), Unreadable())


class Rigid(nn.Module):
    """A model that takes batches of eight, nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.reshape(8, 3 * 16 * 16))


def test_a_model_of_one_batch_size_gets_no_advice_but_a_plan(quick, own_draws):
    result = probe_quickly(Rigid(), tensors(), fix=ONLY_WORKERS | {"workers": 0})
    assert result.session.largest_batch is None or result.session.largest_batch.batch_size == 8


class Sleeping:
    """Images that take 4 ms each."""

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        time.sleep(0.004)
        return np.full((16, 16, 3), index, dtype=np.uint8), index % 3


def diagnosed(model, dataset, **options):
    """Probe until the diagnosis is known; return the finding."""
    found = []

    def observer(event) -> None:
        if isinstance(event, Diagnosed):
            found.append(event.finding)
            raise KeyboardInterrupt

    result = probe_quickly(model, dataset, observer=observer, **options)
    assert result.plan.evidence.verdict is Verdict.NOT_PROVEN
    return found[0]


def test_a_dataset_that_sleeps_is_input_bound_and_wants_workers(quick, tiny_model):
    finding = diagnosed(tiny_model(), Sleeping())
    assert finding.bottleneck is Bottleneck.INPUT
    assert finding.remedy.workers > 1
    assert finding.predicted_gain > 1.5


def test_a_heavy_model_on_resident_tensors_is_compute_bound(quick, own_draws):
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    finding = diagnosed(model, tensors())
    assert finding.bottleneck is Bottleneck.COMPUTE
    assert finding.remedy is None or "workers" not in finding.remedy.changes(Settings())


def test_the_guards_and_duels_of_a_real_probe_are_in_its_session(quick, jpeg_folder, tiny_model):
    fixed = FEW | {"decoder": "pillow", "resize": "pillow"}
    result = probe_quickly(tiny_model(), jpeg_folder, image_size=32, batch_size=4, augmentation="flip", fix=fixed)
    for record in result.session.duels:
        assert record.baseline == result.session.default
        assert len(record.baseline_rates) == len(record.candidate_rates) == SHORT_DUEL.pairs
        assert all(math.isfinite(rate) and rate > 0 for rate in (*record.baseline_rates, *record.candidate_rates))


def test_a_rig_that_cannot_be_built_is_a_failed_candidate(quick, tiny_model, monkeypatch):
    build = Rig._build_compute

    def failing(rig: Rig) -> None:
        if rig.settings.memory_format == "channels_last":
            raise RuntimeError("no such layout")
        build(rig)

    monkeypatch.setattr(Rig, "_build_compute", failing)
    assert set(failures(probe_quickly(tiny_model(), tensors(), fix=ONLY_LAYOUT)).values()) == {"no such layout"}


def test_ctrl_c_in_a_real_heat_puts_the_best_so_far_to_the_proof(quick, tiny_model, monkeypatch):
    """The key is pressed while rigs with workers are live."""
    pressed = []

    def press(*given, **options):
        window = run_window(*given, **options)
        if titles and titles[-1] == "search" and not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return window

    def observer(event) -> None:
        if isinstance(event, Stage):
            titles.append(event.title)

    titles: list[str] = []
    monkeypatch.setattr("autotrain.measure.contender.run_window", press)
    result = probe_quickly(tiny_model(), tensors(), fix=AS_IT_IS | {"precision": "fp32"}, observer=observer)
    assert pressed
    assert result.session.interrupted
    assert "attribution" not in titles


@pytest.mark.slow
def test_isolated_from_start_to_end(tiny_model, one_thread):
    """Every burst and every heat runs in another process, which is gone afterwards."""
    before, seen = set(psutil.Process().children()), set()

    def observer(event) -> None:
        if isinstance(event, Measured) and event.measurement.kind is Kind.FULL:
            seen.update(psutil.Process().children())

    result = probe_quickly(tiny_model(), tensors(), fix=ONLY_LAYOUT, isolate=True, budget="12s", observer=observer)
    session = result.session
    assert {entry.kind for entry in session.measurements} == set(Kind)
    assert [entry for entry in session.failures if not entry.pruned] == []
    assert seen - before


@pytest.mark.slow
def test_a_compiled_model_takes_part_where_that_is_wanted(tiny_model, machine, one_thread):
    workload = prepare_workload(Task(model=tiny_model(), dataset=tensors(), batch_size=8, device="cpu"))
    if "default" not in Compile().choices(workload, machine).allowed:
        pytest.skip("nothing is compiled here")
    result = probe_quickly(
        tiny_model(), tensors(), fix=ONLY_LAYOUT | {"memory_format": "contiguous"}, compile="on", budget="8s"
    )
    session = result.session
    compiled = [entry for entry in session.of(Kind.FULL) if entry.settings.compile == "default"]
    assert compiled, [entry.reason for entry in session.failures]
    assert compiled[0].compile_s > 0
    assert all(entry.compile_s == 0 for entry in session.measurements if entry.settings.compile == "none")


class Waits:
    """Images that each take their time to come."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        time.sleep(0.01)
        return np.full((16, 16, 3), index, dtype=np.uint8), index % 3


@pytest.mark.alone
def test_a_plan_made_with_other_processes_is_put_to_the_proof(quick, tiny_model, caplog):
    """Where images take their time workers help for certain; where workers die they cannot."""
    given = {"batch_size": 8, "device": "cpu", "duration": "1ep", "progress": False, "budget": "5s"}
    plan = Plan(settings=Settings(workers=2), provenance=Provenance(processes=2, processes_per_machine=2))
    result = autotrain.fit(tiny_model(), Waits(), plan=plan, **given)
    assert result.plan.settings == plan.settings
    assert result.session.final_ratio.low > 1
    assert {entry.settings for entry in result.session.of(Kind.FULL)} == {Settings(), plan.settings}
    assert result.plan.provenance.processes == 1
    result = autotrain.fit(tiny_model(), Mortal(), plan=plan, **given)
    assert result.plan.settings == Settings()
    assert "not proven to be faster" in caplog.text
    known = replace(plan, provenance=Provenance(processes=1, processes_per_machine=1))
    assert autotrain.fit(tiny_model(), Waits(), plan=known, **given).session is None
