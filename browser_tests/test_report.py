"""The report in a real browser: it says nothing to the console, fetches nothing, fits its window, and is accessible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDTHS = (390, 1440)
STATES = ("green", "red", "partial", "empty", "large")
SMALL = STATES[:-1]
PAGES = [(state, width, scheme) for state in SMALL for width in WIDTHS for scheme in ("light", "dark")] + [
    ("large", 390, "dark"),
    ("large", 1440, "light"),
]
MOST = 20_000
"""Elements of a page that axe-core is given: 70,000 take it longer than four minutes, and large pages are made of the same parts."""

SERIOUS = {"serious", "critical"}

each_page = pytest.mark.parametrize(("state", "width", "scheme"), PAGES)
each_state = pytest.mark.parametrize("state", STATES)
each_width = pytest.mark.parametrize("width", WIDTHS)


@pytest.fixture
def opened(browser: Any, page_of: Callable[[str], Path]) -> Callable[..., Any]:
    """Open the report of a state; what it complains of, or would fetch, fails when the page is left."""

    @contextmanager
    def open_page(state: str, width: int, scheme: str = "light", scripts: bool = True) -> Iterator[Any]:
        file, complaints = page_of(state), []
        context = browser.new_context(
            viewport={"width": width, "height": 844 if width < 800 else 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        page.on("requestfailed", lambda request: complaints.append(f"not fetched: {request.url[:200]}"))
        page.on("request", lambda request: complaints.append(f"fetches {request.url}") if request.url.startswith("http") else None)
        page.goto(file.as_uri(), wait_until="load")
        try:
            yield page
        finally:
            context.close()
        assert not complaints, "\n".join(complaints)

    return open_page


def look_through(page: Any) -> None:
    """Go down the page and open whatever opens, so that what waits to be looked at is there."""
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    height = page.evaluate("document.documentElement.scrollHeight")
    for place in range(0, min(height, 40_000), 2_000):
        page.evaluate(f"window.scrollTo(0, {place})")
    page.wait_for_timeout(300)
    page.evaluate("window.scrollTo(0, 0)")


def too_wide(page: Any) -> list[str]:
    """Return what reaches beyond the window and lies in nothing that scrolls or clips; nothing where the page fits."""
    return page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= width) return [];
            const contained = one => {
                for (let up = one.parentElement; up && up !== document.body; up = up.parentElement)
                    if (getComputedStyle(up).overflowX !== 'visible') return true;
                return false;
            };
            const wide = [...document.body.querySelectorAll('*')].filter(
                one => one.getBoundingClientRect().right > width + 1 && !contained(one));
            return [`the page is ${document.documentElement.scrollWidth} px wide`, ...wide.slice(0, 8).map(
                one => `${one.tagName.toLowerCase()}.${one.className.baseVal ?? one.className}: ${one.textContent.trim().slice(0, 60)}`)];
        }"""
    )


@each_page
def test_is_silent_fits_and_is_accessible(opened: Callable[..., Any], state: str, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with opened(state, width, scheme) as page:
        if state != "large":  # of which all that opens would be looked at for minutes
            look_through(page)
        assert page.title()
        assert page.get_by_role("heading", level=1).count() == 1
        assert not (wide := too_wide(page)), "\n".join(wide)
        if page.evaluate("document.querySelectorAll('*').length") > MOST:
            return
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        serious = [fault for fault in found if fault["impact"] in SERIOUS]
        told = [f"{fault['id']} ({fault['impact']}): {fault['help']}: {fault['nodes'][0]['html'][:160]}" for fault in serious]
        assert not told, "\n".join(told)


@each_state
@each_width
def test_does_without_scripts(opened: Callable[..., Any], state: str, width: int) -> None:
    with opened(state, width, scripts=False) as page:
        assert page.get_by_role("heading", level=1).count() == 1
        assert not (wide := too_wide(page)), "\n".join(wide)
        if state != "empty":
            assert page.locator("table").count() or page.locator("svg").count()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
@each_state
def test_prints_within_the_paper(opened: Callable[..., Any], state: str, scripts: bool) -> None:
    with opened(state, 720, scripts=scripts) as page:  # A4 less margins, at 96 dots an inch
        page.emulate_media(media="print")
        page.wait_for_timeout(200)
        assert not (wide := too_wide(page)), "\n".join(wide)
        if state != "large":
            assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("state", ["green", "red", "partial"])
def test_is_used_by_keyboard(opened: Callable[..., Any], state: str) -> None:
    with opened(state, 1440) as page:
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.outerHTML.slice(0, 80)"))
        assert len(set(reached)) > 3, "the keyboard stays where it is"
        seen = page.evaluate(
            """() => { const box = document.activeElement.getBoundingClientRect();
                       return box.width > 0 && box.height > 0; }"""
        )
        assert seen, f"what has the focus is not to be seen: {reached[-1]}"
