"""Make docs/images/report.png: the first screen of a report, in a real Chromium.

    .venv/bin/python docs/picture.py reports/demo-simulated-days/report.html

Needs the test dependencies and a Chromium (HSA_CHROMIUM, else the one on PATH).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).resolve().parent / "images" / "report.png"
SIZE = {"width": 1280, "height": 1000}


def main() -> None:
    """Write the picture."""
    browser = os.environ.get("HSA_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as play:
        program = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = program.new_page(viewport=SIZE, color_scheme="light")
        page.goto(Path(sys.argv[1]).resolve().as_uri())
        page.wait_for_selector("[data-chart] svg, [data-chart] canvas")
        page.wait_for_timeout(1500)
        page.screenshot(path=PICTURE)
        program.close()


if __name__ == "__main__":
    main()
