"""The pages in a real browser: search, ask, create, reload in mid-job, phone width, Telugu.

Pictures of them go to the folder that BAHUMUKHA_SCREENSHOTS names, if it does.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bahumukha.web.app import create_app
from bahumukha.web.config import ServerConfig
from bahumukha.web.files import shipped
from bahumukha.web.services import Services
from bahumukha.zoo.fake import ColourEncoder
from tests.search.packs import named, write_parquet, write_tar
from tests.search.pictures import draw
from tests.web.conftest import KINDS, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 120_000
"""Milliseconds: on a busy machine a browser is slow."""


WATCH_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!entry.hadRecentInput) {
      const name = (node) => node?.id || node?.className || node?.textContent || node?.nodeName;
      const place = ({x, y, width, height}) => [x, y, width, height].map(Math.round);
      const places = entry.sources.map((s) => `${name(s.node)}: ${place(s.previousRect)} -> ${place(s.currentRect)}`);
      window.shifts.push({value: entry.value, places});
    }
  }
}).observe({type: "layout-shift", buffered: true});
"""


def forget_all(server: str) -> None:
    """Forget what was made, before a page that shows it is open: one would ask for pictures that are gone by then."""
    with httpx2.Client(base_url=f"{server}/api/v1") as client:
        for job in client.get("/jobs", params={"limit": 200}).raise_for_status().json()["jobs"]:
            client.delete(f"/jobs/{job['id']}").raise_for_status()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options, timeout=2 * PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over 70 pictures, more than a page of them."""
    from bahumukha.search import PictureIndex

    folder = tmp_path_factory.mktemp("pages")
    pictures = folder / "pictures"
    pictures.mkdir()
    for i in range(70):
        colour = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "brown")[i % 8]
        size = [(240, 160), (160, 240), (200, 200), (320, 160)][i % 4]
        draw(colour, i, size).save(pictures / f"{colour}-{i:02}.png")
    shutil.copy(pictures / "red-00.png", pictures / "red-copy.png")
    PictureIndex(folder / "index.db", ColourEncoder()).index([pictures])
    config = ServerConfig((pictures,), folder / "index.db", folder / "created", making=KINDS)
    with serving(create_app(config, encoder=ColourEncoder())) as address:
        yield address


@pytest.fixture
def open_page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Open a path in a context of its own; whatever the page complains of fails the test."""
    if browser is None:
        pytest.skip(f"no chromium on this machine: {request.node.name} is not tried")
    contexts, complaints = [], []

    def open_page(path: str = "/", server: str = address, **options: Any) -> Any:
        settings = {"viewport": {"width": 1200, "height": 800}, "locale": "en-GB", "reduced_motion": "reduce"}
        context = browser.new_context(**settings | options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(WATCH_SHIFTS)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        def complain(message: Any) -> None:
            # A preview may be gone by the time that it is asked for.
            url = message.location.get("url", "")
            gone = "404" in message.text and "/preview" in url
            if message.type == "error" and not gone:
                complaints.append(f"{message.text} {url}")

        page.on("console", complain)
        page.goto(server + path)
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def shot(page: Any, name: str) -> None:
    if folder := os.environ.get("BAHUMUKHA_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def first_names(page: Any, count: int) -> list[str]:
    return [tile.get_attribute("aria-label") for tile in page.locator("#gallery .tile > button").all()[:count]]


def still(page: Any) -> None:
    """Nothing that was seen has moved of itself since the page was opened."""
    shifts = page.evaluate("window.shifts")
    assert sum(shift["value"] for shift in shifts) < 0.02, shifts


def settled(page: Any, text: str) -> None:
    page.wait_for_function("text => document.getElementById('found').textContent.includes(text)", arg=text)


def test_search(open_page: Any) -> None:
    page = open_page()
    settled(page, "71 pictures, the newest first")
    page.keyboard.press("/")
    page.keyboard.type("a blue thing")
    settled(page, "best first")
    page.wait_for_function("() => document.querySelector('#gallery .tile > button').ariaLabel.startsWith('blue')")
    assert all(name.startswith("blue") for name in first_names(page, 8)) and page.url.endswith("?q=a+blue+thing")
    page.wait_for_selector("#gallery img.there")
    shot(page, "search")

    page.fill("#term", "green")
    page.click("#term-form button[value=plus]")
    page.wait_for_selector(".chip.plus")
    page.click(".chip.plus button >> nth=0")
    page.wait_for_selector(".chip.minus")
    with page.expect_response("**/search"):
        page.click(".chip.minus button >> nth=1")
    page.wait_for_selector(".chip", state="detached")

    # More than one page of them comes as one scrolls.
    page.wait_for_selector("#gallery .tile >> nth=50", state="attached")
    page.mouse.move(600, 500)
    page.mouse.wheel(0, 20000)
    page.wait_for_selector("#gallery .tile >> nth=70", state="attached")
    still(page)

    page.evaluate("scrollTo(0, 0)")
    page.locator("#gallery .tile > button").first.click()
    page.wait_for_selector("#lightbox[open] dd")
    name = page.text_content("#lightbox h2")
    shot(page, "lightbox")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("name => document.querySelector('#lightbox h2').textContent !== name", arg=name)
    page.keyboard.press("Escape")
    page.wait_for_selector("#lightbox[open]", state="detached")

    page.click("#duplicates-button")
    page.wait_for_selector("#groups .group")
    assert page.locator("#groups .tile").count() == 2
    page.click("#folders-button")
    page.wait_for_selector("#folder-list code")


def test_search_by_a_picture_and_filters(open_page: Any, tmp_path: Path) -> None:
    draw("purple", 500).save(tmp_path / "mine.png")
    page = open_page()
    page.set_input_files("#query-file", tmp_path / "mine.png")
    page.wait_for_function("() => document.querySelector('#gallery .tile > button')?.ariaLabel.startsWith('purple')")
    assert page.text_content(".chip-text") == "mine.png"
    page.click("#filters-button")
    page.wait_for_selector("#filters select[name=type] option[value=PNG]", state="attached")
    page.fill("#filters input[name=folder]", "nowhere")
    page.wait_for_selector("#gallery .empty")
    page.click("#filters button[type=reset]")
    page.wait_for_selector("#gallery .tile")


def test_pictures_in_a_shard_and_in_a_table(open_page: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from bahumukha.search import PictureIndex

    packs = (write_tar(tmp_path / "s.tar", named(range(4))), write_parquet(tmp_path / "t.parquet", named(range(4, 8))))
    PictureIndex(tmp_path / "index.db", ColourEncoder()).index(packs)
    config = ServerConfig(packs, tmp_path / "index.db", tmp_path / "created", making=KINDS)
    with serving(create_app(config, encoder=ColourEncoder())) as other:
        page = open_page("/?q=red", other)
        settled(page, "best first")
        page.wait_for_function("() => document.querySelectorAll('#gallery img.there:not(.lost)').length === 8")
        assert first_names(page, 1) == ["red-000.png"]
        for name, pack in (("red-000.png", packs[0]), ("000002", packs[1])):
            page.click(f"#gallery .tile > button[aria-label='{name}']")
            page.wait_for_function("() => document.querySelector('#lightbox img:not(.under)').naturalWidth === 48")
            page.wait_for_selector(f"#lightbox dd >> text='{pack}'")
            if pack == packs[0]:
                shot(page, "packed")
                page.keyboard.press("Escape")
        page.click("#lightbox >> text=Similar pictures")
        page.wait_for_selector("#lightbox[open]", state="detached")
        page.wait_for_function("() => document.querySelectorAll('#gallery img.there:not(.lost)').length === 7")


def test_ask(open_page: Any, tmp_path: Path) -> None:
    draw("green", 600, (300, 200)).save(tmp_path / "mine.png")
    page = open_page("/ask")
    page.fill("#label", "red, green, blue")
    page.keyboard.press("Enter")
    page.set_input_files("#ask-file", tmp_path / "mine.png")
    page.wait_for_selector("#answers li")
    assert page.text_content("#answers li b >> nth=0") == "green"
    page.click("#answers button >> nth=0")
    page.wait_for_selector("#ask-map:not([hidden])")
    assert page.is_visible("#ask-legend")
    shot(page, "ask")


def test_create_with_preview_cancel_and_reload(open_page: Any) -> None:
    page = open_page("/create")
    page.fill("#prompt", "slow red thing")
    page.evaluate("document.querySelector('[name=seed]').value = 'fox'")
    page.click("#create-form button[type=submit]")
    page.wait_for_selector("#history .made img")
    assert page.locator("#under-way .job").count() == 0

    page.fill("#prompt", "hang")
    page.keyboard.press("Enter")
    page.wait_for_selector(".job .canvas img:not([hidden])")
    assert re.match(r"Step \d of 8", page.text_content(".job .note"))
    page.fill("#prompt", "blue")
    page.keyboard.press("Enter")
    page.wait_for_selector(".job.waiting")
    assert "number 1" in page.text_content(".job.waiting .note")
    shot(page, "create")
    page.reload()
    page.wait_for_selector(".job:not(.waiting) .canvas img:not([hidden])")
    page.wait_for_selector("#history .made")
    assert page.locator("#under-way .job").count() == 2 and page.locator("#history .made").count() == 1
    page.click(".job:not(.waiting) button")
    page.wait_for_selector("#history .made >> nth=1")
    assert page.text_content("#history h3 >> nth=0") == "blue"
    page.click("#history .made >> nth=1 >> text=Again")
    assert page.input_value("#prompt") == "slow red thing" and page.input_value("[name=seed]") == "fox"
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#history .made >> nth=0 >> text=Delete")
    page.wait_for_selector("#history .made >> nth=1", state="detached")


def test_what_can_be_made_of_what_was_made(open_page: Any, address: str) -> None:
    forget_all(address)
    page = open_page("/create")
    page.wait_for_function("() => !document.querySelector('#history .made')")
    page.select_option("[name=generator]", "dalle")
    assert page.input_value("[name=count]") == "9" and not page.is_visible("[name=drawer]")
    for prompt in ("a red fish", "a blue bird"):
        page.fill("#prompt", prompt)
        with page.expect_response("**/generate") as answer:
            page.keyboard.press("Enter")
        assert answer.value.json()["kind"] == "dalle"
        page.wait_for_function("text => document.querySelector('#history h3')?.textContent === text", arg=prompt)
    assert page.locator("#history .made >> nth=0 >> .many button").count() == 9
    page.click("#history .made >> nth=0 >> text=Vary")
    page.wait_for_selector("#history .made >> nth=2")
    page.click("#history .made >> nth=1 >> text=Blend")
    assert "a blue bird" in page.text_content("#blending-text")
    with page.expect_response("**/blend") as answer:
        page.click("#history .made >> nth=2 >> text=Blend")
    assert answer.value.json()["settings"]["prompt"] == "a blue bird · a red fish" and not page.is_visible("#blending")
    page.wait_for_selector("#history .made >> nth=3")
    page.click("#history .made >> nth=3 >> .many button >> nth=4")
    page.click("#lightbox >> text=Edit")
    assert page.input_value("#edit [name=source]") == "a red fish"
    page.fill("#edit [name=target]", "a red bird")
    shot(page, "edit")
    with page.expect_response("**/edit") as answer:
        page.keyboard.press("Enter")
    assert answer.value.json()["settings"]["picture"]["number"] == 5
    page.wait_for_selector("#history .made >> nth=4")
    with page.expect_response("**/edit"):
        page.click("#history .made >> nth=0 >> text=Another one")
    page.wait_for_selector("#history .made >> nth=5")


def test_what_has_no_weights_says_so_and_is_off(open_page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "{} has no weights on this machine: bahu train {} makes them"
    monkeypatch.setattr(Services, "missing", lambda self, name: line.format(name, name) if name == "dalle" else None)
    page = open_page("/create")
    page.select_option("[name=generator]", "dalle")
    page.wait_for_selector("#create-missing:not([hidden])")  # what is missing is known once the status has come
    assert "bahu train dalle" in page.text_content("#create-missing")
    assert page.is_disabled("#create-form [type=submit]")
    page.select_option("[name=generator]", "vqgan-clip")
    assert not page.is_visible("#create-missing") and page.is_enabled("#create-form [type=submit]")


def test_phone_width_and_dark(open_page: Any) -> None:
    page = open_page(viewport={"width": 390, "height": 780}, color_scheme="dark", device_scale_factor=2)
    page.wait_for_selector("#gallery img.there")
    still(page)
    for name, ready in (("search", "#gallery .tile"), ("ask", "#ask-drop"), ("create", "#create-form")):
        page.click(f"nav [data-page={name}]")
        page.wait_for_selector(f"{ready} >> nth=0")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than the phone"
        shot(page, f"{name}-phone")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 150


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en-GB", "te-IN"])
def test_everyone_can_read_and_work_the_pages(open_page: Any, scheme: str, language: str) -> None:
    """axe-core: contrast, names of controls, order of headings, landmarks, and some ninety more rules."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def accessible() -> None:
        found = axe.run(page).response
        assert {each["id"] for each in found["passes"]} >= {"color-contrast", "button-name"}
        wrong = [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found["violations"]]
        assert not wrong, wrong

    page = open_page(color_scheme=scheme, locale=language)
    for name, ready in (("search", "#gallery img.there"), ("ask", "#ask-drop"), ("create", "#create-form")):
        page.click(f"nav [data-page={name}]")
        page.wait_for_selector(f"{ready} >> nth=0")
        accessible()
    page.click("nav [data-page=search]")
    page.click("#gallery .tile > button >> nth=0")
    page.wait_for_selector("dialog[open]")
    accessible()


def test_telugu(open_page: Any) -> None:
    page = open_page("/create", locale="te-IN")
    assert page.evaluate("document.documentElement.lang") == "te"
    assert page.text_content("#create-page h1") == "చిత్రాన్ని సృష్టించండి" and page.title().startswith("సృష్టించండి")
    page.select_option("#language", "en")
    page.wait_for_function("() => document.querySelector('#create-page h1').textContent === 'Make a picture'")
    page.reload()
    page.wait_for_function("() => document.querySelector('#create-page h1').textContent === 'Make a picture'")
    page.select_option("#language", "te")
    page.click("nav [data-page=search]")
    settled(page, "చిత్రాలు")
    shot(page, "search-telugu")
    page = open_page("/", locale="te-IN")
    settled(page, "చిత్రాలు")
    still(page)


# --- words


def test_every_language_has_every_word() -> None:
    import json

    english, *others = (json.loads(shipped("strings")[f"{code}.json"].data) for code in ("en", "te"))
    for words in others:
        assert words.keys() == english.keys()
        for key, text in words.items():
            assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", english[key])), key


def test_every_word_that_is_asked_for_is_there() -> None:
    import json

    english = json.loads(shipped("strings")["en.json"].data)
    used = set()
    for file in shipped("static").values():
        text = file.data.decode()
        used |= set(re.findall(r'data-(?:text|label|title|placeholder|drop)="([a-z]+\.[a-z.]+)"', text))
        used |= set(re.findall(r'\bt\(\s*"([a-z.]+)"', text))
    assert len(used) > 80 and not used - english.keys()
