"""The floors of the house: imports point down, no module is in a cycle, and what is light stays light."""

import graphlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import autotrain

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torchvision", "kornia", "optuna")


def test_imports_point_down_only() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists():
        pytest.skip("needs import-linter")
    run = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_no_module_is_in_a_cycle() -> None:
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("autotrain", exclude_type_checking_imports=True, cache_dir=None)
    order = graphlib.TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
    order.prepare()  # raises CycleError, which names the modules


@pytest.mark.parametrize(
    "module", ["autotrain", "autotrain.settings", "autotrain.task", "autotrain.plan.plan", "autotrain.cli.main"]
)
def test_what_is_light_does_not_import_torch(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not there yet")
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_public_names_are_few_sorted_and_described_by_their_homes() -> None:
    assert autotrain.__all__ == sorted(autotrain.__all__)
    assert set(autotrain.__all__) <= set(dir(autotrain))
    with pytest.raises(AttributeError, match="no attribute 'prob'"):
        _ = autotrain.prob
