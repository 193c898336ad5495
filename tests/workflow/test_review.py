"""The review page in a real browser: judged, moved, downloaded, put into place, run again.

Needs Debian's `chromium` and `chromium-driver` (one version, from one repository) and Selenium.
"""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mrsynth.show import read_card
from mrsynth.verdicts import read_review

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
selenium = pytest.importorskip("selenium", reason="selenium is not installed")
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with chromium-driver"),
]

REMADE = {"pick", "crop", "show", "review", "pack"}
ASSESSED = {"synthesize", "evaluate", "summarize", "plot", "conclude"}


class Page:
    """The page as a reader has it before him."""

    def __init__(self, file: Path, downloads: Path):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        # Containers run as root, where Chromium's sandbox can't.
        for argument in ("--headless=new", "--no-sandbox", "--window-size=1500,1400"):
            options.add_argument(argument)
        options.add_argument("--disable-dev-shm-usage")
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.downloads = downloads
        self.driver.get(file.as_uri())

    def one(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def keys(self, text: str) -> None:
        """Type with the focus outside any field."""
        self.one("#card").send_keys(text)

    def sign(self, initials: str) -> None:
        self.one("#reader").send_keys(initials + "\n")

    def go(self, subject: str) -> None:
        """Click on a subject; the list may just be drawn anew, so that a button gets stale."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        button = f'#list button[data-subject="{subject}"]'
        wait = WebDriverWait(self.driver, 10, ignored_exceptions=[StaleElementReferenceException])
        wait.until(lambda driver: self.one(button).click() is None)

    def drag(self, selector: str, right: int, down: int) -> None:
        from selenium.webdriver import ActionChains

        handle = self.one(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
        chain = ActionChains(self.driver, duration=50).move_to_element(handle)
        chain.click_and_hold().move_by_offset(right, down).release().perform()

    def rows(self) -> list[list[str]]:
        text = self.driver.execute_script("return document.getElementById('text').value")
        return [line.split("\t") for line in text.splitlines()]

    def download(self) -> Path:
        self.one("#download").click()
        file = self.downloads / "review.tsv"
        for _ in range(100):
            if file.exists():
                return file
            time.sleep(0.1)
        raise AssertionError("nothing was downloaded")

    def requests(self) -> list[str]:
        """Addresses that the page asked the network for."""
        messages = [json.loads(entry["message"]) for entry in self.driver.get_log("performance")]
        sent = [m["message"]["params"] for m in messages if "requestWillBeSent" in str(m)]
        urls = [item["request"]["url"] for item in sent if "request" in item]
        return [url for url in urls if not url.startswith(("data:", "blob:", "file:"))]

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture
def opened(tmp_path):
    """Opens a page; browsers are closed at the end."""
    pages = []

    def start(file: Path) -> Page:
        folder = tmp_path / f"downloads-{len(pages)}"
        folder.mkdir()
        pages.append(Page(file, folder))
        return pages[-1]

    yield start
    for page in pages:
        page.driver.quit()


def test_a_session_of_reading_comes_back_in_the_next_run(changed, opened):
    root = changed.folder / "results"
    cohort = pd.read_csv(root / "cohort/cohort.tsv", sep="\t").sort_values("unit")
    one, other = cohort["subject"][cohort["unit"] < 0.4].tolist()
    page = opened(root / "review/lumbar.html")
    assert page.one("#count").text == "0 of 6 judged"
    page.keys("r")
    assert "initials" in page.one("#note").text
    page.sign("ah")

    page.go(one)
    page.keys("2r")
    page.one("#reason").send_keys("one level off #\n")
    page.go(other)
    page.keys("a")
    card, _ = read_card(root / f"show/lumbar/sub-{other}.jsonl")
    view = next(view for view in card["views"] if view["name"] == "L4-L5")
    found = next(disc for disc in card["discs"] if disc["name"] == "L4-L5")
    svg = f'figure[data-view="{view["name"]}"] svg:first-child'
    width = page.one(svg).rect["width"]
    page.drag(f"{svg} g.of-sac .grip", 30, 12)
    assert page.one("#count").text == "1 of 6 judged"
    assert "sac of L4-L5: moved by" in page.one("#moves").text
    file = page.download()
    assert page.requests() == []
    assert page.complaints() == []

    rows = read_review(file)
    assert rows["verdict"].tolist()[:2] == ["failed", "accepted"]
    assert rows["stack"].tolist() == ["2", "", ""]
    assert rows["reason"].tolist()[0] == "one level off #"
    assert set(rows["reader"]) == {"ah"}
    pixel = view["columns"] / width
    shift = pixel * (30 * np.array(view["across_mm"]) + 12 * np.array(view["down_mm"]))
    moved = rows[["x_mm", "y_mm", "z_mm"]].iloc[2].astype(float).to_numpy()
    # The hand may land a screen pixel off.
    np.testing.assert_allclose(moved - found["sac_mm"], shift, atol=1.5 * pixel * view["pixel_mm"])
    assert np.linalg.norm(shift) > 8

    before = picked(root, other)
    shutil.copy2(file, changed.folder / "config/review.tsv")
    ran = changed.executed()
    assert set(ran) == REMADE | ASSESSED, "nobody is trained anew for test subjects"
    for stage in ("pick", "crop", "show"):
        assert ran[stage] == [f"lumbar/sub-{other}"], stage
    assert ran["pack"] == ["lumbar/fold-0/test"]

    after = picked(root, other)
    native = json.loads((root / f"register/lumbar/sub-{other}.json").read_text())
    stack = native["stacks"][view["stack"] - 1]["matrix"]
    to_native = np.array(stack)[:3, :3]
    np.testing.assert_allclose(to_native @ (after - before), moved - found["sac_mm"], atol=0.01)
    record = json.loads((root / f"pick/lumbar/sub-{other}.json").read_text())
    (log,) = record["moved"]
    np.testing.assert_allclose(log["after_mm"], moved)
    np.testing.assert_allclose(log["before_mm"], found["sac_mm"], atol=1e-3)
    packed = json.loads((root / "pack/lumbar/fold-0/test.json").read_text())
    assert {(row["subject"], row["verdict"]) for row in packed["reviewed"]} == {
        (one, "failed"),
        (other, "accepted"),
    }
    left = {(row["subject"], row["key"].split("_")[0]) for row in packed["left_out"]}
    assert (one, "stack-2") in left
    assert "one level off" not in "".join(
        path.read_text() for path in root.rglob("*") if path.suffix in (".json", ".tsv", ".html")
    )

    # A second reader on the new page: the first one's rows stay in the file.
    page = opened(root / "review/lumbar.html")
    page.sign("jl")
    page.one("#file").send_keys(str(changed.folder / "config/review.tsv"))
    page.go(one)
    assert "ah: stack 2 rejected" in page.one("#others").text
    page.keys("a")
    page.keys("j")
    page.keys("ru")
    assert [row[3:4] + row[9:10] for row in page.rows()[1:]] == [
        ["failed", "ah"],
        ["accepted", "ah"],
        ["", "ah"],
        ["accepted", "jl"],
    ]
    shutil.copy2(page.download(), changed.folder / "config/review.tsv")
    assert page.complaints() == []
    # The strictest word holds, so that the second reader's changes one stack's row at most.
    plan = changed.plan()
    assert "rule pick:" not in plan
    changed.snakemake("results/review/lumbar.html")
    table = pd.read_csv(root / "review/lumbar.tsv", sep="\t")
    assert table.loc[0, ["first", "second", "stacks"]].tolist() == [1, 2, 1]


def picked(root: Path, subject: str) -> np.ndarray:
    """The sac of L4-L5 in the MR's frame, as `pick` has it."""
    table = pd.read_csv(root / f"pick/lumbar/sub-{subject}.tsv", sep="\t")
    return table[table["name"] == "L4-L5"][["sac_x", "sac_y", "sac_z"]].to_numpy(float)[0]
