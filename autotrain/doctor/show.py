"""The examination as people read it: facts first, problems last, where a terminal ends up."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from autotrain.doctor.check import Problem, Severity
from autotrain.doctor.examine import Examination
from autotrain.report.lines import Line, heading, show
from autotrain.report.words import many

STYLES = {Severity.CRASH: "bold red", Severity.SLOW: "bold yellow", Severity.NOTE: "bold"}
"""The words say it too."""

LABEL = 17
"""Columns of a check's name."""


def show_examination(found: Examination, console: Console) -> None:
    """Print everything that was found."""
    if found.passed:
        show(console, [*heading(f"As it should be: {many(len(found.passed), 'check')}")])
        show(console, [_row(name, fact) for name, fact in found.passed])
    if found.left_out:
        show(console, heading("Left out"))
        show(console, [_left_out(reason, names) for reason, names in _by_reason(found)])
    if found.failed:
        show(console, heading("Checks that failed themselves"))
        show(console, [_row(name, error, style="yellow") for name, error in found.failed])
    for number, (name, problem) in enumerate(found.problems, 1):
        _show_problem(number, name, problem, console)
    show(console, [Line(), Line(text=summary(found), style="green" if found.healthy else "bold")])


def summary(found: Examination) -> str:
    """Return one sentence."""
    counts = {severity: len(found.of(severity)) for severity in Severity}
    parts = [f"{count} {_TALLY[severity]}" for severity, count in counts.items() if count]
    rest = f"{many(len(found.passed), 'check')} passed"
    rest += f", {len(found.left_out)} left out" if found.left_out else ""
    rest += f", {len(found.failed)} failed" if found.failed else ""
    if found.healthy and not parts:
        return f"All well: {rest}"
    return f"{'All well but for this' if found.healthy else 'Found'}: {', '.join(parts)}; {rest}"


_TALLY = {
    Severity.CRASH: "that may crash training",
    Severity.SLOW: "slowing it down",
    Severity.NOTE: "worth knowing",
}


def _show_problem(number: int, name: str, problem: Problem, console: Console) -> None:
    title = f"{number}. {problem.severity.value}: {problem.what}"
    lines = [Line(), Line(text=f"{title}  [{name}]", style=STYLES[problem.severity])]
    lines += [_row("found", problem.evidence), _row("costs", problem.cost), _row("mend", problem.remedy)]
    show(console, lines)
    for label, text in (("", problem.command), ("source", problem.source)):
        if text:  # as it is: a line to type, or an address, must not be broken
            console.print(Text(f"  {label:<{LABEL}} {text}"), soft_wrap=True, highlight=False)


def _row(label: str, text: str, *, style: str = "") -> Line:
    return Line(lead=f"  {label:<{LABEL}} ", text=text, style=style)


def _by_reason(found: Examination) -> list[tuple[str, list[str]]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in found.left_out:
        reasons.setdefault(reason, []).append(name)
    return list(reasons.items())


def _left_out(reason: str, names: list[str]) -> Line:
    if len(names) == 1:
        return _row(names[0], reason)
    groups = {name.partition("-")[0] for name in names}
    if len(groups) == 1:
        return _row(f"{groups.pop()}-*", f"{reason} ({len(names)} checks)")
    return _row(", ".join(names), reason)
