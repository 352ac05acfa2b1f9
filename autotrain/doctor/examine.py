"""The examination: every check once, none of which can end it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autotrain.doctor.check import Check, Fine, NotDone, Problem, Severity
from autotrain.doctor.facts import Facts
from autotrain.errors import AutotrainError, first_line, unknown

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What all checks gave, each by the name of its check."""

    problems: tuple[tuple[str, Problem], ...]
    """The gravest first."""

    passed: tuple[tuple[str, str], ...]
    """Check and fact."""

    left_out: tuple[tuple[str, str], ...]
    """Check and reason: it cannot be done here, or was not wanted."""

    failed: tuple[tuple[str, str], ...]
    """Check and error: it should have worked."""

    def of(self, *severities: Severity) -> list[Problem]:
        """Return the problems of these severities."""
        return [problem for _, problem in self.problems if problem.severity in severities]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that slows training or may crash it."""
        return not self.of(Severity.CRASH, Severity.SLOW)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "healthy": self.healthy,
            "problems": [
                {"check": name, **asdict(problem), "severity": problem.severity.name.lower()}
                for name, problem in self.problems
            ],
            "passed": [{"check": name, "fact": fact} for name, fact in self.passed],
            "left_out": [{"check": name, "reason": reason} for name, reason in self.left_out],
            "failed": [{"check": name, "error": error} for name, error in self.failed],
        }


def examine(
    facts: Facts,
    checks: Sequence[Check],
    *,
    skip: Sequence[str] = (),
    observer: Callable[[str], object] | None = None,
) -> Examination:
    """Do all checks.

    Args:
        facts: where they look.
        checks: in the order in which they are done.
        skip: names of those to leave out.
        observer: is told the name of each check before it begins.

    Raises:
        AutotrainError: there is no check of a name in ``skip``, or the folder of ``facts`` cannot be looked at.
    """
    names = [check.name for check in checks]
    for name in skip:
        if name not in names:
            raise AutotrainError(f"--skip {name}: {unknown('check', name, names)}")
    problems: list[tuple[str, Problem]] = []
    passed: list[tuple[str, str]] = []
    left_out: list[tuple[str, str]] = []
    failed: list[tuple[str, str]] = []
    for check in checks:
        if check.name in skip:
            left_out.append((check.name, "not wanted (--skip)"))
            continue
        if observer is not None:
            observer(check.name)
        try:
            outcome = check.look(facts)
        except NotDone as reason:
            left_out.append((check.name, str(reason)))
        except AutotrainError:  # what the user gave does not work
            raise
        except Exception as error:
            log.debug("check %s failed", check.name, exc_info=True)
            failed.append((check.name, f"{type(error).__name__}: {first_line(error)}"))
        else:
            if isinstance(outcome, Fine):
                passed.append((check.name, outcome.fact))
            else:
                found = (outcome,) if isinstance(outcome, Problem) else outcome
                problems += [(check.name, problem) for problem in found]
    problems.sort(key=lambda entry: list(Severity).index(entry[1].severity))
    return Examination(problems=tuple(problems), passed=tuple(passed), left_out=tuple(left_out), failed=tuple(failed))
