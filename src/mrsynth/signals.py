"""Requests to stop, noted instead of obeyed at once."""

import signal
import threading

INTERRUPTED = 75
"""Exit code after a requested stop; sysexits.h calls it EX_TEMPFAIL: try again later."""


class Signals:
    """Notes SIGTERM, SIGUSR1 and SIGINT instead of dying; a second one acts as ever."""

    def __init__(self):
        self.received = False
        self.former: dict = {}

    def __enter__(self):
        # Python allows handlers in the main thread only; elsewhere a signal is the caller's matter
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                self.former[number] = signal.signal(number, self._note)
        return self

    def _note(self, _number, _frame) -> None:
        self.received = True
        self.__exit__()

    def __exit__(self, *_) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)
