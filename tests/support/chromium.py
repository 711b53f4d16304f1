"""The Chromium that is installed, for tests of pages."""

import shutil
from contextlib import contextmanager

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def started_chromium():
    """Playwright's browser, headless; the test is skipped where Playwright or Chromium is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # Without its sandbox, which root in a container may not set up: the only pages are our own.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
