"""Make docs/images/report*.png: the first screen of a report, wide and narrow, light and dark, in Chromium.

    .venv/bin/python docs/picture.py reports/demo-simulated-days/report.html

Needs the test dependencies and a Chromium (HSA_CHROMIUM, else the one on PATH).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parent / "images"
WIDTHS = {1280: "", 400: "-narrow"}
SCHEMES = {"light": "", "dark": "-dark"}
HEIGHT = 1000


def main() -> None:
    """Write the pictures."""
    browser = os.environ.get("HSA_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as play:
        program = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width, narrow in WIDTHS.items():
            for scheme, dark in SCHEMES.items():
                size = {"width": width, "height": HEIGHT}
                page = program.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
                page.goto(Path(sys.argv[1]).resolve().as_uri())
                page.wait_for_selector("[data-chart] svg, [data-chart] canvas")
                page.wait_for_timeout(1500)
                page.screenshot(path=IMAGES / f"report{narrow}{dark}.png")
        program.close()


if __name__ == "__main__":
    main()
