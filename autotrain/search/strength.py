"""Augmentation strength where the user leaves it open: the strongest policy that costs little."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from autotrain.augment.policy import POLICIES, policy
from autotrain.diagnose.demand import predict
from autotrain.hardware.machine import Machine
from autotrain.knobs.registry import canonical, illegal, knob
from autotrain.measure.burst import BurstOptions
from autotrain.measure.heat import HeatOptions
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import PolicyCost, Session
from autotrain.search.narrow import measure_contents
from autotrain.search.recorder import Recorder
from autotrain.settings import Settings
from autotrain.stats.compare import FEWEST_PAIRS, compare
from autotrain.stats.summary import Estimate
from autotrain.workload import Workload

LANES = 4
"""Rigs that are live at once, training without augmentation among them; each holds a model on the device."""

ERROR = 1.15
"""Factor by which a predicted share may be too low; what is too dear even so is not trained with."""

EQUAL = 0.02
"""Predictions this close are equal: fewer workers are preferred then, and both placements of a policy are tried."""

REFERENCE = BurstOptions(windows=6, limit_s=2.0, warmup_s=1.5)
CEILINGS = HeatOptions(rounds=3, warmup_s=0.3, behind=None)
ROUNDS, MORE_ROUNDS = 8, 24
"""Rounds of a first heat, and of one that is to settle what the first left in doubt."""

COMPONENTS_SHARE = 0.4
"""Part of the time that goes into what loading and training each cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A policy at a placement, with the workers that suit it best by prediction."""

    policy: str
    placement: str
    settings: Settings
    predicted: float | None
    """Images/s; None where a component could not be measured."""

    @property
    def strength(self) -> int:
        """Rank of the policy; 0 is the weakest."""
        return policy(self.policy).strength


def choose_policy(
    recorder: Recorder, machine: Machine, settings: Settings, *, allowance: float, limit_s: float = 60.0
) -> Settings:
    """Return the chosen settings with the strongest policy that is cheap, at its best placement.

    Cheap means at most ``allowance`` of the images/s that training without augmentation reaches. What loading and
    training each cost under every policy is measured first; from that the rates are predicted, and those policies that
    can decide are trained with, side by side with training without augmentation. The choice rests on these alone.

    Args:
        recorder: measures.
        machine: on which.
        settings: the best so far, under some policy.
        allowance: share of the images/s, 0 to 1.
        limit_s: seconds after which no further comparison begins, but for the first.
    """
    until = recorder.clock.now() + limit_s
    _measure_components(recorder, machine, settings, until - (1 - COMPONENTS_SHARE) * limit_s)
    offers = _offers(recorder, machine, settings)
    contest = Contest(recorder, offers, allowance=allowance, until=until)
    if not contest.begin():
        return settings
    contest.run()
    recorder.note(policies=tuple(contest.costs()), notes=(*recorder.session.notes, contest.words()))
    return contest.chosen.settings


class Contest:
    """Policies against training without augmentation: who costs how much, and who is the strongest cheap one.

    Args:
        recorder: measures.
        offers: every policy at every placement, weakest first.
        allowance: share of the images/s that a policy may cost.
        until: moment after which no comparison begins, but for the first.
    """

    def __init__(self, recorder: Recorder, offers: Sequence[Offer], *, allowance: float, until: float) -> None:
        self._recorder = recorder
        self._offers = list(offers)
        self._least = max(0.01, 1.0 - allowance)
        self._until = until
        self._pairs: dict[Offer, list[tuple[float, float]]] = {}
        self._failed: set[Offer] = set()
        self._settling: set[Offer] = set()

    def begin(self) -> bool:
        """Train without augmentation or, where that fails, with the policy that is predicted to be the fastest."""
        ranked = sorted(self._offers, key=lambda entry: (entry.policy != "none", -(entry.predicted or 0.0)))
        for entry in ranked:
            measured = self._recorder.full(entry.settings, options=REFERENCE)
            if measured is not None:
                self.reference, self._free = entry, measured.rate.value
                return True
            self._failed.add(entry)
        return False

    def run(self) -> None:
        """Compare until the strongest cheap policy is known, or the time is over; once in any case."""
        while not self._pairs or self._recorder.clock.now() < self._until:
            wanted = self._deciding()
            rounds = ROUNDS
            if not wanted:
                wanted, rounds = self._doubtful(), MORE_ROUNDS
                self._settling.update(wanted)
            if not wanted:
                return
            self._compare(wanted, rounds)

    @property
    def chosen(self) -> Offer:
        """The strongest policy whose measured cost is allowed, where it is cheapest."""
        cheap = [entry for entry, share in self._measured().items() if share.value >= self._least]
        return max(cheap, key=lambda entry: (entry.strength, self.share(entry)), default=self.reference)

    def share(self, entry: Offer) -> float:
        """Return an offer's images/s over those without augmentation, as measured or else as predicted."""
        measured = self._measured().get(entry)
        if measured is not None:
            return measured.value
        if entry == self.reference or not (entry.predicted and self.reference.predicted):
            return 1.0
        return entry.predicted / self.reference.predicted

    def costs(self) -> Iterator[PolicyCost]:
        """Yield what is known of every offer that did not fail, weakest first."""
        measured = self._measured()
        for entry in self._offers:
            known = measured.get(entry)
            if entry == self.reference:
                known = Estimate(value=1.0, low=1.0, high=1.0, n=1)
            if entry in self._failed or (known is None and entry.predicted is None):
                continue
            share = self.share(entry)
            yield PolicyCost(
                policy=entry.policy,
                placement=entry.placement,
                rate=self._free * share,
                low=self._free * (known.low if known else share),
                high=self._free * (known.high if known else share),
                measured=known is not None,
            )

    def words(self) -> str:
        """Return what was chosen and how sure that is, for people."""
        chosen, allowed = self.chosen, f"{1 - self._least:.0%}"
        share = self._measured().get(chosen)
        if share is None:
            return f"augmentation: {chosen.policy}; no stronger policy was measured to cost at most {allowed}"
        name, cost = _name(chosen.policy, chosen.placement), cost_words(share.value, share.low, share.high)
        words = f"augmentation: {name} is the strongest policy measured to cost at most {allowed} of the images/s"
        if share.low < self._least:
            return f"{words}, but not beyond doubt: {cost}"
        return f"{words}: {cost}"

    def _deciding(self) -> list[Offer]:
        """Return what to compare next: around the allowance, of the policies stronger than the best so far."""
        done = {*self._pairs, *self._failed, self.reference}
        floor = self.chosen.strength if self._pairs else self.reference.strength
        pending = [
            entry
            for entry in self._offers
            if entry not in done and entry.strength > floor and self.share(entry) * ERROR >= self._least
        ]
        best = {
            name: max(self.share(entry) for entry in pending if entry.policy == name)
            for name in {entry.policy for entry in pending}
        }
        pending = [entry for entry in pending if self.share(entry) >= best[entry.policy] * (1 - EQUAL)]
        within = sorted((entry for entry in pending if self.share(entry) >= self._least), key=lambda it: -it.strength)
        beyond = sorted((entry for entry in pending if self.share(entry) < self._least), key=lambda it: it.strength)
        # The strongest that should be cheap, its stronger neighbour, then its weaker ones.
        return [*within[:1], *beyond[:1], *within[1:], *beyond[1:]][: LANES - 1]

    def _doubtful(self) -> list[Offer]:
        """Return the strongest offers that the first heat left on both sides of the allowance."""
        shares = self._measured()
        found = [
            entry
            for entry, share in shares.items()
            if share.low < self._least <= share.high
            and entry.strength >= self.chosen.strength
            and entry not in self._settling
        ]
        return sorted(found, key=lambda entry: -entry.strength)[: LANES - 1]

    def _compare(self, wanted: Sequence[Offer], rounds: int) -> None:
        """Train with several offers side by side with the reference; the rates of a round belong together."""
        left_s = max(1.0, self._until - self._recorder.clock.now())
        # Whoever is beyond the allowance for certain need not stay to the end.
        options = HeatOptions(rounds=rounds, behind=1 / self._least - 1, hopeless=math.inf, limit_s=left_s)
        contenders = [self.reference.settings, *(entry.settings for entry in wanted)]
        found = {entry.settings: entry for entry in self._recorder.heat(contenders, options=options)}
        base = found.get(self.reference.settings)
        for entry in wanted:
            measured = found.get(entry.settings)
            if base is None or measured is None:
                self._failed.add(entry)
                continue
            self._pairs.setdefault(entry, []).extend(zip(_rates(base), _rates(measured), strict=False))

    def _measured(self) -> dict[Offer, Estimate]:
        return {entry: _share(pairs) for entry, pairs in self._pairs.items() if pairs}


def policy_words(policies: Sequence[PolicyCost]) -> list[str]:
    """Return what each policy costs, as sentences; those that are only predicted share one."""
    free = reference_rate(policies)
    sentences, predicted = [], []
    for entry in policies:
        if entry.measured and entry.rate == entry.low == entry.high == free:
            continue
        name = _name(entry.policy, entry.placement)
        if entry.measured:
            sentences.append(f"{name} {cost_words(entry.rate / free, entry.low / free, entry.high / free)}")
        else:
            predicted.append(f"{name} {max(0.0, 1 - entry.rate / free):.0%}")
    if predicted:
        sentences.append(f"not trained with, only predicted to cost: {', '.join(predicted)}")
    return sentences


def reference_rate(policies: Sequence[PolicyCost]) -> float:
    """Return the images/s without augmentation or, where that failed, under the fastest policy measured."""
    free = max((entry.rate for entry in policies if entry.policy == "none" and entry.measured), default=0.0)
    return free or max((entry.rate for entry in policies if entry.measured), default=1.0)


def cost_words(share: float, low: float, high: float) -> str:
    """Return ``costs 3.1% (1.2% to 5.0%)``, or that it is free where the interval holds no cost worth a word."""
    cost, least, most = 1 - share, 1 - high, 1 - low
    interval = f"{least:.1%} to {most:.1%}"
    if low == high:  # of an earlier version, without an interval
        return f"costs {cost:.1%}"
    if least <= 0 <= most:
        return f"is free here ({interval})" if most < 2 * EQUAL else f"costs nothing measurable ({interval})"
    return f"costs {cost:.1%} ({interval})" if cost > 0 else f"costs nothing ({interval})"


def _name(name: str, placement: str) -> str:
    return f"{name} {'on the device' if placement == 'device' else 'in workers'}"


def _variants(workload: Workload, machine: Machine, settings: Settings) -> Iterator[tuple[str, str, Settings]]:
    """Yield every policy at every placement that is its own and legal."""
    for entry in POLICIES:
        for placement in ("worker", "device"):
            variant = canonical(replace(settings, augmentation=entry.name, placement=placement), workload)
            if variant.placement == placement and illegal(variant, workload, machine) is None:
                yield entry.name, placement, variant


def _measure_components(recorder: Recorder, machine: Machine, settings: Settings, until: float) -> None:
    """Measure what loading costs under each policy in one process, and training where the device augments."""
    variants = [variant for _, _, variant in _variants(recorder.workload, machine, settings)]
    measure_contents(recorder, variants)
    recorder.compute(settings)
    # In workers no policy changes what the device does, so one of them speaks for all.
    wanted = [next((entry for entry in variants if entry.placement == "worker"), settings)]
    wanted += [entry for entry in variants if entry.placement == "device"]
    unknown = [entry for entry in wanted if recorder.session.find(Kind.COMPUTE, entry) is None]
    while unknown and recorder.clock.now() < until:
        recorder.heat([settings, *unknown[: LANES - 1]], options=CEILINGS, alone=True)
        unknown = unknown[LANES - 1 :]


def _offers(recorder: Recorder, machine: Machine, settings: Settings) -> list[Offer]:
    workload, session = recorder.workload, _with_workers_alike(recorder.session)
    offers = []
    for name, placement, variant in _variants(workload, machine, settings):
        wider = [variant]
        for count in knob("workers").choices(workload, machine).allowed:
            more = canonical(replace(variant, workers=int(count)), workload)
            known = settings.workers < int(count) <= session.cores and more.placement == placement
            if known and illegal(more, workload, machine) is None:
                wider.append(more)
        rates = [(predict(session, entry), entry) for entry in wider]
        best = max((rate or 0.0 for rate, _ in rates), default=0.0)
        rate, chosen = next((rate, entry) for rate, entry in rates if (rate or 0.0) >= best * (1 - EQUAL))
        offers.append(Offer(policy=name, placement=placement, settings=chosen, predicted=rate))
    return offers


def _with_workers_alike(session: Session) -> Session:
    """Return a session, for predicting with, in which one compute ceiling speaks for every policy in workers."""
    known = [entry for entry in session.of(Kind.COMPUTE) if entry.settings.placement == "worker"]
    lent: list[Measurement] = []
    for entry in known:
        others = (replace(entry.settings, augmentation=other.name) for other in POLICIES)
        lent += [replace(entry, settings=other) for other in others]
    return replace(session, measurements=(*lent, *session.measurements))


def _rates(measurement: Measurement) -> list[float]:
    return [entry.images / entry.wall_s for entry in measurement.windows]


def _share(pairs: Sequence[tuple[float, float]]) -> Estimate:
    if len(pairs) >= FEWEST_PAIRS:
        base, own = zip(*pairs, strict=True)
        return compare(base, own).ratio
    ratios = sorted(own / base for base, own in pairs)
    value = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    return Estimate(value=value, low=ratios[0], high=ratios[-1], n=len(ratios))
