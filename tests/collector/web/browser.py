"""A real Chromium, driven through its own driver, in a profile of its own."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.needs import BROWSER
from tests.system.running import eventually

DESKTOP: Final = (1280, 800)
PHONE: Final = (390, 844)
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One window with one page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Go to an address."""
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a JavaScript function in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that fit and are shown."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter(e => e.checkVisibility()).map(e => e.textContent)",
            selector,
        )
        return found

    def until(self, script: str, *, within_s: float = 30.0) -> Any:
        """Wait until an expression is true in the page; return it."""
        return eventually(
            lambda: self.run(f"return {script}"),
            within_s=within_s,
            what=lambda: f"{script}; the page says:\n{self.run('return document.body.innerText')}",
        )

    def resize(self, size: tuple[int, int], *, theme: str = "light", scale: float = 1) -> None:
        """Be a screen of that size and theme."""
        width, height = size
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": scale,
            "mobile": width < 500,
        }
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wish = {"name": "prefers-color-scheme", "value": theme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [wish]})

    def complaints(self) -> list[str]:
        """Return what the page had the console complain of since the last time."""
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        # The browser's own pages, its empty first tab for one, have a console too.
        return [message for message in messages if not message.startswith("chrome://")]


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Run a browser for the length of the block; skip the test where there is none."""
    BROWSER.require()
    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
