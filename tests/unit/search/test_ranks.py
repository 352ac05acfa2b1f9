"""What ranks do together in a probe, with others that are made up: nobody waits for one that is gone or has failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from autotrain.errors import AutotrainError, CandidateError, SettingsError, TaskError
from autotrain.hardware.memory import MemoryFacts
from autotrain.knobs.cache import CacheChoice
from autotrain.measure import crew
from autotrain.measure.clock import Clock
from autotrain.measure.exchange import exchange
from autotrain.measure.failure import RanksLostError, candidate
from autotrain.preparation import prepare_workload
from autotrain.search import batch, probe
from autotrain.search.batch import largest_batch
from autotrain.search.check import check
from autotrain.search.duel import duel
from autotrain.search.guard import Guardian, guard
from autotrain.search.probe import ProbeOptions, Prober, assist_probe, run_probe
from autotrain.search.recorder import of_all_ranks
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.team import Team
from autotrain.world import World

GONE = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:41200"


class Others(Team):
    """A team whose other ranks are told and asked nothing."""

    def __init__(self, *, gone: bool = False) -> None:
        super().__init__(World(rank=0, world_size=2, local_world_size=2))
        self.gone = gone
        self.told: list[Any] = []

    @property
    def alone(self) -> bool:
        return False

    def shared(self, thing: Any) -> Any:
        if self.gone:
            raise RuntimeError(GONE)
        self.told.append(thing)
        return thing


@pytest.fixture
def ranks(make_workload: Callable[..., Any]) -> Any:
    return replace(make_workload(), team=Others())


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"isolate": True}, TaskError, "isolate: a process of its own"),
        ({"fixed": {"sharding": "full", "optimizer_kernel": "fused"}}, SettingsError, "not possible here"),
    ],
)
def test_what_is_wrong_before_anything_is_measured_is_told_to_the_ranks_that_wait(ranks, machine, options, kind, words):
    with pytest.raises(kind, match=words) as raised:
        run_probe(ranks, machine, options=ProbeOptions(**options))
    assert ranks.team.told == [raised.value]


@pytest.mark.parametrize("problem", [ZeroDivisionError("no way"), KeyboardInterrupt()])
def test_so_is_what_nobody_thought_of(ranks, machine, monkeypatch, problem):
    def fails(*given):
        raise problem

    monkeypatch.setattr(probe, "Prober", fails)
    with pytest.raises(type(problem)):
        run_probe(ranks, machine)
    (told,) = ranks.team.told
    assert isinstance(told, CandidateError)
    assert str(told).startswith(f"rank 0 came to an end with {type(problem).__name__}")


def test_a_probe_that_went_well_lets_them_go(ranks, machine, monkeypatch):
    monkeypatch.setattr(probe, "Prober", lambda *given: SimpleNamespace(run=lambda: "session"))
    assert run_probe(ranks, machine) == "session"
    assert ranks.team.told == [None]


def measured(workload: Any) -> str:
    return "measured"


def test_ranks_that_are_gone_end_the_probe_with_a_line(make_workload, machine, monkeypatch):
    lost = replace(make_workload(), team=Others(gone=True))
    with pytest.raises(RanksLostError, match="other processes are gone or do not answer"):
        crew.call_all(lost, measured)
    monkeypatch.setattr(probe, "Prober", lambda *given: SimpleNamespace(run=lambda: crew.call_all(lost, measured)))
    for call in (lambda: run_probe(lost, machine), lambda: assist_probe(lost)):
        with pytest.raises(
            CandidateError, match=r"gone or do not answer .*Connection closed by peer.* Start all again"
        ):
            call()


def test_the_loss_of_a_rank_is_nothing_that_a_candidate_did():
    """A recorder would keep it as the candidate's failure, and ask the dead for the next."""
    with pytest.raises(RanksLostError) as lost, candidate():
        raise RuntimeError(GONE)
    assert not isinstance(lost.value, CandidateError)
    assert isinstance(lost.value, AutotrainError)
    with pytest.raises(CandidateError, match="no kernel"), candidate():
        raise RuntimeError("no kernel")


def test_a_rank_that_measures_what_it_is_asked_says_when_the_others_are_gone(ranks):
    def lost(workload):
        raise RuntimeError(GONE)

    call = crew.Call(function=lost, arguments=(), options={}, augmentation="none")
    with pytest.raises(RanksLostError):
        crew._serve(ranks, call, None)


def test_what_needs_a_model_that_lies_in_parts_is_done_by_all():
    whole, parts = Settings(), Settings(sharding="full")
    assert all(of_all_ranks(function, [whole]) for function in (duel, exchange))
    assert not any(of_all_ranks(function, [whole]) for function in (guard, check))
    assert all(of_all_ranks(function, [parts, whole]) for function in (guard, check))
    assert not of_all_ranks(largest_batch, [parts])


def test_ranks_go_on_or_not_as_the_first_one_finds(ranks, monkeypatch):
    guardian = Guardian(ranks, Settings(), steps=2)
    for first, own, agreed in ((0.0, "worse", None), (1.0, None, "as rank 0 has found"), (1.0, "worse", "worse")):
        monkeypatch.setattr(ranks.team, "first", lambda value, first=first: first)
        assert guardian._agreed(own) == agreed


@pytest.mark.parametrize("each", [1, 4])
def test_the_ranks_of_a_machine_share_its_memory(make_workload, monkeypatch, each):
    world = World(world_size=each, local_world_size=each)
    facts = MemoryFacts(total_bytes=1 << 34, available_bytes=1 << 24)
    monkeypatch.setattr(batch, "world", lambda: world)
    monkeypatch.setattr(batch, "memory_facts", lambda: facts)
    monkeypatch.setattr(batch, "_kept_bytes", lambda rig, batch: (1 << 16) * batch.count)
    found = largest_batch(make_workload(), Settings(), time_s=0.0)
    assert found.estimate == int((1 << 24) * 0.9 / each / (1 << 16))
    assert found.limit in ("the time for this question", "the dataset has no more images")


def test_the_dataset_ends_the_batch_of_all_ranks_together(make_workload, monkeypatch):
    monkeypatch.setattr(batch, "world", lambda: World(world_size=8, local_world_size=8))
    assert largest_batch(make_workload(), Settings(), time_s=60.0).limit == "the dataset has no more images"


@pytest.fixture
def pictures(jpeg_folder, tiny_model, tmp_path):
    """A workload of files, which can be cached on disk."""
    return prepare_workload(
        Task(
            model=tiny_model(),
            dataset=jpeg_folder,
            batch_size=8,
            image_size=16,
            device="cpu",
            cache_dir=tmp_path / "cache",
        )
    )


def test_ranks_may_share_a_cache_on_disk(pictures, machine):
    several = replace(pictures, team=Others())
    assert CacheChoice().legal(Settings(cache="disk"), several, machine) is None
    assert "disk" in CacheChoice().choices(several, machine).allowed


def test_a_study_is_the_same_one_whatever_memory_is_free_at_the_moment(pictures, machine, tmp_path, monkeypatch):
    names, told = set(), []
    for room in (1 << 40, 0):
        monkeypatch.setattr("autotrain.knobs.cache.budget_bytes", lambda kind, place, room=room: room)
        options = ProbeOptions(study=tmp_path / "shared.journal")
        prober = Prober(pictures, machine, options, told.append, Clock())
        assert ("ram" in prober.space.choices["cache"].allowed) == bool(room)
        study = prober._open_study()
        names.add(study._study.study_name)
        trial, _ = study.ask()
        study.tell(trial, 1.0)
    assert len(names) == 1
    assert [entry.words.partition(": ")[2][:3] for entry in told] == ["new", "goe"]


class Proven:
    """Stands in for the proof."""

    def __init__(self, holds: bool | BaseException) -> None:
        self.answer, self.asked = holds, []

    def holds(self, settings: Settings) -> bool:
        self.asked.append(settings)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("holds", [True, False, KeyboardInterrupt()])
def test_what_another_machine_came_first_with_has_to_beat_the_default_here_too(
    make_workload, machine, make_duel, holds
):
    own, other = Settings(precision="bf16"), Settings(workers=2)
    prober = Prober(make_workload(), machine, ProbeOptions(), lambda event: None, Clock())
    prober.study = None
    prober.recorder.note(duels=(make_duel(own, 1.5),))
    tournament = SimpleNamespace(share=lambda study: None, equal_elsewhere=lambda chosen: other)
    proof = Proven(holds)

    def wins(settings: Settings) -> bool:
        prober.recorder.note(duels=(*prober.session.duels, make_duel(other, 1.0)))
        return Proven.holds(proof, settings)

    proof_of = SimpleNamespace(holds=wins)
    assert prober._shared(own, tournament, proof_of) == (other if holds is True else own)
    assert prober.session.final_duel.candidate == (other if holds is True else own)
    assert len(prober.session.duels) == 2
    assert prober.session.interrupted == isinstance(holds, KeyboardInterrupt)
    assert proof.asked == [other]
