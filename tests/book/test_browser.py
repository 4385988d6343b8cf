"""The book in a browser: pages, light and dark, on a desk and on a phone, without network."""

import re
import shutil
from io import BytesIO
from pathlib import Path

import axe_playwright_python
import pytest
import yaml
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from umlip_latents.book import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
DESK, PHONE = 1280, 390
ATLAS = "notebooks/07_atoms"
# every page at every width in both themes takes minutes; these few stand for them
FEW = ("book/index", "notebooks/02_errors", "book/models", "notebooks/04_architectures")
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
ALL = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
VIEWS = [
    pytest.param(width, name, theme, marks=() if name in FEW else pytest.mark.slow)
    for width in (DESK, PHONE)
    for name in ALL
    for theme in ("light", "dark")
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

# What sticks out of the window, unless a box around it scrolls or hides it.
TOO_WIDE = """() => {
  if (document.scrollingElement.scrollWidth <= innerWidth) return [];
  const boxed = element => element !== document.body &&
    (getComputedStyle(element).overflowX !== "visible" || boxed(element.parentElement));
  return [...document.querySelectorAll("body *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !boxed(e.parentElement))
    .map(e => e.outerHTML.slice(0, 150)).slice(0, 3).concat("the page itself");
}"""
IMAGES = """() => [...document.images].map(image =>
  ({ html: image.outerHTML.slice(0, 150), alt: image.alt, drawn: image.naturalWidth > 0 }))"""
# Serious findings of axe, which would load style sheets again, and a page of the disk may not.
SERIOUS = """async (part, options) => (await axe.run(part, {
    preload: false, resultTypes: ["violations"], ...options })).violations
  .filter(rule => ["serious", "critical"].includes(rule.impact))
  .map(rule => [rule.id, ...rule.nodes.slice(0, 3).map(node => node.html.slice(0, 150))])"""
# The controls of chemiscope's viewer are chemiscope's: some of its buttons have no name.
ALL_BUT_COLOURS = f"""() =>
  ({SERIOUS})({{ exclude: [".chemiscope-sphinx"] }},
    {{ rules: {{ "color-contrast": {{ enabled: false }} }} }})"""
# Contrast is slow to tell, so one element stands for all of the same colours and letters.
COLOURS = f"""() => {{
  const looks = {{}};
  for (const element of document.body.querySelectorAll("*")) {{
    const words = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!words || !element.checkVisibility()) continue;
    const {{ color, fontSize, fontWeight }} = getComputedStyle(element);
    let ground = element;
    while (ground.parentElement && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)")
      ground = ground.parentElement;
    looks[[color, fontSize, fontWeight, getComputedStyle(ground).backgroundColor]] = element;
  }}
  return ({SERIOUS})({{ include: Object.values(looks) }}, {{ runOnly: ["color-contrast"] }});
}}"""


@pytest.fixture(scope="module")
def browser(html):
    """Debian's Chromium. The book comes first: papermill wants no other event loop running."""
    with sync_playwright() as playwright:
        # pictures of molecules are drawn by WebGL, here without a graphics card
        arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def offline(browser: Browser, theme: str = "light", **options) -> Page:
    """A tab without network, as a reader with this theme has it."""
    window = {"width": DESK, "height": 900}
    options |= {"color_scheme": theme, "viewport": window, "offline": True}
    return browser.new_context(**options).new_page()


@pytest.fixture(scope="module")
def tab(browser):
    """A tab, with the list of what goes wrong in it."""
    page, faults = offline(browser), []
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda asked: faults.append(f"not loaded: {asked.url}"))
    page.on("request", lambda asked: faults.extend(leads_out(asked.url)))
    return page, faults


def leads_out(url: str) -> list[str]:
    """The address, if it leads out of the book."""
    return [] if url.startswith(("file:", "data:", "blob:")) else [f"asks the web for {url}"]


@pytest.mark.parametrize(("width", "name", "theme"), VIEWS)
def test_a_page_is_whole_legible_and_needs_no_web(tab, html, width, name, theme):
    page, faults = tab
    if not (html / f"{name}.html").is_file():
        pytest.skip(f"{name} is not in this small book; after `make book` it is")
    faults.clear()
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((html / f"{name}.html").as_uri())
    page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
    assert page.evaluate(TOO_WIDE) == []
    for image in page.evaluate(IMAGES):
        assert image["drawn"], image["html"]
        assert len(image["alt"].split()) > 2, f"no words: {image['html']}"
        assert not re.search(r"\.(png|svg|jpe?g)$|_images/", image["alt"]), image["html"]
    page.evaluate(AXE)
    assert page.evaluate(COLOURS) == []
    if theme == "light":  # all the rest is the same in the dark
        assert page.evaluate(ALL_BUT_COLOURS) == []
    assert not faults


def test_search_finds_a_term(browser, html):
    # from the disk, where a hit has no summary, since no script may read the other pages
    page = offline(browser)
    page.goto((html / "search.html").as_uri() + "?q=cumulant")
    page.locator("#search-results ul.search a[href*='glossary']").first.wait_for()
    page.goto((html / "search.html").as_uri() + "?q=phlogiston")
    page.locator("#search-results", has_text="did not match").wait_for()


def test_a_term_carries_its_definition(browser, html):
    page = offline(browser)
    page.goto((html / "notebooks" / "02_errors.html").as_uri())
    term = page.locator("a.definition", has_text="within-element").first
    assert "mean of each element" in term.get_attribute("title")
    term.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")  # as with the keyboard alone: then the text is shown
    shown = term.evaluate("link => getComputedStyle(link, '::after').content")
    assert "mean of each element" in shown


def test_a_table_sorts_and_searches_and_is_whole_without_javascript(browser, html):
    address = (html / "book" / "models.html").as_uri()
    page = offline(browser)
    page.goto(address)
    table = page.locator(".dt-container").first
    names = table.locator("tbody td:first-child")
    table.get_by_role("button", name="name").click()
    assert names.all_inner_texts() == sorted(names.all_inner_texts(), key=str.lower)
    every = names.count()
    table.get_by_role("searchbox").fill("nequix")
    assert 0 < names.count() < every
    assert all("nequix" in row.lower() for row in table.locator("tbody tr").all_inner_texts())
    page = offline(browser, java_script_enabled=False)
    page.goto(address)
    assert page.locator("table.sortable tbody tr", has_text="chgnet-0.3.0").first.is_visible()


def picture(box: Locator) -> Image.Image:
    """What a box shows, once it has come to rest."""
    box.page.wait_for_timeout(500)
    return Image.open(BytesIO(box.screenshot())).convert("RGB")


@pytest.fixture(scope="module")
def atlas(browser, html) -> Page:
    """The page of the atlas."""
    page = offline(browser)
    page.goto((html / f"{ATLAS}.html").as_uri())
    return page


@pytest.mark.slow
def test_the_atlas_draws_and_answers_a_click(atlas):
    box = atlas.locator("#atlas-structures")
    box.locator("canvas:visible").first.wait_for()
    box.scroll_into_view_if_needed()
    assert len(picture(box).getcolors(maxcolors=1 << 24)) > 100, "it is blank"
    extent = box.bounding_box()
    # the map lies on the left; a click somewhere in it finds a point
    for x, y in [(i / 20, j / 10) for i in range(2, 10) for j in range(2, 9)]:
        box.hover(position={"x": x * extent["width"], "y": y * extent["height"]}, force=True)
        before = picture(box)
        atlas.mouse.down()
        atlas.mouse.up()
        if picture(box) != before:
            return
    pytest.fail("no click changes it")
