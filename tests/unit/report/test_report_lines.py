import io
import subprocess
import sys

import pytest
from rich.console import Console

from autotrain.report.lines import Line, labelled, show, table
from autotrain.report.words import bar, many, plain, rate_words, ratio_words, time_words
from autotrain.stats.summary import Estimate


def shown(*lines: Line, width: int = 80) -> list[str]:
    stream = io.StringIO()
    show(Console(file=stream, width=width), lines)
    return stream.getvalue().splitlines()


def test_a_long_text_continues_below_its_beginning():
    rows = shown(labelled("data", "word " * 30))
    assert len(rows) == 3
    assert all(len(row) <= 80 for row in rows)
    assert rows[0].startswith("  data         word")
    assert rows[1].startswith(" " * 15 + "word")


def test_a_word_longer_than_the_line_is_cut_to_it():
    assert all(len(row) <= 80 for row in shown(labelled("data", "/long" * 60)))


def test_a_narrow_terminal_gives_up_the_hanging_text():
    assert all(len(row) <= 20 for row in shown(labelled("data", "a few words that go on"), width=20))


def test_control_characters_of_names_are_shown_not_sent():
    rows = shown(labelled("data", "evil\x1b[2Jname\nbroken\rline"))
    assert len(rows) == 1
    assert "\\x1b[2J" in rows[0]
    assert rows[0].isprintable()


def test_markup_in_names_is_text():
    assert shown(Line(text="a [bold]name[/bold] :smile:")) == ["a [bold]name[/bold] :smile:"]


def test_columns_are_aligned_and_rows_end_without_blanks():
    rows = shown(*table(("setting", "value"), [("a", "1"), ("longer_name", "")]))
    assert rows == ["  setting      value", "  a            1", "  longer_name"]


def test_a_number_is_never_alone():
    assert rate_words(Estimate(value=412.3, low=400.2, high=421.4, n=24)) == "412 images/s (400 to 421, n=24)"
    assert rate_words(Estimate(value=3.14, low=3.0, high=3.3, n=5)) == "3.14 images/s (3.00 to 3.30, n=5)"
    assert ratio_words(Estimate(value=1.923, low=1.85, high=1.99, n=12)) == "1.92x (1.85 to 1.99, n=12)"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.042, "0.042 s"), (9.9, "9.9 s"), (74.2, "74 s"), (318.0, "5.3 min"), (7300.0, "2.0 h")]
)
def test_times(seconds: float, words: str):
    assert time_words(seconds) == words


def test_small_words():
    assert (many(1, "pair"), many(1002, "image")) == ("1 pair", "1,002 images")
    assert (plain(1234.5), plain(12.34), plain(1.234)) == ("1,234", "12.3", "1.23")
    assert (bar(0.5, width=10), bar(-1, width=4), bar(2, width=4)) == ("[#####.....]", "[....]", "[####]")


def test_importing_a_report_moves_no_random_state():
    script = (
        "import random; before = random.getstate(); import autotrain.report.terminal, autotrain.report.summary; "
        "print(random.getstate() == before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
