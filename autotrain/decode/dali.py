"""NVIDIA DALI: whole batches of JPEG files, decoded on the CPU by DALI's own threads, the crop window alone.

DALI skips most of the work for what lies outside the window. Its own resize is left alone: torch's costs less (per
image and core at 224 px 0.35 against 1.2 ms) and leaves the batch equal to that of other decoders.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from autotrain.augment.geometry import Window
from autotrain.decode.base import BatchError, Choose, Decoder, complete, to_channels, too_large
from autotrain.decode.header import jpeg_header
from autotrain.decode.resize import resize_window
from autotrain.decode.simplejpeg import Simplejpeg


class Dali(Decoder):
    """Batches by ``BatchDecoder``; single images by simplejpeg."""

    name, full, exact, batched = "dali", "simplejpeg", False, True

    plain = Simplejpeg.plain

    def unavailable(self) -> str | None:
        """Return None where DALI is installed."""
        try:
            found = importlib.util.find_spec("nvidia.dali") is not None
        except ModuleNotFoundError:  # not even the namespace package
            found = False
        return None if found else "NVIDIA DALI is not installed: pip install 'autotrain-torch[dali]' (Linux)"


class BatchDecoder:
    """Decodes batches. Its pipeline is made by the first one, in the process that decodes; close it at the end.

    A forked child makes a pipeline of its own: ending one whose threads are not there crashes.

    Args:
        channels: 1 for greyscale, 3 for RGB.
        kernel: what resizes: ``pillow`` or ``torch``.
        threads: of DALI's, for decoding.
    """

    def __init__(self, *, channels: int, kernel: str = "torch", threads: int = 1) -> None:
        self.channels = channels
        self.kernel = kernel
        self.threads = threads
        self._start()

    def _start(self) -> None:
        self._pipeline: Any = None
        self._capacity = 0
        self._lock = threading.Lock()
        _LIVE.add(self)

    def leave(self) -> None:
        """Begin anew in a forked child; what was inherited is kept to the child's end, untouched."""
        _INHERITED.append(self._pipeline)
        self._start()

    def __getstate__(self) -> dict[str, Any]:
        return {"channels": self.channels, "kernel": self.kernel, "threads": self.threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End DALI's threads."""
        self._pipeline, self._capacity = None, 0

    def decode_batch(
        self, datas: Sequence[bytes], choices: Sequence[Choose], size: int, out: NDArray[np.uint8]
    ) -> None:
        """Decode files, cut the chosen windows and resize them to ``size`` by ``size``.

        Args:
            datas: the files; what is no plain JPEG is decoded by itself, as ``Decoder`` does.
            choices: called once each, with height and width of their image.
            size: pixels, at least 1.
            out: uint8 ``(n, size, size, channels)`` that is written to.

        Raises:
            BatchError: an image cannot be read.
        """
        windows: dict[int, Window] = {}
        for place, data in enumerate(datas):
            header = jpeg_header(data)
            if header is not None and header.plain and not (header.rgb or too_large(header)) and complete(data):
                windows[place] = choices[place](header.height, header.width)
        with self._lock:
            done = self._run(datas, windows, size, out) if windows else False
        for place, data in enumerate(datas):
            if not (done and place in windows):
                self._single(place, data, windows.get(place), choices[place], size, out[place])

    def _run(self, datas: Sequence[bytes], windows: dict[int, Window], size: int, out: NDArray[np.uint8]) -> bool:
        """Decode the windows of plain files; False where DALI refuses one of them, which ends its pipeline."""
        if len(windows) > self._capacity:
            self.close()
            self._capacity = max(len(windows), len(datas))
            self._pipeline = _pipeline(self._capacity, self.threads)
        edges = np.asarray(list(windows.values()), dtype=np.int32)
        files = [np.frombuffer(datas[place], dtype=np.uint8) for place in windows]
        self._pipeline.feed_input("files", files)
        self._pipeline.feed_input("anchors", np.ascontiguousarray(edges[:, :2]))
        self._pipeline.feed_input("shapes", np.ascontiguousarray(edges[:, 2:]))
        try:
            (images,) = self._pipeline.run()
        except RuntimeError:
            self.close()
            return False
        for row, place in enumerate(windows):
            pixels = to_channels(np.asarray(images[row]), self.channels)
            resize_window(pixels, None, size, out[place], kernel=self.kernel)
        return True

    def _single(
        self, place: int, data: bytes, window: Window | None, choose: Choose, size: int, out: NDArray[np.uint8]
    ) -> None:
        try:
            decoded = Simplejpeg().decode(
                data, channels=self.channels, choose=choose if window is None else lambda *_: window
            )
            resize_window(decoded.pixels, decoded.window, size, out, kernel=self.kernel)
        except Exception as problem:
            raise BatchError(place, problem) from problem


_LIVE: weakref.WeakSet[BatchDecoder] = weakref.WeakSet()
_INHERITED: list[Any] = []


def _forked() -> None:
    for decoder in list(_LIVE):
        decoder.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _pipeline(capacity: int, threads: int) -> Any:
    """Return a pipeline that decodes on request, without a queue: the loader's processes are the queue."""
    dali: Any = importlib.import_module("nvidia.dali")  # without types
    fn, types = dali.fn, dali.types
    pipeline = dali.Pipeline(
        batch_size=capacity,
        num_threads=threads,
        device_id=None,
        prefetch_queue_depth=1,
        exec_async=False,
        exec_pipelined=False,
    )
    with pipeline:
        files = fn.external_source(name="files", dtype=types.UINT8, ndim=1, no_copy=True)
        anchors = fn.external_source(name="anchors", dtype=types.INT32, ndim=1)
        shapes = fn.external_source(name="shapes", dtype=types.INT32, ndim=1)
        pipeline.set_outputs(
            fn.decoders.image_slice(
                files,
                anchors,
                shapes,
                axes=(0, 1),
                device="cpu",
                output_type=types.RGB,
                jpeg_fancy_upsampling=True,
                use_fast_idct=False,
                adjust_orientation=False,
            )
        )
    pipeline.build()
    return pipeline
