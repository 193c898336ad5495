"""The page as a file: worst first, whole in itself, and data in it stay data."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import pytest

from mrsynth.review import entries, page, rank, read_part, stacks_of
from mrsynth.verdicts import read_review, resolve

NODE = shutil.which("node")


def card(verdict="accepted", strain=0.2, stacks=None):
    parts = [
        {"stack": n, "verdict": v, "strain": s, "posed": True, "gates": [], "reasons": []}
        for n, (v, s) in enumerate(stacks or [(verdict, strain)], 1)
    ]
    judged = {"verdict": verdict, "strain": strain, "stacks": parts}
    views = [{"name": "L4-L5", "status": "picked"}, {"name": "L5-S1", "status": "out"}]
    content = {"registration": judged, "views": views, "unseen": [], "stamp": "x"}
    return content | {"stacks": len(parts)}


def test_worst_first():
    cards = {
        "FINE": card(strain=0.2),
        "CLOSE": card(strain=0.9),
        "DOUBT": card("review", 1.1),
        "STACK": card("accepted", 0.1, [("accepted", 0.1), ("failed", 3.0)]),
        "GONE": None,
        "SAME": {"registration": None, "stacks": 2, "views": [], "unseen": []},
    }
    made = {"status": "made"}
    refused = made | {"code": "NO_SPINE", "message": "no bone", "remedy": "look"}
    records = [refused if card_ is None else made for card_ in cards.values()]
    judged = [{"subject": "FINE", "stack": 0, "verdict": "failed", "readers": 2}]
    listed = entries(list(cards), list(cards.values()), records, judged)
    names = [entry["subject"] for entry in listed]
    assert names == ["GONE", "STACK", "DOUBT", "CLOSE", "FINE", "SAME"]
    assert listed[0]["refused"] == {"code": "NO_SPINE", "message": "no bone", "remedy": "look"}
    assert (listed[1]["verdict"], listed[1]["stacks"]) == ("failed", 2)
    assert (listed[4]["judged"], listed[4]["picked"], listed[4]["slices"]) == (
        {"0": "failed"},
        1,
        2,
    )
    assert (listed[5]["verdict"], stacks_of(cards["SAME"]), stacks_of(None)) == (None, 2, 0)
    assert rank(cards["STACK"]) == (2, 3.0)


def built(**changes):
    cards = {"AAAAAAAA": (card(), {"view-0-source": "aGk="})}
    listed = entries(["AAAAAAAA"], [cards["AAAAAAAA"][0]], [{}], [])
    return page(**{"task": "lumbar", "study": "KEY", "listed": listed, "cards": cards} | changes)


def test_the_policy_lets_in_what_is_inside_and_nothing_else():
    text = built(agreement=[])
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        block = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        assert len(block) == 1
        digest = base64.b64encode(hashlib.sha256(block[0].encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert " style=" not in read_part("page.html"), "the policy forbids inline styles"


def test_data_stay_data():
    evil = card()
    evil["registration"]["reasons"] = ["</script><script>alert(1)</script>", "@SCRIPT@ @DATA@"]
    text = built(cards={"AAAAAAAA": (evil, {})}, agreement=[])
    assert "alert(1)</script>" not in text
    block = re.search(r'id="card-AAAAAAAA">(.*?)</script>', text)[1]
    assert json.loads(block)["registration"]["reasons"] == evil["registration"]["reasons"]


def test_page_is_the_same_bytes_again():
    rows = [{"first": 1, "second": 2, "kappa": None}]
    assert built(agreement=rows, rows_in_file=3) == built(agreement=rows, rows_in_file=3)
    head = re.search(r'id="head">(.*?)</script>', built(agreement=rows, rows_in_file=3))[1]
    assert json.loads(head)["rowsInFile"] == 3


PAGE_ROWS = """
const COLUMNS = ["subject", "task", "stack", "verdict", "disc", "point", "x_mm", "y_mm", "z_mm",
  "reader", "reason"];
const DONE = {}, head = { task: "t", subjects: [{ subject: "ABCDEFGH", stacks: 2 }] };
let store = { reader: "ah", readers: {} }, loaded = null, current = "ABCDEFGH", chosen = 0;
const tell = () => {}, keep = () => {}, panel = () => {}, $ = () => ({ value: "" });
const content = () => ({ registration: null, stamp: "" });
const say = (stack, verdict) => { chosen = stack; judge(verdict); };
const load = (...rows) => { loaded = parse(["subject\\ttask\\tstack\\tverdict\\treader\\treason",
  ...rows.map((row) => `ABCDEFGH\\tt\\t${row.join("\\t")}\\t`)].join("\\n")); };
"""


def downloaded(tmp_path, script: str) -> dict[int, str]:
    """What the page's own functions give for download, as the next run resolves it."""
    text = read_part("page.js")
    parts = text[text.index("const readerKey") : text.index("function moveTo")]
    parts += text[text.index("const clean =") : text.index("async function open")]
    program = f"{PAGE_ROWS}{parts}{script}; process.stdout.write(tsv());"
    made = subprocess.run([NODE, "-e", program], capture_output=True, text=True, check=True)
    (tmp_path / "review.tsv").write_text(made.stdout)
    rows = resolve(read_review(tmp_path / "review.tsv"), "t")
    return {row["stack"]: row["verdict"] for row in rows}


@pytest.mark.skipif(not NODE, reason="no node")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('say(1, "accepted"); say(0, "failed")', {0: "failed"}),
        ('say(0, "failed"); say(1, "accepted")', {0: "failed", 1: "accepted"}),
        ('load(["1", "accepted", "AH"]); say(0, "failed")', {0: "failed"}),
        ('say(0, "failed"); load(["01", "accepted", "ah"])', {0: "failed"}),
        ('load(["2", "failed", "ah"]); say(0, "accepted"); undo()', {2: "failed"}),
        ('load(["2", "failed", "jl"]); say(0, "accepted")', {0: "accepted", 2: "failed"}),
        ('load(["2", "failed", "ah"], ["", "accepted", "ah"])', {0: "accepted", 2: "failed"}),
    ],
)
def test_a_word_about_all_stacks_replaces_the_readers_words_about_single_ones(
    tmp_path, script, words
):
    assert downloaded(tmp_path, script) == words
