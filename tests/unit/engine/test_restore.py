"""Ctrl-C waits for blocks that must not be left half-way."""

from __future__ import annotations

import os
import signal

import pytest

from autotrain.data.interrupt import uninterrupted


def test_an_interrupt_waits_until_the_block_is_done() -> None:
    done = []

    def block() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("the rest of the block")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["the rest of the block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_happens() -> None:
    before = signal.getsignal(signal.SIGINT)
    with uninterrupted():
        pass
    assert signal.getsignal(signal.SIGINT) is before
