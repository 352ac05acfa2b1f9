"""The session: everything a probe measured, as data. Diagnosis, plan and reports are functions of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from autotrain import files
from autotrain.errors import PlanError, SettingsError
from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Side
from autotrain.knobs.registry import key
from autotrain.measure.exchange import Exchange
from autotrain.measure.measurement import Kind, Measurement, numbers
from autotrain.measure.profile import StageProfile
from autotrain.settings import Settings, Value
from autotrain.stats.compare import FEWEST_PAIRS, Comparison, compare
from autotrain.stats.summary import Estimate

SCHEMA = 1

SESSION_FILE = files.FileKind(
    noun="session",
    example="session.json",
    most_bytes=1 << 28,
    origin="Make one with `autotrain probe TARGET --session session.json`, or with result.session.save(...)",
    error=PlanError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The facts of a workload that people and plans want to know."""

    model: str
    parameters: int
    dataset: str
    samples: int
    samples_kind: str
    batch_size: int
    image_size: int | None
    device: str
    device_name: str
    fingerprint: str
    seed: int
    threads: int
    """torch's own count of intra-op threads."""

    planned_images: int
    """Images that the planned training will see, 0 where it is planned by time."""

    schedule: tuple[float, ...] = ()
    """What the base learning rate is multiplied by at evenly spaced places of the planned training, first step to last;
    empty in sessions of earlier versions."""

    processes: int = 1
    """Processes that train together."""

    machines: int = 1
    """Machines that they are on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A candidate that could not be measured, or was not worth it."""

    settings: Settings
    reason: str
    pruned: bool = False
    """True where its bound lay below the best so far, False where it failed."""

    alone: bool = False
    """Whether it failed in training alone, and so would however images are loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuelRecord:
    """Rates of interleaved turns, in images/s; the i-th of each were measured next to each other."""

    baseline: Settings
    candidate: Settings
    baseline_rates: tuple[float, ...]
    candidate_rates: tuple[float, ...]
    baseline_seconds: tuple[float, ...] = ()
    """How long the turns of each pair took; empty in sessions of earlier versions, as the next."""

    candidate_seconds: tuple[float, ...] = ()

    @property
    def comparison(self) -> Comparison | None:
        """The verdict, None while there are too few pairs."""
        if len(self.baseline_rates) < FEWEST_PAIRS:
            return None
        seconds = (self.baseline_seconds, self.candidate_seconds) if self.baseline_seconds else None
        return compare(self.baseline_rates, self.candidate_rates, seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What one changed setting of the choice is worth, measured both ways in interleaved turns."""

    setting: str
    value: Value
    alone: Estimate | None = None
    """Rate of the default with this change alone, over the default's; None where not possible or not measured."""

    within: Estimate | None = None
    """Rate of the choice, over the choice with this change taken away; None where not possible or not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What the numerics guard saw of runs on the same first batches, from the same start."""

    settings: Settings
    candidate: tuple[float, ...]
    """Losses by step, up to the first problem."""

    references: tuple[tuple[float, ...], ...]
    """Losses of default runs: the same order first, then other seeds and orders; empty where the first step decided."""

    problem: str | None = None
    """Why the candidate is disqualified; None where it passed."""

    shares: tuple[tuple[str, float], ...] = ()
    """By check, in order: part of what is allowed that the candidate took; above 1 it is disqualified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestBatch:
    """Advice on the batch size; the choice is the user's."""

    batch_size: int
    """Largest that was tried and fits."""

    images_per_s: float
    """Rate of training on resident batches of that size."""

    reference_per_s: float
    """The same at the user's batch size."""

    limit: str
    """What stopped the search for a larger one."""

    estimate: int | None = None
    """Largest that memory should hold, where that was estimated and not tried."""

    def of_all(self, ranks: int) -> LargestBatch:
        """Return the same for all ranks together, measured on one of them with its part of the batch."""
        return replace(
            self,
            batch_size=ranks * self.batch_size,
            images_per_s=ranks * self.images_per_s,
            reference_per_s=ranks * self.reference_per_s,
            estimate=None if self.estimate is None else ranks * self.estimate,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCost:
    """Images/s under an augmentation policy at one placement, at the number of workers that is best for it."""

    policy: str
    placement: str
    rate: float
    low: float
    """Lower end of the rate's 95% interval beside training without augmentation, whose own rate counts as exact."""

    high: float
    """Upper end of the same."""

    measured: bool
    """Whether it was trained with; otherwise the rate is predicted from what loading and training each cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """All measurements of a probe and the machine's facts."""

    machine: Machine
    job: Job
    default: Settings
    cores: int
    """CPUs that this process may use."""

    measurements: tuple[Measurement, ...] = ()
    failures: tuple[Failed, ...] = ()
    left_out: tuple[tuple[str, Value, str], ...] = ()
    """Knob, value and reason of what could not be offered here."""

    chosen: Settings | None = None
    duels: tuple[DuelRecord, ...] = ()
    guards: tuple[Guard, ...] = ()
    attributions: tuple[Attribution, ...] = ()
    """What each change of the choice is worth."""

    policies: tuple[PolicyCost, ...] = ()
    """What each policy costs at each placement, weakest first, where the strength was left open."""

    largest_batch: LargestBatch | None = None
    cold_bytes_per_s: float | None = None
    """Rate of the first reading of the files, before the page cache was warm."""

    profile: StageProfile | None = None
    """Where the default's loading spends its time; None where it was not profiled."""

    exchange: Exchange | None = None
    """What several ranks spend on each other's gradients; None for one process alone."""

    seconds: float = 0.0
    """Length of the probe."""

    interrupted: bool = False
    too_short: bool = False
    """Whether there was no search, as it would have cost more than it could have won of the training that follows."""

    notes: tuple[str, ...] = field(default=())
    """What people should know besides."""

    def find(self, kind: Kind, settings: Settings) -> Measurement | None:
        """Return the last measurement that speaks for these settings, memoised by what its kind depends on."""
        side = {Kind.COMPUTE: Side.COMPUTE, Kind.INPUT: Side.INPUT}.get(kind)
        for entry in reversed(self.measurements):
            if entry.kind is not kind:
                continue
            if entry.settings == settings or (side and key(entry.settings, side) == key(settings, side)):
                return entry
        return None

    def of(self, kind: Kind) -> tuple[Measurement, ...]:
        """Return all measurements of a kind, oldest first."""
        return tuple(entry for entry in self.measurements if entry.kind is kind)

    @property
    def final_duel(self) -> DuelRecord | None:
        """The duel of the choice against the default."""
        return self.duels[-1] if self.duels else None

    @property
    def final_ratio(self) -> Estimate | None:
        """Rate of the choice over the default's, from the final duel."""
        comparison = self.final_duel.comparison if self.final_duel else None
        return comparison.ratio if comparison else None

    def to_json(self) -> str:
        """Return the whole session as JSON."""
        values = {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}
        values["machine"] = self.machine.as_dict()
        values["measurements"] = [entry.as_dict() for entry in self.measurements]
        return json.dumps({"schema": SCHEMA, **values}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Session:
        """Build a session from what ``to_json`` gave.

        Raises:
            PlanError: it is not a session, or one of another schema.
        """
        try:
            values = json.loads(text)
            schema = values.pop("schema")
            if schema != SCHEMA:
                raise PlanError(f"session of schema {schema}, this autotrain understands {SCHEMA}: probe again")
            return cls(**_revive(values))
        except (ValueError, KeyError, TypeError, AttributeError, SettingsError) as problem:
            raise PlanError(f"not a session ({problem}): give the JSON file that a probe wrote") from problem

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the session to ``path`` as JSON; a file that is there is replaced at once or, after a failure, kept.

        Raises:
            PlanError: the place cannot be written.
        """
        files.write_text(path, f"{self.to_json()}\n", SESSION_FILE)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Session:
        """Return the session in the file at ``path``.

        Raises:
            PlanError: there is no such file, or it holds no session of this version.
        """
        try:
            return cls.from_json(files.read_text(path, SESSION_FILE))
        except PlanError as problem:
            name = files.printable(os.fspath(path))
            raise problem if str(problem).startswith(name) else PlanError(f"{name}: {problem}") from problem


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, Measurement | Machine):
        return asdict(value)
    return value if not isinstance(value, Measurement | Machine) else None


def _revive(values: Mapping[str, Any]) -> dict[str, Any]:
    def settings(entry: Any) -> Settings | None:
        return None if entry is None else Settings.from_dict(entry)

    def tuples(entry: Any) -> Any:
        return tuple(tuples(part) for part in entry) if isinstance(entry, list) else entry

    revived = {name: tuples(value) for name, value in values.items()}
    duels = [
        {**entry, "baseline": settings(entry["baseline"]), "candidate": settings(entry["candidate"])}
        for entry in values["duels"]
    ]
    attributions: list[dict[str, Any]] = [
        {name: Estimate(**value) if isinstance(value, dict) else value for name, value in entry.items()}
        for entry in values.get("attributions", ())
    ]
    batch, stages = values["largest_batch"], values.get("profile")
    return revived | {
        "machine": Machine.from_dict(values["machine"]),
        "job": Job(**{name: tuples(value) for name, value in values["job"].items()}),
        "default": settings(values["default"]),
        "chosen": settings(values["chosen"]),
        "measurements": tuple(Measurement.from_dict(entry) for entry in values["measurements"]),
        "failures": tuple(Failed(**{**entry, "settings": settings(entry["settings"])}) for entry in values["failures"]),
        "duels": tuple(DuelRecord(**{name: tuples(value) for name, value in entry.items()}) for entry in duels),
        "guards": tuple(
            Guard(
                **{
                    **{name: tuples(value) for name, value in entry.items()},
                    "settings": settings(entry["settings"]),
                    "candidate": numbers(entry["candidate"]),
                    "references": tuple(numbers(losses) for losses in entry["references"]),
                    "shares": tuple((name, *numbers([share])) for name, share in entry.get("shares", ())),
                }
            )
            for entry in values["guards"]
        ),
        "profile": None if stages is None else StageProfile.from_dict(stages),
        "exchange": None if values.get("exchange") is None else Exchange.from_dict(values["exchange"]),
        "attributions": tuple(Attribution(**entry) for entry in attributions),
        "policies": tuple(_policy_cost(entry) for entry in values.get("policies", ())),
        "largest_batch": None if batch is None else LargestBatch(**batch),
    }


def _policy_cost(entry: Any) -> PolicyCost:
    """Build a policy's cost; sessions of the first version hold policy, placement and a measured rate."""
    if isinstance(entry, Mapping):
        return PolicyCost(**entry)
    policy, placement, rate = entry
    return PolicyCost(policy=policy, placement=placement, rate=rate, low=rate, high=rate, measured=True)
