"""The story of a probe: what each event is to a reader, as functions from event to lines."""

from __future__ import annotations

from collections.abc import Callable

from autotrain.diagnose.finding import Finding
from autotrain.measure.heat import DISTURBED
from autotrain.measure.measurement import Measurement
from autotrain.measure.session import Job
from autotrain.report.lines import Line, heading, item, labelled
from autotrain.report.words import bar, digits, many, plain, rate_words, ratio_words, time_words
from autotrain.search.events import Measured, Started
from autotrain.stats.compare import FEWEST_PAIRS, compare

RATE_COLUMNS = 39
"""Width of the column of rates; wider rates push what follows aside."""

LEAST_SHOWN = 0.005
"""Share of a step's time from which on copying is worth a line."""

UNSETTLED = 1.25
"""A rate whose interval is wider than this factor is called noisy."""

STAGES = {
    "ceilings": "Ceilings: training alone and loading alone",
    "search": "Search: the most promising candidates first",
    "heat": "Heat: the best so far and its challengers, in short turns side by side",
    "what each setting is worth": "What each setting is worth: the best without it",
    "compiler": "Compiler: is the compiled model faster?",
    "attribution": "What each setting is worth: alone, and within the choice",
    "augmentation strength": "Augmentation strength: the strongest policy that costs little",
    "play-off": "Play-off: the best candidates, interleaved",
    "numerics guard": "Numerics guard: does the finalist learn as well as the default?",
    "duel": "Duel: finalist against default, interleaved and paired",
    "both plans": "Both plans, one after the other",
    "duel of plans": "Duel: B against A, interleaved and paired",
    "largest batch": "Largest batch that fits, as advice",
}
"""What the stages are to a reader; any other stage is told by its own title."""

COUNTED: dict[str, Callable[[int], str]] = {
    "heat": lambda steps: many(steps, "contender"),
    "play-off": lambda steps: f"up to {many(steps, 'round')}",
    "numerics guard": lambda steps: many(steps, "step"),
    "duel": lambda steps: f"up to {many(steps, 'pair')}",
    "duel of plans": lambda steps: f"up to {many(steps, 'pair')}",
}
"""What the steps of a stage are, where they are not measurements that may be left out."""


def started(event: Started) -> list[Line]:
    """Tell machine, task and what is ahead."""
    budget = f"{time_words(event.budget_s)}; Ctrl-C ends the search early and proves the best so far"
    return [
        labelled("machine", event.machine),
        labelled(
            "model", f"{event.job.model}, {many(event.job.parameters, 'parameter')}, on {device_words(event.job)}"
        ),
        labelled("data", data_words(event.job)),
        labelled("candidates", f"{event.candidates:,} legal combinations of settings"),
        labelled("budget", budget),
    ]


def data_words(job: Job) -> str:
    """Return ``1,002 image files of photos/train at 96 px, in batches of 32``."""
    size = f" at {job.image_size} px" if job.image_size else ""
    return f"{job.samples:,} {job.samples_kind} of {job.dataset}{size}, in batches of {job.batch_size:,}"


def device_words(job: Job) -> str:
    """Return ``cpu`` or ``cuda (NVIDIA H100)``; the CPU is named as part of the machine already."""
    return job.device if job.device == "cpu" else f"{job.device} ({job.device_name})"


def stage(title: str, steps: int | None, elapsed_s: float) -> list[Line]:
    """Tell that a part begins, how many measurements it takes and how long the probe has run."""
    words = STAGES.get(title, title[:1].upper() + title[1:])
    facts = [f"{elapsed_s:.0f} s"] if elapsed_s >= 0.5 else []
    if steps is not None:
        facts.insert(0, COUNTED[title](steps) if title in COUNTED else f"up to {many(steps, 'measurement')}")
    return list(heading(f"{words} ({', '.join(facts)})" if facts else words))


def measured(event: Measured) -> Line:
    """Tell a rate, whose it is, what was predicted, and what makes it doubtful."""
    measurement, words = event.measurement, event.what
    if event.predicted is not None:
        words += f" (predicted {plain(event.predicted)})"
    if measurement.stopped_early:
        words += "; behind, so stopped early"
    elif measurement.heat is None and (measurement.other_cpu_share or 0.0) > DISTURBED:
        words += f"; other programs used {measurement.other_cpu_share:.0%} of the CPU"
    elif measurement.rate.high > UNSETTLED * measurement.rate.low:
        words += "; noisy"
    return rate_line(measurement, words, style="dim" if measurement.stopped_early else "")


def heat_disturbed(measurement: Measurement) -> Line:
    """Tell that rounds of a heat were run again, of which any of its measurements knows."""
    rounds = many(measurement.repeats, "round")
    share = measurement.other_cpu_share
    after = f" (in those that count they used {share:.0%} of the CPU)" if share is not None else ""
    return item(f"other programs disturbed {rounds}: run again{after}", style="dim")


def rate_line(measurement: Measurement, words: str, *, style: str = "") -> Line:
    """Return a row with the rate at the left, digits aligned."""
    rate = measurement.rate
    number = f"{rate.value:{digits(rate.value)}}"
    aligned = " " * (7 - len(number)) + rate_words(rate)
    return Line(lead=f"{aligned:<{RATE_COLUMNS}}  ", text=words, style=style)


def time_split(measurement: Measurement) -> list[Line]:
    """Draw where a step's time goes under the default."""
    loading = measurement.wait_share
    name = "loading" if measurement.settings.workers == 0 else "waiting"
    lines = [
        labelled(name, f"{bar(loading)} {loading:4.0%} of each step's time"),
        labelled("training", f"{bar(1 - loading)} {1 - loading:4.0%}"),
    ]
    transfer = measurement.transfer_share
    if transfer is not None and transfer >= LEAST_SHOWN:
        lines.append(labelled("copying", f"{bar(transfer)} {transfer:4.0%}, beside the above"))
    return lines


def diagnosed(finding: Finding) -> list[Line]:
    """Tell the bottleneck, its evidence and the remedy with what it is predicted to give."""
    lines = [labelled("bottleneck", finding.bottleneck.value, style="bold")]
    lines += [Line(lead=" " * 15 + "- ", text=sentence) for sentence in finding.evidence]
    if finding.remedy_words:
        gain = finding.predicted_gain
        promise = f": predicted {gain:.2f}x" if finding.remedy is not None and gain is not None else ""
        lines.append(labelled("remedy", f"{finding.remedy_words}{promise}"))
    return lines


def pruned(count: int, last: str) -> Line:
    """Tell how many candidates were not worth a measurement, with one of them as an example."""
    return item(f"{many(count, 'candidate')} not measured, because not worth it; the last: {last}", style="dim")


def failed(words: str, reason: str) -> Line:
    """Tell a candidate that failed."""
    return item(f"failed: {words}: {reason}", style="yellow")


def running_ratio(baseline: list[float], candidate: list[float]) -> str:
    """Return the duel's ratio so far; with few pairs it is said that this is little."""
    if len(baseline) < FEWEST_PAIRS:
        return "too few pairs for a ratio"
    return ratio_words(compare(baseline, candidate).ratio)


def pair_line(pair: int, ratio: str) -> Line:
    """Tell how a duel stands; it may end before it has had all the pairs that it may have."""
    return Line(lead="  ", text=f"after {many(pair, 'pair')}: {ratio}")
