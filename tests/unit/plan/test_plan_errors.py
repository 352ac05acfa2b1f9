"""Every bad plan is refused in one line that names the place and the remedy."""

from pathlib import Path

import pytest

from autotrain.errors import PlanError
from autotrain.plan.plan import Plan

TOP = "schema: 1\nsettings:\n  workers: 2\n"

STRUCTURE = [
    ("", 1, "the plan is empty. Start it with"),
    ("# nothing but words\n", 1, "the plan is empty"),
    ("---\n...\n", 2, "a plan is a mapping of names to values, not nothing"),
    ("- schema: 1\n", 1, "a plan is a mapping of names to values, not a list"),
    ("just words\n", 1, "not 'just words'"),
    ("schema: 1\nsettings: {workers: 2\n", 3, "not valid YAML: "),
    ("schema: 1\n\tsettings: 2\n", 2, "not valid YAML: "),
    ("schema: 1\nsettings:\n  workers: 2\n prefetch: 2\n", 4, "not valid YAML: "),
    ("schema: 1\nsettings: 'open\n", 3, "not valid YAML: "),
    ("schema: 1\nsettings: {}\nseed: \x07\n", 3, "a character that YAML does not allow"),
    (TOP + "  workers: 3\n", 4, "'workers' is given twice, first on line 3. Remove one of them"),
    (TOP + "settings: {}\n", 4, "'settings' is given twice, first on line 2"),
    (TOP + "---\n" + TOP, 4, "a second document begins here"),
    ("%YAML 1.1\n---\n" + TOP, 2, "directives are not allowed"),
    ("schema: 1\nsettings: {}\n? [a]\n: 1\n", 3, "a name must be a word"),
    (TOP + "evidences: {}\n", 4, "unknown section 'evidences'. Did you mean 'evidence'? Known: schema, seed"),
    (TOP + '? "a\\nb\\e[1m"\n: 1\n', 4, "unknown section 'a\\nb\\x1b[1m'"),
    ("schema: 1\n", 1, "'settings' is missing"),
    ("schema: 1\nsettings: fast\n", 2, "settings: 'fast' where a mapping is needed"),
    ("schema: 1\nsettings: {}\nevidence: [1]\n", 3, "evidence: a list where a mapping is needed"),
]

SCHEMA = [
    ("settings: {}\n", 1, "'schema' is missing"),
    (
        "schema: 2\nelse: 3\n",
        1,
        "schema 2 is newer than this autotrain understands (1): upgrade autotrain-torch or probe",
    ),
    ("schema: 0\nsettings: {}\n", 1, "schema: 0 is no version of the format. Write `schema: 1`"),
    ("schema: '1'\nsettings: {}\n", 1, "schema: '1' is no version"),
    ("schema: true\nsettings: {}\n", 1, "schema: true is no version"),
    ("schema: 1.0\nsettings: {}\n", 1, "schema: 1.0 is no version"),
    ("schema:\nsettings: {}\n", 1, "schema: nothing is no version"),
    ("schema: [1]\nsettings: {}\n", 1, "schema: a list is no version"),
]

CODE = [
    (
        "schema: 1\nsettings: !!python/object:os.system {}\n",
        2,
        "tag 'tag:yaml.org,2002:python/object:os.system' is not",
    ),
    ("schema: 1\nsettings:\n  workers: !!python/object/apply:os.getpid []\n", 3, "tag "),
    ("schema: 1\nsettings:\n  workers: !!int 2\n", 3, "tag 'tag:yaml.org,2002:int' is not allowed"),
    ("schema: 1\n!x settings: {}\n", 2, "tag '!x' is not allowed"),
    ("schema: 1\nsettings: &a {workers: 2}\n", 2, "anchors and aliases (& and *) are not allowed"),
    ("schema: 1\nsettings: *a\n", 2, "anchors and aliases"),
    ("schema: 1\nsettings:\n  <<: {workers: 2}\n", 3, "unknown knob '<<'"),
    ("schema: 1\nsettings: " + "[" * 500 + "]" * 500, 2, "nested deeper or longer than any plan"),
    ("schema: 1\nsettings: [" + "1, " * 20_001 + "]\n", 2, "nested deeper or longer than any plan"),
    ("schema: 1\nsettings: {}\n#" + "x" * 250_000, 1, "larger than 250000 bytes"),
]

SETTINGS = [
    ("precison: bf16", "unknown knob 'precison'. Did you mean 'precision'? Known: precision, memory_format"),
    ("precision: bf6", "settings.precision: unknown value 'bf6'. Did you mean 'bf16'? Known: fp32, tf32, bf16, fp16"),
    ("precision: 16", "settings.precision: unknown value '16'"),
    ("precision:", "settings.precision: nothing is not a value of a knob"),
    ("precision: [bf16]", "settings.precision: a list is not a value of a knob"),
    ("memory_format: nhwc", "settings.memory_format: unknown value 'nhwc'"),
    ("augmentation: auto", "settings.augmentation: unknown value 'auto'"),
    ("placement: gpu", "settings.placement: unknown value 'gpu'"),
    ("workers: true", "settings.workers: true is not a whole number. Write a number of at least 0"),
    ("workers: '2'", "settings.workers: 2 is not a whole number"),
    ("workers: 2.0", "settings.workers: 2.0 is not a value of a knob"),
    ("workers: -1", "settings.workers: -1 is too small. Write a number of at least 0"),
    ("threads: -2", "settings.threads: -2 is too small"),
    ("prefetch: 0", "settings.prefetch: 0 is too small. Write a number of at least 1"),
    ("pinning: 1", "settings.pinning: 1 is neither true nor false"),
    ("pinning: yes", "settings.pinning: yes is neither true nor false"),
]

EVIDENCE = [
    ("verdict: quick", 5, "evidence.verdict: unknown verdict 'quick'. Known: faster, inconclusive, not proven, given"),
    ("verdct: faster", 5, "unknown field 'verdct'. Did you mean 'verdict'?"),
    ("ratio: 1.9", 5, "evidence.ratio: 1.9 where a mapping is needed"),
    ("ratio: {value: 1, low: 1, high: 1}", 5, "evidence.ratio: 'n' is missing"),
    ("ratio: {value: 3, low: 1, high: 2, n: 6}", 5, "evidence.ratio: value 3 is not between low 1 and high 2"),
    ("ratio: {value: .5, low: 1, high: 2, n: 6}", 5, "evidence.ratio: value 0.5 is not between"),
    ("ratio: {value: 1, low: 2, high: 0, n: 6}", 5, "evidence.ratio: value 1 is not between"),
    ("ratio:\n    value: .nan\n    low: 1\n    high: 2\n    n: 6", 6, "ratio.value: nan is not a finite number"),
    ("ratio: {value: 1, low: -.inf, high: 2, n: 6}", 5, "evidence.ratio.low: -inf is not a finite number"),
    ("ratio: {value: 1, low: 1, high: 1e999, n: 6}", 5, "evidence.ratio.high: inf is not a finite number"),
    ("ratio: {value: true, low: 1, high: 2, n: 6}", 5, "evidence.ratio.value: true is not a finite number"),
    ("ratio: {value: '1', low: 1, high: 2, n: 6}", 5, "evidence.ratio.value: '1' is not a finite number"),
    ("ratio: {value: 1, low: 1, high: 2, n: -6}", 5, "evidence.ratio.n: -6 is not a whole number from 0"),
    ("ratio: {value: 1, low: 1, high: 2, n: 6.5}", 5, "evidence.ratio.n: 6.5 is not a whole number"),
    ("findings: one", 5, "evidence.findings: 'one' where a list is needed"),
    ("findings:\n    - a\n    - 2", 7, "evidence.findings[1]: 2 is not text. Put it in quotes"),
    ("bursts: -1", 5, "evidence.bursts: -1 is not a whole number"),
    ("probe_s: -1", 5, "evidence.probe_s: -1 is negative"),
    ("worth:\n    - setting: workers\n      value: 2", 6, "evidence.worth[0]: 'instead_of' is missing"),
    ("worth: [{setting: work, value: 2, instead_of: 0}]", 5, "evidence.worth[0].setting: unknown knob 'work'"),
    ("worth: [{setting: workers, value: 2, instead_of: x}]", 5, "worth[0].instead_of: x is not a whole number"),
    ("worth: [~]", 5, "evidence.worth[0]: nothing where a mapping is needed"),
    ("left_out: [{knob: a, value: 2.5, reason: b}]", 5, "evidence.left_out[0].value: 2.5 is not a value of a knob"),
]

PROVENANCE = [
    ("usable_cpus: two", "provenance.usable_cpus: 'two' is not a whole number"),
    ("versions: {torch: 2.10}", "provenance.versions.torch: 2.1 is not text. Put it in quotes"),
    ("versions: [torch]", "provenance.versions: a list where a mapping is needed"),
    ("image_size: 0", "provenance.image_size: 0 is too small"),
    ("gpus: {a: b}", "provenance.gpus: a mapping where a list is needed"),
]


def refusal(text: str) -> str:
    with pytest.raises(PlanError) as caught:
        Plan.from_yaml(text, where="plan.yaml")
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300
    return message


@pytest.mark.parametrize(("text", "line", "message"), [*STRUCTURE, *SCHEMA, *CODE])
def test_bad_file_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    told = refusal(text)
    assert told.startswith(f"plan.yaml:{line}: ")
    assert message in told


@pytest.mark.parametrize(("text", "message"), SETTINGS)
def test_bad_setting_is_refused_with_its_line(text: str, message: str) -> None:
    told = refusal(f"schema: 1\n\nsettings:\n  # a comment\n  {text}\n")
    assert told.startswith(f"plan.yaml:5: {message}")


@pytest.mark.parametrize(("text", "line", "message"), EVIDENCE)
def test_bad_evidence_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    told = refusal(f"{TOP}evidence:\n  {text}\n")
    assert told.startswith(f"plan.yaml:{line}: ")
    assert message in told


@pytest.mark.parametrize(("text", "message"), PROVENANCE)
def test_bad_provenance_is_refused_with_its_line(text: str, message: str) -> None:
    assert refusal(f"{TOP}provenance:\n  {text}\n").startswith(f"plan.yaml:5: {message}")


@pytest.mark.parametrize("seed", ["-1", "1.5", "true", "18446744073709551616", "9" * 5000, "x"])
def test_bad_seed_is_refused(seed: str) -> None:
    assert "seed: " in refusal(f"{TOP}seed: {seed}\n")


def test_alias_bomb_is_refused_at_once() -> None:
    lines = [
        "a: &a [x, x]",
        *(f"{new}: &{new} [*{old}, *{old}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)),
    ]
    assert "anchors and aliases" in refusal("\n".join(lines))


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with pytest.raises(PlanError) as caught:
        Plan.load(path)
    assert str(caught.value).startswith(f"{path}: no such plan. Make one with `autotrain probe TARGET`")


def test_folder_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="a folder, not a plan"):
        Plan.load(tmp_path)


def test_path_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        Plan.load(tmp_path / "a\0b")


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"schema: 1\n\x89PNG\r\n\x1a\n\xff\xd8")
    with pytest.raises(PlanError, match=r"plan\.yaml:2: not text in UTF-8"):
        Plan.load(path)


def test_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with path.open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(PlanError, match=r"plan\.yaml:1: larger than 250000 bytes"):
        Plan.load(path)


def test_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 1\nsettings:\n  precison: bf16\n")
    with pytest.raises(PlanError) as caught:
        Plan.load(path)
    assert str(caught.value).startswith(f"{path}:3: unknown knob 'precison'. Did you mean 'precision'?")
