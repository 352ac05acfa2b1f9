"""The members of a space, as what they are: every way to compute beside every way to load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from autotrain.settings import Settings, Value


class Members(Sequence[Settings]):
    """Joins two halves when asked, so that a space of a million settings takes the memory of two of a thousand.

    Args:
        computes: settings that differ in compute knobs alone; the first is the default.
        inputs: settings that differ in the others alone; the first is the default.
        names: the compute knobs.
    """

    def __init__(self, computes: Sequence[Settings], inputs: Sequence[Settings], *, names: Sequence[str]) -> None:
        assert computes[0] == inputs[0], "both halves begin with the default"
        self._computes = [_part(entry, names, within=True) for entry in computes]
        self._inputs = [_part(entry, names, within=False) for entry in inputs]
        self._names = frozenset(names)
        self._compute_keys = {tuple(entry.values()) for entry in self._computes}
        self._input_keys = {tuple(entry.values()) for entry in self._inputs}

    def __len__(self) -> int:
        return len(self._computes) * len(self._inputs)

    @overload
    def __getitem__(self, place: int) -> Settings: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Settings, ...]: ...

    def __getitem__(self, place: int | slice) -> Settings | tuple[Settings, ...]:
        if isinstance(place, slice):
            return tuple(self[entry] for entry in range(len(self))[place])
        compute, loading = divmod(range(len(self))[place], len(self._inputs))
        return _joined(self._computes[compute], self._inputs[loading])

    def __iter__(self) -> Iterator[Settings]:
        for compute in self._computes:
            for loading in self._inputs:
                yield _joined(compute, loading)

    def __contains__(self, settings: object) -> bool:
        if not isinstance(settings, Settings):
            return False
        values = settings.as_dict()
        compute = tuple(value for name, value in values.items() if name in self._names)
        loading = tuple(value for name, value in values.items() if name not in self._names)
        return compute in self._compute_keys and loading in self._input_keys


def _part(settings: Settings, names: Sequence[str], *, within: bool) -> dict[str, Value]:
    return {name: value for name, value in settings.as_dict().items() if (name in names) is within}


def _joined(compute: dict[str, Value], loading: dict[str, Value]) -> Settings:
    return Settings(**compute, **loading)  # type: ignore[arg-type]
