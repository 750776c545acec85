"""The page of a comparison, as text and as a real browser shows it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium, find_chromium
from synthetic_runs import write_sweep

from fastrl.compare import compare
from fastrl.compare_figures import figures
from fastrl.compare_page import inline_svg, page
from fastrl.machine import provenance

NASTY = "<script>alert('x')</script> & co"
WIDTHS = {"phone": 390, "small phone": 320, "tablet": 800, "desktop": 1280}


def write_page(folder: Path, *, variants: int, rename: str, **grid: Any) -> Path:
    """The page of a sweep whose last variant is renamed; with two seeds, so that it warns."""
    sweep = write_sweep(folder / "sweep", seeds=2, variants=variants, num_games=60, **grid)
    record = json.loads((sweep / "sweep.json").read_text())
    last = record["runs"][-1]["variant"]
    for run in record["runs"]:
        if run["variant"] == last:
            run["variant"] = rename
    (sweep / "sweep.json").write_text(json.dumps(record))
    found = compare([sweep])
    path = folder / "index.html"
    path.write_text(page(found, figures(found), provenance(f"fastrl compare {NASTY}")), "utf-8")
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three variants, one with a name that no page should run."""
    return write_page(tmp_path_factory.mktemp("few"), variants=3, rename=NASTY)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine variants: more than there are colours."""
    return write_page(
        tmp_path_factory.mktemp("many"),
        variants=9,
        rename="variance-lambda-ensemble",
        games=("Breakout",),
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    binary = find_chromium()
    if binary is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with Chromium(binary, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_the_page_needs_nothing_but_itself(few: Path) -> None:
    text = few.read_text(encoding="utf-8")

    links = re.findall(r'(?:src|href)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert links
    assert {link for link in links if not link.startswith(("#", "data:"))} == set()
    assert not re.search(r"<script|@import|<iframe|<img|\son\w+=", text)
    assert len(text) < 400_000


def test_the_page_is_for_phones_and_for_readers_who_do_not_see_it(few: Path) -> None:
    text = few.read_text(encoding="utf-8")

    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "prefers-color-scheme: dark" in text
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', text)
    assert len(labels) == text.count("<figure>") > 15
    assert any("variance-lambda 0." in label and "ppo 0." in label for label in labels)
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    assert used <= set(ids)


def test_warnings_come_before_results(few: Path) -> None:
    text = few.read_text(encoding="utf-8")

    assert text.index("fewer than 3 seeds") < text.index('class="conclusion"')


def test_names_are_text_and_not_markup(few: Path) -> None:
    text = few.read_text(encoding="utf-8")

    assert NASTY not in text
    assert "&lt;script&gt;" in text


def test_a_pictures_text_keeps_its_numbers() -> None:
    svg = (
        '<?xml version="1.0"?><svg viewBox="0 0 9 9"><metadata>x</metadata><defs>'
        '<path id="a" d="M1.2345 -0.04"/></defs><g id="unused"><use href="#a"/>'
        '<text style="font: 9px x; fill: #1b1f24">0.123</text></g></svg>'
    )

    small = inline_svg(svg, prefix="p-", alt='a "b"')

    assert '<svg role="img" aria-label="a &quot;b&quot;" viewBox="0 0 9 9"' in small
    assert '<path id="p-a" d="M1.2 -0"/>' in small
    assert '<use href="#p-a"/>' in small
    assert '<text style="font-size: 9px; fill: var(--ink)">0.123</text>' in small
    assert "unused" not in small


LAYOUT = """(() => {
  const box = element => element.getBoundingClientRect();
  const texts = [...document.querySelectorAll("figure svg text")];
  const outside = texts.filter(text => {
    const inner = box(text), outer = box(text.closest("figure"));
    return inner.left < outer.left || inner.right > outer.right
        || inner.top < outer.top || inner.bottom > outer.bottom;
  });
  const size = text => parseFloat(getComputedStyle(text).fontSize)
    * box(text.ownerSVGElement).width / text.ownerSVGElement.viewBox.baseVal.width;
  return {
    page: document.documentElement.scrollWidth,
    window: innerWidth,
    outside: outside.map(text => text.textContent),
    smallest: Math.min(...texts.map(size)),
    tables: [...document.querySelectorAll(".scroll")].map(
      scroll => [scroll.scrollWidth, scroll.clientWidth]),
  };
})()"""


@pytest.mark.parametrize("which", ["few", "many"])
@pytest.mark.parametrize(("name", "dark"), [*((name, False) for name in WIDTHS), ("phone", True)])
def test_a_browser_shows_the_page(
    browser: Chromium,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    name: str,
    dark: bool,
    which: str,
) -> None:
    path = request.getfixturevalue(which)
    browser.open(path.as_uri(), width=WIDTHS[name], height=800, dark=dark)

    layout = browser.evaluate(LAYOUT)
    shot = tmp_path / f"{name}{'-dark' * dark}-{which}.png"
    browser.screenshot(shot)

    methods = [event["method"] for event in browser.events]
    requests = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert not {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"} & {
        *methods
    }
    assert layout["window"] == WIDTHS[name]
    assert layout["page"] <= layout["window"]
    assert layout["outside"] == []
    assert layout["smallest"] > (7.5 if name == "small phone" else 9.0)
    if WIDTHS[name] < 600:  # Wide tables scroll in their own box.
        assert any(inside > shown for inside, shown in layout["tables"])
    assert shot.read_bytes().startswith(b"\x89PNG")


def test_the_browser_notices_what_must_not_be(browser: Chromium, tmp_path: Path) -> None:
    """The page test can fail: an error, a request and an overflow are seen."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<div style="width: 2000px">x</div><img src="missing.png"><script>nope()</script>'
    )

    browser.open(bad.as_uri(), width=390, height=800)
    wide = browser.evaluate("document.documentElement.scrollWidth")

    methods = [event["method"] for event in browser.events]
    assert wide > 390
    assert methods.count("Network.requestWillBeSent") == 2
    assert "Runtime.exceptionThrown" in methods
