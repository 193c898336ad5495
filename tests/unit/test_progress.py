"""Forecast, bar and lines, by a clock and a stream of our own."""

import io

import pytest

from mrsynth.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _run(stream, total=200, seconds=0.5, report_seconds=30.0, start=0):
    now = [100.0]
    progress = Progress(
        total,
        start=start,
        label="model",
        report_seconds=report_seconds,
        memory=lambda: 512 * 2**20,
        stream=stream,
        clock=lambda: now[0],
    )
    for done in range(start + 1, total + 1):
        now[0] += 10.0 if done <= start + 3 else seconds
        progress.update(done, {"l1": 0.25})
    progress.close()
    return stream.getvalue()


def test_forecast_leaves_the_slow_first_steps_out():
    text = _run(io.StringIO())
    forecast = next(line for line in text.splitlines() if "forecast" in line)
    assert "187 more iterations at 2.0 it/s: 1 min 34 s; memory so far 512 MiB" in forecast
    assert text.count("forecast") == 1


def test_lines_come_every_report_seconds_and_at_the_end():
    lines = [line for line in _run(io.StringIO()).splitlines() if "left" in line]
    assert 3 <= len(lines) <= 5
    assert lines[-1] == "model: 200/200 2.0 it/s, 0 s left, l1 0.250"
    assert "\r" not in "".join(lines)


def test_a_terminal_gets_one_bar_that_fills():
    text = _run(Terminal())
    bars = [part for part in text.split("\r") if "it/s," in part]
    assert len(bars) > 100
    assert "█" * 24 in bars[-1]
    assert "·" * 12 in bars[len(bars) // 2 - 5]
    assert text.endswith("\n")


def test_going_on_counts_only_what_is_left():
    text = _run(io.StringIO(), start=100)
    assert "87 more iterations at 2.0 it/s" in text


@pytest.mark.parametrize("total", [1, 2, 5])
def test_short_trainings_are_no_error(total):
    assert "forecast" not in _run(io.StringIO(), total=total)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (7512, "2 h 05 min"),
    ],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
