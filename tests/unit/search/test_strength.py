"""The strongest policy that costs little is chosen, on measured rates, with few of them."""

from dataclasses import replace

import pytest

from autotrain.augment.policy import POLICIES
from autotrain.diagnose.demand import content
from autotrain.knobs.registry import canonical, illegal
from autotrain.measure.measurement import Kind, Window
from autotrain.measure.session import PolicyCost, Session
from autotrain.search import strength
from autotrain.search.events import silent
from autotrain.search.recorder import Recorder
from autotrain.search.strength import choose_policy, cost_words, policy_words, reference_rate
from autotrain.settings import Settings

BASE = Settings(augmentation="crop")
TRAIN = 400.0
"""Images/s of training alone where workers augment."""


class Clock:
    """Stands still but for what measuring takes."""

    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time


class Bench(Recorder):
    """A recorder whose measurements come from a table: loading and training seconds of each policy.

    Args:
        load: seconds that augmenting in a worker adds to an image, by policy.
        device: the same on the device.
        truth: images/s of full training, by policy and placement, where it is not as the components have it.
        noise: factors that a contender's rounds are multiplied with in turn.
    """

    def __init__(self, workload, session, *, load, device, truth=None, noise=(1.01, 0.99), broken=()):
        super().__init__(workload, session, silent, Clock())
        self.load, self.device, self.truth = load, device, truth or {}
        self.noise, self.broken = noise, broken
        self.trained = []

    def component(self, settings, kind):
        on_device = settings.placement == "device"
        extra = (self.device if on_device else self.load).get(settings.augmentation, 0.0)
        if kind is Kind.INPUT:
            return 1 / (0.001 + (0.0 if on_device else extra))
        return 1 / (1 / TRAIN + (extra if on_device else 0.0))

    def made(self, settings, kind, rate, *, noise=(1.0,), rounds=6, **changes):
        windows = tuple(
            Window(
                steps=1,
                images=100,
                wall_s=100 / (rate * noise[place % len(noise)]),
                wait_s=0.0,
                cpu_main_s=100 / rate if kind is not Kind.FULL else 0.1,
                cpu_workers_s=0.0,
            )
            for place in range(rounds)
        )
        made = strength.Measurement(
            kind=kind, settings=settings, windows=windows, startup_s=0.1, warmup_steps=1, stationary=True
        )
        self.note(measurements=(*self.session.measurements, replace(made, **changes)))
        return made

    def rate(self, settings):
        known = self.truth.get((settings.augmentation, settings.placement))
        return known or 1 / (1 / self.component(settings, Kind.INPUT) + 1 / self.component(settings, Kind.COMPUTE))

    def compute(self, settings, **options):
        known = self.session.find(Kind.COMPUTE, settings)
        return known or self.made(settings, Kind.COMPUTE, self.component(settings, Kind.COMPUTE))

    def full(self, settings, **options):
        if settings.augmentation in self.broken:
            self.failed(settings, "out of memory")
            return None
        self.trained.append(settings)
        self.clock.time += 3.0
        return self.made(settings, Kind.FULL, self.rate(settings))

    def heat(self, contenders, *, options, alone=False, **more):
        assert len(contenders) <= strength.LANES
        self.clock.time += 2.0 * len(contenders)
        found = []
        for place, settings in enumerate(contenders):
            if settings.augmentation in self.broken:
                self.failed(settings, "out of memory")
            elif alone:
                found.append(self.made(settings, Kind.COMPUTE, self.component(settings, Kind.COMPUTE)))
            else:
                self.trained.append(settings)
                noise = self.noise if place else (1.0,)
                found.append(self.made(settings, Kind.FULL, self.rate(settings), noise=noise, rounds=options.rounds))
        return found


@pytest.fixture
def make_bench(make_workload, make_session, machine, monkeypatch):
    """A function that makes a bench, with one core: workers cannot hide what loading costs."""
    workload = make_workload(augmentation="auto", image_size=16)
    workload = replace(workload, augmentation="crop")

    def contents(bench, members):
        for entry in {content(entry): entry for entry in members}.values():
            alone = replace(entry, workers=0)
            bench.made(alone, Kind.INPUT, bench.component(alone, Kind.INPUT))

    monkeypatch.setattr(strength, "measure_contents", contents)

    def make(**options):
        return Bench(workload, replace(make_session(default=BASE), cores=1), **options)

    return make


def both(policies, seconds):
    return dict(zip(policies, seconds, strict=True))


HEAVY = both(("trivial", "rand", "autoaugment", "augmix"), (0.0010, 0.0020, 0.0018, 0.0090))
LIGHT = both(("trivial", "rand", "autoaugment", "augmix"), (0.00005, 0.0008, 0.0007, 0.0030))


def chosen(bench, machine, **options):
    return choose_policy(bench, machine, BASE, **{"allowance": 0.05, **options})


def test_the_strongest_policy_within_the_allowance_is_chosen_where_it_is_cheapest(make_bench, machine):
    settings = chosen(make_bench(load=HEAVY, device=LIGHT), machine)
    assert (settings.augmentation, settings.placement) == ("trivial", "device")


def test_what_is_hopeless_by_prediction_is_not_trained_with(make_bench, machine):
    bench = make_bench(load=HEAVY, device=LIGHT)
    chosen(bench, machine)
    trained = {(entry.augmentation, entry.placement) for entry in bench.trained}
    assert ("none", "worker") in trained
    assert not {("augmix", "worker"), ("augmix", "device"), ("rand", "worker")} & trained
    assert len(trained) <= 4


def test_the_choice_rests_on_what_was_measured_not_on_the_prediction(make_bench, machine):
    """The components promise trivial on the device for 2%, training with it costs 20%."""
    settings = chosen(make_bench(load=HEAVY, device=LIGHT, truth={("trivial", "device"): 230.0}), machine)
    assert settings.augmentation == "crop"


def test_a_stronger_neighbour_that_is_cheaper_than_predicted_is_found(make_bench, machine):
    settings = chosen(
        make_bench(load=HEAVY, device=LIGHT | {"rand": 0.0003}, truth={("rand", "device"): 284.0}), machine
    )
    assert (settings.augmentation, settings.placement) == ("rand", "device")


def test_every_policy_is_listed_and_says_whether_it_was_measured(make_bench, machine):
    bench = make_bench(load=HEAVY, device=LIGHT)
    chosen(bench, machine)
    costs = bench.session.policies
    assert {entry.policy for entry in costs} == {entry.name for entry in POLICIES}
    assert [entry.policy for entry in costs] == sorted((entry.policy for entry in costs), key=_rank)
    measured = {(entry.policy, entry.placement) for entry in costs if entry.measured}
    assert measured == {(entry.augmentation, entry.placement) for entry in bench.trained}
    (augmix,) = [entry for entry in costs if (entry.policy, entry.placement) == ("augmix", "worker")]
    assert 1 - augmix.rate / reference_rate(costs) == pytest.approx(0.72, abs=0.05)


def _rank(name):
    return [entry.name for entry in POLICIES].index(name)


def test_a_doubtful_cost_is_said_to_be_doubtful(make_bench, machine):
    bench = make_bench(load=HEAVY, device=LIGHT, truth={("trivial", "device"): 273.5}, noise=(1.1, 0.9, 1.0))
    assert chosen(bench, machine).augmentation in ("trivial", "crop")
    if chosen(make_bench(load=HEAVY, device=LIGHT, noise=(1.2, 0.8, 1.0)), machine).augmentation != "none":
        assert any("not beyond doubt" in note for note in bench.session.notes)


def test_without_time_there_is_one_comparison_and_the_choice_is_among_its_contenders(make_bench, machine):
    bench = make_bench(load=HEAVY, device=LIGHT)
    settings = chosen(bench, machine, limit_s=0.0)
    measured = {entry.policy for entry in bench.session.policies if entry.measured}
    assert len(bench.trained) <= 1 + strength.LANES
    assert settings.augmentation in measured


def test_where_no_policy_is_cheap_there_is_none(make_bench, machine):
    dear = {(entry.name, place): 100.0 for entry in POLICIES[1:] for place in ("worker", "device")}
    bench = make_bench(load=HEAVY, device=LIGHT, truth=dear)
    assert chosen(bench, machine).augmentation == "none"
    assert "no stronger policy was measured to cost at most 5%" in bench.session.notes[-1]


def test_where_training_without_augmentation_fails_the_fastest_policy_takes_its_place(make_bench, machine):
    settings = chosen(make_bench(load=HEAVY, device=LIGHT, broken=("none",)), machine)
    assert (settings.augmentation, settings.placement) == ("trivial", "device")


def test_a_policy_that_fails_is_not_chosen(make_bench, machine):
    bench = make_bench(load=HEAVY, device=LIGHT, broken=("trivial",))
    assert chosen(bench, machine).augmentation == "crop"
    assert all(entry.policy != "trivial" or not entry.measured for entry in bench.session.policies)


def test_where_everything_fails_the_settings_stay(make_bench, machine):
    everything = tuple(entry.name for entry in POLICIES)
    bench = make_bench(load=HEAVY, device=LIGHT, broken=everything)
    assert chosen(bench, machine) == BASE


def test_what_is_chosen_is_legal_and_canonical(make_bench, machine):
    bench = make_bench(load=HEAVY, device=LIGHT)
    settings = chosen(bench, machine)
    assert canonical(settings, bench.workload) == settings
    assert illegal(settings, bench.workload, machine) is None


def test_a_session_of_the_first_version_is_revived(make_session):
    import json

    values = json.loads(make_session(default=BASE).to_json())
    values["policies"] = [["crop", "worker", 380.0]]
    (cost,) = Session.from_json(json.dumps(values)).policies
    assert cost == PolicyCost(policy="crop", placement="worker", rate=380.0, low=380.0, high=380.0, measured=True)
    assert policy_words((cost,)) == []


def test_policies_survive_a_file(make_session):
    cost = PolicyCost(policy="crop", placement="worker", rate=380.0, low=370.0, high=390.0, measured=True)
    session = make_session(default=BASE, policies=(cost,))
    assert Session.from_json(session.to_json()).policies == (cost,)


@pytest.mark.parametrize(
    ("share", "low", "high", "words"),
    [
        (0.97, 0.95, 0.99, "costs 3.0% (1.0% to 5.0%)"),
        (1.0, 0.98, 1.02, "is free here (-2.0% to 2.0%)"),
        (0.99, 0.90, 1.08, "costs nothing measurable (-8.0% to 10.0%)"),
        (1.03, 1.01, 1.05, "costs nothing (-5.0% to -1.0%)"),
    ],
)
def test_costs_are_words(share, low, high, words):
    assert cost_words(share, low, high) == words
