"""Decoding of compressed pixels in a child process, which may crash, hang or run out of memory.

The decoders are C and C++ libraries that read whatever a file holds. A damaged or hostile
codestream must cost one series, not the job or the machine.
"""

import contextlib
import ctypes
import multiprocessing
import resource
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as Late
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from mrsynth.errors import Refusal

DECODE_SECONDS = 60.0
"""Longest time for one frame: the slowest decoder takes about one second for 2048² pixels."""

CHILD_BYTES = 2**31
"""Memory that the child may take beyond its start; a frame of 4096² pixels needs about 0.3 GiB."""

PR_SET_PDEATHSIG = 1
"""Of prctl(2): a job that is killed outright can't stop its child, which would wait for ever."""

_child: ProcessPoolExecutor | None = None


def decode(function, *arguments, seconds: float = DECODE_SECONDS) -> np.ndarray:
    """Result of a function that is run in a child process.

    Args:
        function: A function of a module; its arguments and result are pickled.
        arguments: For the function.
        seconds: Time limit.

    Raises:
        Refusal: ``CORRUPT`` if the child died or had no memory left, ``TOO_SLOW``, or the
            function's own.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return function(*arguments)
    try:
        result, refusal = _process().submit(_told, function, arguments).result(seconds)
    except Late:
        stop()
        raise Refusal("TOO_SLOW", f"a frame took more than {seconds:g} s to decode") from None
    except BrokenProcessPool:
        stop()
        raise Refusal("CORRUPT", "the pixels of a file crash their decoder") from None
    if refusal:
        code, message, remedy = refusal
        raise Refusal(code, message, remedy)
    return result


def stop() -> None:
    """End the child, whatever it is doing."""
    global _child
    if _child is not None:
        for process in (_child._processes or {}).values():
            process.kill()
        _child.shutdown(wait=True, cancel_futures=True)
        _child = None


def _process() -> ProcessPoolExecutor:
    """The child, made by fork: another way of starting would run Snakemake's script again."""
    global _child
    if _child is None:
        fork = multiprocessing.get_context("fork")
        _child = ProcessPoolExecutor(1, mp_context=fork, initializer=_prepare)
    return _child


def _told(function, arguments) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The function's result, or what a refusal says: exceptions don't cross the pipe whole."""
    try:
        return function(*arguments), ()
    except Refusal as refusal:
        return None, (refusal.code, refusal.message, refusal.remedy)
    except MemoryError:
        return None, ("CORRUPT", "the pixels of a file need more memory than they may", "")
    except Exception:
        return None, ("CORRUPT", "the pixels of a file can't be decoded", "")


def _prepare() -> None:
    """In the child: die with the parent, even a killed one's, and stay within the memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _limit_memory()


def _limit_memory() -> None:
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (now + CHILD_BYTES, hard))
