"""The settings of a training: the papers' values as defaults, contradictions refused."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from mrsynth import recipe
from mrsynth.errors import StudyError
from mrsynth.models import generators

SCHEMA = Path(__file__).parents[2] / "workflow/schemas/train.schema.yaml"


def test_the_rate_is_constant_then_falls_to_zero():
    chosen = recipe.settings(
        learning_rate=1.0, constant_iterations=4, decay_iterations=4, total_iterations=8
    )
    rates = [recipe.learning_rate(iteration, chosen) for iteration in range(9)]
    assert rates == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]


def test_contradictory_settings_are_refused_by_key():
    with pytest.raises(StudyError, match="total_iterations"):
        recipe.settings(total_iterations=10, constant_iterations=4, decay_iterations=5)
    with pytest.raises(StudyError, match=r"train\.lamda_l1"):
        recipe.settings(lamda_l1=10)
    with pytest.raises(StudyError, match=r"train\.generator\.filter"):
        recipe.settings(generator={"filter": 10})
    with pytest.raises(StudyError, match=r"train\.generator\.blocks.*encoder_decoder"):
        recipe.settings(generator={"kind": "encoder_decoder", "blocks": 9})
    with pytest.raises(StudyError, match=r"train\.discriminator\.filter"):
        recipe.settings(discriminator={"filter": 10})
    with pytest.raises(StudyError, match="pared"):
        recipe.settings(objective="pared")


def test_schema_and_code_have_the_same_defaults():
    schema = yaml.safe_load(SCHEMA.read_text())
    defaults = {}
    for key, part in schema["properties"].items():
        assert part["description"]
        defaults[key] = part["default"]
        if part.get("type") == "object":
            defaults[key] = {k: v["default"] for k, v in part["properties"].items()}
    # null in the schema is the kind's own default
    assert set(defaults["generator"]) == {"kind"}.union(*generators.DEFAULTS.values())
    assert recipe.settings(**defaults) == recipe.settings()
    assert {**defaults, "generator": 0} == {**asdict(recipe.settings()), "generator": 0}


def test_the_papers_settings_are_the_default():
    chosen = recipe.settings()
    assert (chosen.learning_rate, chosen.lambda_l1, chosen.batch) == (2e-4, 10, 1)
    assert (chosen.constant_iterations, chosen.total_iterations) == (100_000, 200_000)
    assert chosen.pad_ratio == 286 / 256
