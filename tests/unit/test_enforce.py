"""The exit policy fails a run that left someone out, and says how to go on."""

import pytest

from mrsynth.enforce import enforce
from mrsynth.errors import StudyError


def test_nothing_left_out_passes():
    assert "No subject" in enforce({"left_out": 0})


def test_left_out_fails_with_the_remedy():
    with pytest.raises(StudyError, match=r"3 subject.*on_refusal.*config/cohort\.tsv"):
        enforce({"left_out": 3})
