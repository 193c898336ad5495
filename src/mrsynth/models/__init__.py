"""Training objectives, one file each, chosen by name: ``mrsynth.models.<objective>``.

An objective's module defines ``Objective``, a class with this contract, which the training loop
relies on:

- ``Objective(settings, precision)`` builds the networks from the merged training block; the random
  state at that moment decides their first weights.
- ``players``: the :class:`mrsynth.models.players.Players` that learn.
- ``networks() -> dict[str, nn.Module]``: every network by name, generators first.
- ``optimizers() -> dict[str, Optimizer]``: all optimisers by name; the loop sets their learning
  rate.
- ``generator``: the network that goes from source to target; its weights are the training's result.
- ``data``: what it learns from, ``paired``, ``unpaired`` or both.
- ``step(batch) -> dict[str, Tensor]``: one update, generators first, then discriminators; returns
  detached losses. ``batch`` holds for paired data ``source`` and ``target`` [n, 1, h, w] in [-1, 1]
  and ``mask`` [n, 1, h, w] (1 where the reconstruction loss counts), for unpaired data
  ``unpaired_source`` and ``unpaired_target`` [n, 1, h, w].
- ``describe() -> dict``: facts for ``options.json``, such as the discriminator's receptive field.
- ``extra_state() -> dict`` and ``load_extra_state(dict)``: anything else that must survive an
  interruption, such as a pool of past fakes.
- ``check_size(height, width)``: raises ``StudyError`` for images that the networks can't take.
"""

import importlib
from importlib.util import find_spec

from mrsynth.errors import StudyError

OBJECTIVES = ("paired", "unpaired", "mrgan", "regression")


def load_objective(name: str) -> type:
    """The class ``Objective`` of the module ``mrsynth.models.<name>``.

    Raises:
        StudyError: If there is no such objective.
    """
    module = f"{__name__}.{name}"
    loaded = importlib.import_module(module) if find_spec(module) else None
    if not hasattr(loaded, "Objective"):
        raise StudyError(
            f"config key 'train.objective' = '{name}' does not exist; "
            f"use one of {', '.join(OBJECTIVES)}"
        )
    return loaded.Objective
