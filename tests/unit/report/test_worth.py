from autotrain.plan.evidence import Worth
from autotrain.report.worth import sentences
from autotrain.stats.summary import Estimate


def ratio(value: float, spread: float = 0.03) -> Estimate:
    return Estimate(value=value, low=value - spread, high=value + spread, n=12)


def worth(setting, value, alone=None, within=None, instead_of="none") -> Worth:
    return Worth(setting=setting, value=value, instead_of=instead_of, alone=alone, within=within)


BF16 = worth("precision", "bf16", ratio(1.4), ratio(1.42))


def test_what_pays_only_together_names_its_partner():
    layout = worth("memory_format", "channels_last", ratio(0.9), ratio(1.2))
    assert list(sentences([BF16, layout])) == [
        "channels-last pays only together with bf16; alone it costs.",
    ]
    idle = worth("memory_format", "channels_last", ratio(1.0), ratio(1.2))
    assert list(sentences([BF16, idle])) == [
        "channels-last pays only together with bf16; alone it gives nothing measurable.",
    ]


def test_of_several_partners_none_is_named():
    layout = worth("memory_format", "channels_last", ratio(0.9), ratio(1.2))
    workers = worth("workers", 2, ratio(1.3), ratio(1.3))
    (words,) = sentences([BF16, layout, workers])
    assert words.startswith("channels-last pays only together with the other settings")


def test_intervals_that_overlap_tell_no_interaction():
    assert list(sentences([BF16, worth("workers", 2, ratio(1.30), ratio(1.34))])) == []


def test_more_and_less_than_alone():
    assert list(sentences([BF16, worth("workers", 2, ratio(1.1), ratio(1.3))])) == [
        "workers = 2 pays more together with bf16 than alone."
    ]
    assert list(sentences([BF16, worth("workers", 2, ratio(1.3), ratio(1.1))])) == [
        "workers = 2 pays less together with bf16 than alone: they remove in part the same wait."
    ]


def test_what_is_worth_nothing_is_said_to_be():
    entries = [BF16, worth("prefetch", 4, None, ratio(1.01)), worth("cudnn_benchmark", True, ratio(1.0), ratio(0.99))]
    assert list(sentences(entries)) == [
        "Worth nothing measurable within the choice: prefetch = 4, cudnn_benchmark = true."
    ]


def test_what_costs_within_the_choice_is_said_to():
    (words,) = sentences([BF16, worth("workers", 2, ratio(1.2), ratio(0.9))])
    assert words == "workers = 2 costs within the choice (0.90x (0.87-0.93)): it would be faster without."


def test_what_another_setting_gives_as_well_adds_nothing():
    words = list(sentences([BF16, worth("cache", "ram", ratio(1.3), ratio(1.0))]))
    assert words[0] == "cache = ram pays alone, but bf16 gives the same: together it adds nothing measurable."
