"""The registry of the cases of an ingest: what each is called and what must come of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from dicommake import Maker, True3D


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        number: Its line in the list of cases, A1 to A28.
        text: What is in the folder, in words.
        make: Writes the files and returns the true volumes.
        expect: What mrsynth must do: ``right``, ``split right`` or ``refused``.
        code: The reason code of a refusal.
        options: Settings of `index` and `convert` that the case needs, by stage.
    """

    number: str
    text: str
    make: Callable[[Maker], list[True3D]]
    expect: str
    code: str = ""
    options: dict = field(default_factory=dict)


CASES: dict[str, Case] = {}


def case(name: str, text: str, expect: str, code: str = "", **options):
    """Register a case under a name that begins with its number."""

    def add(make):
        CASES[name] = Case(name.split("-")[0], text, make, expect, code, options)
        return make

    return add


def several(table: dict[str, tuple], expect: str, **options):
    """Register one case per entry: name → (text, code or "", argument of the function)."""

    def add(make):
        for name, (text, code, argument) in table.items():
            CASES[name] = Case(
                name.split("-")[0],
                text,
                lambda maker, a=argument: make(maker, a),
                expect,
                code,
                options,
            )
        return make

    return add
