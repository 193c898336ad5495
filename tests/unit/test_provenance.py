"""The fingerprint sees content and nothing else."""

import ast

from mrsynth import provenance


def canonical(text: str) -> str:
    return provenance.canonical(ast.parse(text))


def test_comments_docstrings_and_layout_do_not_count():
    plain = "def f(x):\n    return x + 1\n"
    dressed = '"""Module."""\n# why\ndef f(x):\n    """Doc."""\n\n    return (x +\n            1)\n'
    assert canonical(plain) == canonical(dressed)


def test_every_change_of_meaning_counts():
    variants = ["x = 1", "x = 2", "x = 1.0", "x = '1'", "y = 1", "x = -1", "x = [1]", "x = (1,)"]
    assert len({canonical(text) for text in variants}) == len(variants)


def test_a_string_that_is_no_docstring_counts():
    assert canonical("def f():\n    x = 'a'\n") != canonical("def f():\n    x = 'b'\n")


def script(tmp_path, text):
    path = tmp_path / "stage.py"
    path.write_text(text)
    return path


def test_imported_module_counts(tmp_path, monkeypatch):
    package = tmp_path / "mrsynth"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models/__init__.py").write_text("")
    (package / "models/paired.py").write_text("A = 1\n")
    (package / "models/other.py").write_text("A = 1\n")
    (package / "a.py").write_text("from mrsynth.b import f\n")
    (package / "b.py").write_text("def f():\n    return open('table.tsv')\n")
    (package / "table.tsv").write_text("1\n")
    monkeypatch.setattr(
        provenance,
        "_locate",
        lambda name: next(
            (
                path
                for path in (
                    tmp_path.joinpath(*name.split(".")) / "__init__.py",
                    tmp_path.joinpath(*name.split(".")).with_suffix(".py"),
                )
                if path.is_file()
            ),
            None,
        ),
    )
    stage = script(tmp_path, "from mrsynth import a\n")
    model = ("mrsynth.models.paired",)

    first, with_model = provenance.fingerprint(stage), provenance.fingerprint(stage, model)
    assert first != with_model

    (package / "models/other.py").write_text("A = 2\n")
    assert provenance.fingerprint(stage, model) == with_model
    (package / "models/paired.py").write_text("A = 22\n")
    assert provenance.fingerprint(stage, model) != with_model
    assert provenance.fingerprint(stage) == first

    (package / "b.py").write_text("# a comment\ndef f():\n    return open('table.tsv')\n")
    assert provenance.fingerprint(stage) == first
    (package / "table.tsv").write_text("2 \n")
    changed_data = provenance.fingerprint(stage)
    assert changed_data != first
    (package / "b.py").write_text("def f():\n    return list(open('table.tsv'))\n")
    assert provenance.fingerprint(stage) not in (first, changed_data)


def test_versions_names_what_is_installed():
    found = provenance.versions()
    assert found["numpy"] == __import__("numpy").__version__
    assert "absent" not in found.values()
