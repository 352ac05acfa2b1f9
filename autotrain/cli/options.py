"""Options that commands share, each written down once: as fields, from which typer's parameters are made."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from autotrain.errors import SettingsError, unknown
from autotrain.settings import Settings, Value

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""


class Allow(StrEnum):
    """What the search may change."""

    EXACT = "exact"
    NUMERICS = "numerics"


class Sampler(StrEnum):
    """Who suggests the candidates that are measured."""

    AUTO = "auto"
    TPE = "tpe"
    GP = "gp"
    LINEAR = "linear"
    RANDOM = "random"
    EXHAUSTIVE = "exhaustive"


class Compiling(StrEnum):
    """Whether the search tries torch.compile."""

    AUTO = "auto"
    OFF = "off"
    ON = "on"


def _opt(help_text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help_text, show_default=False, **more)


_TARGET = (
    "A Python file, or package.module:name, that gives a Task: an object, or a function without arguments. "
    "A file without a name is searched for 'task', then for its only Task."
)
_DATA = "Image folder (one folder per class; or train/ and val/ with such folders), or a torchvision data set's name."
_JITTER = "By how much brightness, contrast, saturation and hue vary, such as 0.4,0.4,0.4,0.1."
_SCHEDULE = "Learning rate: cosine (default), linear, constant, trapezoid, onecycle, or 'linear(5ep) > cosine'."
_SAMPLER = "What suggests candidates: auto (default), tpe, gp, linear, random, or exhaustive, all in turn."
_ISOLATE = "Measure every candidate in a process of its own, which may crash without harm; slower."
_COMPILE = "Try torch.compile: auto (default) where the training is long enough for it to pay, on, or off."
_STUDY = "File that keeps the Optuna study, to go on with it later: .db (SQLite) or .journal; or a database's URL."
_FIX = "A setting that stays as given, such as precision=fp32; may be repeated."


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What every command takes that works on a target; the help texts say what each is."""

    target: Annotated[str | None, typer.Argument(metavar="TARGET", help=_TARGET, show_default=False)] = None
    model: Annotated[str | None, _opt("In place of a TARGET: a model of torchvision, or of timm if installed.")] = None
    data: Annotated[str | None, _opt(_DATA)] = None
    root: Annotated[Path, _opt("Where torchvision's data sets lie (default: data).")] = Path("data")
    download: Annotated[bool, _opt("Download torchvision's data set if it is not there.", "--download")] = False
    validation: Annotated[Path | None, _opt("Image folder to validate on.")] = None
    image_size: Annotated[int | None, _opt("Side of the square images that the model sees, in pixels.", min=1)] = None
    batch_size: Annotated[int | None, _opt("Images per optimizer step.", min=1)] = None
    duration: Annotated[str | None, _opt("Length of the training, such as 5ep, 1000step or 30min.")] = None
    schedule: Annotated[str | None, _opt(_SCHEDULE)] = None
    stretch: Annotated[float | None, _opt("Train with 0.5 or 2 times the duration, milestones included.")] = None
    lr: Annotated[float | None, _opt("Learning rate of the AdamW that is used without an optimizer in TARGET.")] = None
    augment: Annotated[
        str | None, _opt("none, flip, crop, trivial, rand, autoaugment or augmix; auto: the strongest at 5% cost.")
    ] = None
    color_jitter: Annotated[str | None, _opt(_JITTER, metavar="B,C,S,H")] = None
    erasing: Annotated[float | None, _opt("Chance that a rectangle of a training image is erased.")] = None
    mixup: Annotated[float | None, _opt("Alpha of mixup: pairs of images are mixed; 0: not.")] = None
    cutmix: Annotated[float | None, _opt("Alpha of CutMix: rectangles of images are swapped in; 0: not.")] = None
    cache_dir: Annotated[Path | None, _opt("Folder in which decoded images may be kept from run to run.")] = None
    seed: Annotated[int | None, _opt("Determines image order, random draws and --model's weights.", min=0)] = None
    device: Annotated[str | None, _opt("cpu, cuda, cuda:1 or mps; the first CUDA device if there is one.")] = None
    budget: Annotated[str, _opt("How long the probe may take, such as 90s; auto: by the training's length.")] = "auto"
    allow: Annotated[Allow, _opt("exact: no change of rounding; numerics (default): behind a guard.")] = Allow.NUMERICS
    fix: Annotated[list[str], _opt(_FIX, metavar="KNOB=VALUE")] = field(default_factory=list)
    compile: Annotated[Compiling, _opt(_COMPILE)] = Compiling.AUTO
    sampler: Annotated[Sampler, _opt(_SAMPLER)] = Sampler.AUTO
    isolate: Annotated[bool, _opt(_ISOLATE, "--isolate")] = False
    study: Annotated[str | None, _opt(_STUDY)] = None
    quiet: Annotated[bool, _opt("Tell nothing but warnings and errors.", "--quiet", "-q")] = False
    debug: Annotated[bool, _opt("Show tracebacks, and every candidate.", "--debug")] = False

    def fixed(self) -> dict[str, Value]:
        """Return what ``--fix`` holds, typed as the settings are.

        Raises:
            SettingsError: an entry is not KNOB=VALUE, names no knob, or has a value of another type.
        """
        found: dict[str, Value] = {}
        for entry in self.fix:
            name, value = parse_fix(entry)
            if found.get(name, value) != value:
                raise SettingsError(f"--fix {entry}: '{name}' is fixed twice, to different values. Give it once")
            found[name] = value
        return found

    def again(self) -> str:
        """Return the part of the command line that names the target, for a command that follows."""
        words = [self.target] if self.target is not None else []
        for entry in fields(Options):
            value = getattr(self, entry.name)
            skipped = entry.name in (*OF_THE_SEARCH, "target", "quiet", "debug")
            if skipped or value == default_of(entry):
                continue
            words += [flag(entry.name)] if value is True else [flag(entry.name), str(value)]
        return shlex.join(words)


OF_THE_SEARCH = ("budget", "allow", "fix", "compile", "sampler", "isolate", "study")
"""Options that say how to search, not what to train."""

_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_fix(text: str) -> tuple[str, Value]:
    """Read ``KNOB=VALUE``.

    Raises:
        SettingsError: it is something else; the message says what.
    """
    name, equals, written = (part.strip() for part in text.partition("="))
    if not equals or not name or not written:
        raise SettingsError(f"--fix {text}: give KNOB=VALUE, such as precision=fp32 or workers=2")
    known = Settings().as_dict()
    if name not in known:
        raise SettingsError(f"--fix {text}: {unknown('knob', name, known)}")
    if isinstance(known[name], bool):
        if written.lower() not in _SWITCHES:
            raise SettingsError(f"--fix {text}: '{written}' is neither true nor false")
        return name, _SWITCHES[written.lower()]
    if isinstance(known[name], int):
        if not written.lstrip("-").isdecimal():
            raise SettingsError(f"--fix {text}: '{written}' is not a whole number")
        return name, int(written)
    return name, written


def flag(name: str) -> str:
    """Return how an option is written."""
    return "--" + name.replace("_", "-")


def default_of(entry: Field[Any]) -> Any:
    """Return an option's default; what must be given has none."""
    if entry.default is MISSING and entry.default_factory is MISSING:
        return inspect.Parameter.empty
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


Kind = TypeVar("Kind", bound=Options)


def command(
    kind: type[Kind], run: Callable[[Kind], int], *, first: Sequence[str] = (), without: Sequence[str] = ()
) -> Callable[..., None]:
    """Return a function for typer whose parameters are the fields of ``kind`` and that runs ``run`` with them.

    Args:
        kind: the options' dataclass.
        run: takes the options and returns the exit code.
        first: fields that come first on the command line, in this order.
        without: fields that this command does not offer, and that keep their defaults.
    """
    hints = get_type_hints(kind, include_extras=True)

    def parsed(**values: Any) -> None:
        try:
            code = run(kind(**values))
        except KeyboardInterrupt:
            raise Interruption from None
        raise SystemExit(code)

    only = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(entry.name, only, default=default_of(entry), annotation=hints[entry.name])
        for entry in sorted(fields(kind), key=lambda entry: (*first, entry.name).index(entry.name))
        if entry.name not in without
    ]
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    parsed.__annotations__ = hints
    parsed.__doc__ = run.__doc__
    return parsed


class Interruption(Exception):
    """Ctrl-C where there is nothing to keep; typer would give it a code and words of its own."""
