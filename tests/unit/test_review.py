"""The page as a file: worst first, whole in itself, and data in it stay data."""

import base64
import hashlib
import json
import re

from mrsynth.review import entries, page, rank, read_part, stacks_of


def card(verdict="accepted", strain=0.2, stacks=None):
    parts = [
        {"stack": n, "verdict": v, "strain": s, "posed": True, "gates": [], "reasons": []}
        for n, (v, s) in enumerate(stacks or [(verdict, strain)], 1)
    ]
    judged = {"verdict": verdict, "strain": strain, "stacks": parts}
    views = [{"name": "L4-L5", "status": "picked"}, {"name": "L5-S1", "status": "out"}]
    return {"registration": judged, "views": views, "unseen": [], "stamp": "x"}


def test_worst_first():
    cards = {
        "FINE": card(strain=0.2),
        "CLOSE": card(strain=0.9),
        "DOUBT": card("review", 1.1),
        "STACK": card("accepted", 0.1, [("accepted", 0.1), ("failed", 3.0)]),
        "GONE": None,
        "SAME": {"registration": None, "views": [], "unseen": []},
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
    assert (listed[5]["verdict"], stacks_of(cards["SAME"])) == (None, 0)
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
