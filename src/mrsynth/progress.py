"""What a person sees while a model trains: a forecast, a bar on a terminal, lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

log = logging.getLogger("mrsynth")

WARM_UP_STEPS = 3
"""First steps, left out of the forecast: they include allocation and the libraries' own set-up."""

FORECAST_STEPS = 10
"""Timed steps that the forecast rests on; enough for a mean, soon enough to stop a mistake."""

BAR_SECONDS = 0.2
"""How often a terminal's bar is redrawn."""

BAR_WIDTH = 24
MEGABYTE = 2**20


class Progress:
    """Reports on a loop of known length.

    Args:
        total: Steps in all.
        start: Steps done before this process began.
        label: What is being trained.
        report_seconds: Time between lines where the stream is not a terminal.
        memory: Gives the peak memory in bytes.
        stream: Where to write; the process's standard error if left out.
        clock: Seconds, increasing.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        label: str = "train",
        report_seconds: float = 30.0,
        memory: Callable[[], int] = lambda: 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total, self.start, self.label = total, start, label
        self.report_seconds, self.memory, self.clock = report_seconds, memory, clock
        self.stream = sys.stderr if stream is None else stream
        self.terminal = self.stream.isatty()
        self.timed_from: tuple[int, float] | None = None
        self.forecast_given = False
        self.last_report = clock()

    def update(self, done: int, losses: dict[str, float]) -> None:
        """Say that ``done`` steps of the total are done, with the latest losses."""
        now = self.clock()
        if self.timed_from is None:
            if done - self.start >= min(WARM_UP_STEPS, self.total - self.start):
                self.timed_from = (done, now)
            return
        if not self.forecast_given and done - self.timed_from[0] >= FORECAST_STEPS:
            self._forecast(done, now)
        interval = BAR_SECONDS if self.terminal else self.report_seconds
        if now - self.last_report >= interval or done == self.total:
            self.last_report = now
            self._report(done, now, losses)

    def close(self) -> None:
        """Leave the bar's line."""
        if self.terminal:
            self.stream.write("\n")
            self.stream.flush()

    def rate(self, done: int, now: float) -> float:
        """Steps a second since the warm-up."""
        steps, since = done - self.timed_from[0], now - self.timed_from[1]
        return steps / since if since > 0 else 0.0

    def _forecast(self, done: int, now: float) -> None:
        self.forecast_given = True
        rate = self.rate(done, now)
        left = (self.total - done) / rate if rate else 0.0
        text = (
            f"{self.label}: forecast for {self.total - done} more iterations at {rate:.1f} it/s: "
            f"{duration(left)}; memory so far {self.memory() / MEGABYTE:.0f} MiB"
        )
        log.info("%s", text)
        self._write(text + "\n")

    def _report(self, done: int, now: float, losses: dict[str, float]) -> None:
        rate = self.rate(done, now)
        left = duration((self.total - done) / rate) if rate else "?"
        numbers = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        text = f"{done}/{self.total} {rate:.1f} it/s, {left} left, {numbers}"
        if self.terminal:
            filled = BAR_WIDTH * done // self.total
            bar = "█" * filled + "·" * (BAR_WIDTH - filled)
            self._write(f"\r{self.label} {bar} {text}\x1b[K")
        else:
            self._write(f"{self.label}: {text}\n")

    def _write(self, text: str) -> None:
        if self.terminal and text.endswith("\n"):
            text = f"\r{text[:-1]}\x1b[K\n"
        self.stream.write(text)
        self.stream.flush()


def duration(seconds: float) -> str:
    """Seconds as ``2 h 05 min``, ``3 min 20 s`` or ``45 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"
