"""Decoding in a child: what it does when the decoder hangs, dies or eats the memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mrsynth import decoder
from mrsynth.errors import Refusal


def double(array):
    return 2 * array


def hang(array):
    time.sleep(60)
    return array


def die(array):
    os._exit(11)


def eat(array):
    return np.ones(2**33, np.uint8)


def say(array):
    raise Refusal("MISSING_DECODER", "none", "install one")


def quote(array):
    raise ValueError("Doe^Jane")


def code_of(function, **options) -> str:
    with pytest.raises(Refusal) as error:
        decoder.decode(function, np.arange(3), **options)
    assert "Doe" not in str(error.value)
    return error.value.code


def test_results_come_back():
    assert decoder.decode(double, np.arange(3)).tolist() == [0, 2, 4]


def test_a_decoder_that_hangs_is_ended_and_the_next_one_works():
    start = time.monotonic()
    assert code_of(hang, seconds=0.3) == "TOO_SLOW"
    assert time.monotonic() - start < 10
    assert decoder.decode(double, np.arange(2)).tolist() == [0, 2]


def test_a_decoder_that_dies_costs_one_series():
    assert code_of(die) == "CORRUPT"
    assert decoder.decode(double, np.arange(2)).tolist() == [0, 2]


def test_a_decoder_may_not_take_the_machines_memory():
    assert code_of(eat) == "CORRUPT"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_child_ends_with_a_parent_that_was_killed():
    program = (
        "import numpy as np, time\nfrom mrsynth import decoder\n"
        "decoder.decode(np.copy, np.arange(3))\n"
        "print(*decoder._child._processes, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        assert runs(child)
        parent.kill()
    for _ in range(100):
        if not runs(child):
            return
        time.sleep(0.1)
    pytest.fail("the child outlives its parent")


def runs(process: int) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_refusals_come_back_whole_and_errors_without_their_text():
    with pytest.raises(Refusal) as error:
        decoder.decode(say, np.arange(3))
    said = error.value
    assert (said.code, said.message, said.remedy) == ("MISSING_DECODER", "none", "install one")
    assert code_of(quote) == "CORRUPT"
