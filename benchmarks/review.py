"""How large and how quick the review page is: real cards under made names, opened in Chromium.

    python benchmarks/review.py results/show/lumbar --subjects 100

Needs Debian's chromium and chromium-driver, and Selenium.
"""

import argparse
import itertools
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from mrsynth.review import entries, page, write_page
from mrsynth.show import read_card

PRESS = """
const start = performance.now();
document.body.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}));
document.getElementById('card').getBoundingClientRect();
return performance.now() - start;
"""


def build(folder: Path, count: int) -> tuple[str, float]:
    """A page of so many subjects from the cards of a folder, and the seconds that it took."""
    paths = sorted(path for path in folder.glob("*.jsonl") if path.stat().st_size)
    cards = [read_card(path) for path in paths]
    letters = itertools.product("ABCDEFGHIJKLMNOP", repeat=3)
    names = ["".join(three) + "AAAAA" for three in itertools.islice(letters, count)]
    found = dict(zip(names, itertools.cycle(cards), strict=False))
    start = time.perf_counter()
    contents = [found[name][0] for name in names]
    text = page("lumbar", "BENCHMARK", entries(names, contents, [{}] * count, []), found, [])
    return text, time.perf_counter() - start


def opened(file: Path, subjects: int) -> dict[str, float]:
    """Seconds to load, milliseconds to the next subject and to a verdict (medians)."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1500,1200"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        loads = []
        for _ in range(3):
            start = time.perf_counter()
            driver.get(file.as_uri())
            loads.append(time.perf_counter() - start)
        driver.find_element("css selector", "#reader").send_keys("bm\n")
        steps = [driver.execute_script(PRESS, "j") for _ in range(min(30, subjects - 1))]
        words = [driver.execute_script(PRESS, "a") for _ in range(30)]
    finally:
        driver.quit()
    return {
        "load, s": statistics.median(loads),
        "next subject, ms": statistics.median(steps),
        "verdict, ms": statistics.median(words),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="results/show/<task>")
    parser.add_argument("--subjects", type=int, nargs="+", default=[10, 100])
    arguments = parser.parse_args()
    rows = []
    for count in arguments.subjects:
        text, seconds = build(arguments.folder, count)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "page.html"
            write_page(text, file)
            size = file.stat().st_size / 1e6
            numbers = {"MB": size, "MB a subject": size / count, "written, s": seconds}
            rows.append({"subjects": count} | numbers | opened(file, count))
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print(
            "| "
            + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values())
            + " |"
        )


if __name__ == "__main__":
    main()
