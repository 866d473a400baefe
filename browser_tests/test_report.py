"""The report in a real browser: silent, from nowhere else, no wider than its window, accessible, and doing what it offers."""

from __future__ import annotations

import json
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
CASES = "document.querySelectorAll('[aria-labelledby=cases]').forEach(one => { one.style.display = '%s' })"

each_page = pytest.mark.parametrize(("state", "width", "scheme"), PAGES)
each_state = pytest.mark.parametrize("state", STATES)
each_width = pytest.mark.parametrize("width", WIDTHS)


@pytest.fixture
def opened(browser: Any, page_of: Callable[[str], Path]) -> Callable[..., Any]:
    """Open the report of a state, or any page; what it complains of, or would fetch, fails when the page is left.

    ``at`` is a page in the folder beside the report, or what follows ``#`` in the address, or both.
    """

    @contextmanager
    def open_page(state: str | Path, width: int, scheme: str = "light", scripts: bool = True, at: str = "") -> Iterator[Any]:
        file, complaints = page_of(state) if isinstance(state, str) else state, []
        beside, mark, hash_ = at.partition("#")
        context = browser.new_context(
            viewport={"width": width, "height": 844 if width < 800 else 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        page.on("requestfailed", lambda request: complaints.append(f"not fetched: {request.url[:200]}"))
        page.on("request", lambda request: complaints.append(f"fetches {request.url}") if request.url.startswith("http") else None)
        page.goto((file.parent / (beside or file.name)).as_uri() + mark + hash_, wait_until="load")
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


def check(page: Any) -> None:
    """Hold a page against what holds for all: a title, one heading of the first level, no wider than its window, accessible.

    What charts are drawn of, thousands of marks under one label each, is left out.
    """
    from axe_playwright_python.sync_playwright import Axe

    assert page.title()
    assert page.get_by_role("heading", level=1).count() == 1
    assert not (wide := too_wide(page)), "\n".join(wide)
    if page.evaluate("document.querySelectorAll('*').length") > MOST:
        return
    found = Axe().run(page, context={"exclude": [[".drawing"]]}, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [fault for fault in found if fault["impact"] in SERIOUS]
    told = [f"{fault['id']} ({fault['impact']}): {fault['help']}: {fault['nodes'][0]['html'][:160]}" for fault in serious]
    assert not told, "\n".join(told)


@each_page
def test_is_silent_fits_and_is_accessible(opened: Callable[..., Any], state: str, width: int, scheme: str) -> None:
    with opened(state, width, scheme) as page:
        if state != "large":  # of which all that opens would be looked at for minutes
            look_through(page)
        check(page)


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
        page.evaluate(CASES % "none")
        assert not (wide := too_wide(page)), "\n".join(wide)
        page.evaluate(CASES % "")
        page.set_viewport_size({"width": 1047, "height": 720})  # the table of cases has pages that lie on their side
        assert not (wide := too_wide(page)), "\n".join(wide)
        if state != "large":
            assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


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


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_answers_follow_the_share_to_keep(opened: Callable[..., Any], page_of: Callable[[str], Path], scripts: bool) -> None:
    results = json.loads(page_of("green").with_name("results.json").read_text())
    with opened("green", 1440, scripts=scripts) as page:
        for share in (99, 90, 98, 95):
            page.locator(f"#keep-{share}").check()
            assert page.locator(".answer:visible").count() == page.locator(f".at-{share}.answer").count() > 0
            for card, decided in zip(page.locator(".card").all(), results["decisions"], strict=True):
                cheapest = decided["keep"][f"{share / 100:g}"][0]
                row = card.locator("table:visible tbody tr").first.inner_text()
                assert (f"\t{cheapest['quality']}\t" if cheapest["case"] else "none") in row
            if scripts:
                assert page.evaluate("location.hash") == ("" if share == 95 else f"#keep={share}")
        page.locator("#keep-95").focus()
        page.keyboard.press("ArrowLeft")
        assert page.locator("#keep-98").is_checked()
        assert page.locator(".at-98.answer:visible").count()


FIRST = "report_files/evaluation-1.html"
SIGNS = ".vega .mark-symbol path"


def test_state_is_in_the_address(opened: Callable[..., Any]) -> None:
    with opened("large", 1440, at=f"{FIRST}#keep=98&hide=webp") as page:
        page.locator("button[data-codec=webp][aria-pressed=false]").wait_for()
        assert page.locator("#keep-98").is_checked()
        assert page.locator("button[data-codec=jpeg]").get_attribute("aria-pressed") == "true"
        page.wait_for_function(f"document.querySelectorAll('{SIGNS}').length === 20")  # of both codecs there are 40
        assert page.evaluate("location.hash") == "#keep=98&hide=webp"
        page.get_by_role("link", name="All evaluations").click()
        page.wait_for_url("**/report.html#keep=98&hide=webp")
        assert page.locator("#keep-98").is_checked()


def test_codecs_go_and_come_by_keyboard(opened: Callable[..., Any]) -> None:
    with opened("large", 1440, at=FIRST) as page:
        page.locator("button[data-codec=jpeg]").focus()
        for key, pressed, signs, address in (("Space", "false", 20, "#hide=jpeg"), ("Enter", "true", 40, "")):
            page.keyboard.press(key)
            page.wait_for_function(f"document.querySelectorAll('{SIGNS}').length === {signs}")
            assert page.locator("button[data-codec=jpeg]").get_attribute("aria-pressed") == pressed
            assert page.evaluate("location.hash") == address


@each_width
def test_flips_are_wiped_and_zoomed_by_keyboard(opened: Callable[..., Any], width: int) -> None:
    with opened("green", width) as page:
        figure = page.locator(".flip-picture.is-wiped").first
        wipe, original = figure.locator("input[type=range]"), figure.locator(".original")
        wipe.focus()
        for key, words, clipped in (
            ("Home", "0 % original", "100%"),
            ("End", "100 % original", "0%"),
            ("ArrowLeft", "99 % original", "1%"),
        ):
            page.keyboard.press(key)
            assert wipe.get_attribute("aria-valuetext") == words
            assert original.evaluate("one => getComputedStyle(one).clipPath").split()[1] in (
                clipped,
                f"calc(100% - {100 - int(clipped[:-1])}%)",
            )
        page.keyboard.press("Tab")
        page.wait_for_function("document.querySelector('.flip-picture.is-wiped img').naturalWidth > 0")
        zoom, frame, image = (figure.locator(name) for name in ("button", ".frame", ".decoded img"))
        for pressed in ("true", "false"):
            page.keyboard.press("Enter")
            assert zoom.get_attribute("aria-pressed") == pressed
            assert (pressed == "true") == image.evaluate("one => Math.abs(one.clientWidth - 3 * one.naturalWidth) < 2")
            assert not (wide := too_wide(page)), "\n".join(wide)
        page.keyboard.press("Enter")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Shift+Tab")
        assert frame.evaluate("one => one === document.activeElement"), "what scrolls is not reached by keyboard"


@each_width
def test_pages_of_a_folder_load_their_pictures(opened: Callable[..., Any], width: int) -> None:
    with opened("large", width, "dark" if width == 390 else "light", at=FIRST) as page:
        check(page)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        pictures = page.locator("main img").all()
        assert len(pictures) > 40  # one at each point and two of each flip
        for picture in pictures:
            picture.scroll_into_view_if_needed()
        page.wait_for_function("[...document.images].every(one => one.complete && one.naturalWidth === 64)")
        assert not (wide := too_wide(page)), "\n".join(wide)


@each_width
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_two_runs_side_by_side(opened: Callable[..., Any], comparison: Path, width: int, scheme: str) -> None:
    with opened(comparison, width, scheme) as page:
        look_through(page)
        check(page)
        assert page.locator(".said").count()
        assert page.get_by_text("newly broken").count()
        if scheme == "light":  # and from it into the report of the first run
            page.locator("a[href*='#case-']", has_text="A").first.click()
            page.wait_for_load_state()
            case = page.evaluate("decodeURIComponent(location.hash.slice(1))")
            assert page.locator(f"[id='{case}']").is_visible()
