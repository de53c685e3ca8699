"""The rendered pages: what is on them, in what order, and that a browser shows them without a network."""

import re
import shutil

import nbformat
import pytest

from helpers import tiny
from helpers.tiny import run
from lib.pipeline import batch, markup, pages
from lib.reporting import display

ROOT = tiny.ROOT
COMMITTED = sorted((ROOT / "reports" / "full").glob("*.html"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def page(built) -> str:
    return (built / "reports" / "quick" / "shifted.html").read_text()


@pytest.fixture(scope="session")
def index(built) -> str:
    return (built / "reports" / "quick" / "index.html").read_text()


def in_order(text: str, *parts: str) -> bool:
    places = [text.find(part) for part in parts]
    return -1 not in places and places == sorted(places)


def test_the_claims_come_first_and_the_provenance_last(page):
    body = page[page.index("<main") :]
    assert in_order(
        body,
        "<h1>A tiny study of <em>means</em></h1>",
        "Shifted",
        "How large is the mean?",
        "It has a second sentence.",
        'id="claim-tiny-mean"',
        "Show all code",
        '<h2 id="method">Method</h2>',
        '<h3 id="a-closer-look">',
        "<figure",
        'id="provenance"',
        "Run it yourself",
    )
    assert page.count("<h1") == 1
    assert page.count("It has a second sentence.") == 2, "the answer stands once, and in the cell's code"
    assert page.count('id="claim-tiny-big"') == 1 and page.count("source digest") == 1
    assert 'href="#claims"' in page and 'href="#provenance"' in page


def test_contents_link_every_heading(page):
    for name in re.findall(r'<h[23] id="([^"]+)"', page):
        if name not in ("claims-title", "provenance-title"):
            assert page.count(f'href="#{name}"') == 2, "beside the text, and folded"


def test_links_beside_the_page(page, built):
    folder = built / "reports" / "quick"
    for link in re.findall(r'href="([^"#]+)"', page):
        assert link == "data:," or (folder / link).exists(), link
    assert 'href="shifted.ipynb"' in page and 'href="../../notebooks/tiny.py"' in page


def test_nothing_is_loaded_and_nothing_tells_of_the_machine(page, index, built):
    for text in (page, index):
        markup.check_loaded(text)
        assert str(built) not in text and "http://www.w3.org/1998/Math/MathML" in text
        assert not re.findall(r"https?://(?!www\.w3\.org)", text)


def test_formulas_leave_no_tex(page):
    shown = re.sub(r'<details class="code">.*?</details>|<style>.*?</style>', "", page, flags=re.S)
    shown = re.sub(r'"data:[^"]*"', "", shown)
    assert "$" not in shown and "\\" not in shown
    assert shown.count("<math") >= 8 and 'display="block"' in shown


def test_verdicts_have_words_and_shapes(page):
    assert '<span class="chip supported"><span aria-hidden="true">●</span> supported</span>' in page
    assert '<span class="chip contradicted"><span aria-hidden="true">✕</span> contradicted</span>' in page


def test_the_index_has_studies_and_the_whole_ledger(index):
    assert in_order(index, 'id="run-tiny"', 'id="run-shifted"', "The ledger of claims", "Author 2024")
    assert index.count("How large is the mean?") == 2 and "It has a second sentence." not in index
    assert 'href="tiny.html#claim-tiny-mean"' in index
    assert "1 supported, 1 contradicted" in index
    assert "There are no medians here." in index and "not tested" in index
    assert "<dt>shift</dt><dd>2.5</dd>" in index
    assert index.count("<img") == 2 and "Out of date" not in index and "There is no report" not in index


def spoil(built, tmp_path, change):
    notebook = nbformat.read(built / "reports" / "quick" / "tiny.ipynb", as_version=4)
    change(notebook)
    nbformat.write(notebook, tmp_path / "tiny.ipynb")
    return tmp_path / "tiny.ipynb"


def without(mime):
    def change(notebook):
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [out for out in cell.outputs if mime not in out.get("data", {})]

    return change


@pytest.mark.parametrize("mime", [display.CLAIMS, display.PROVENANCE])
def test_a_notebook_without_claims_or_provenance_is_no_report(built, tmp_path, mime):
    with pytest.raises(markup.PageError, match=r"tiny\.ipynb: shows no"):
        pages.read(spoil(built, tmp_path, without(mime)))


def test_a_warning_stops_the_page_and_leaves_the_older_one(built, tmp_path):
    def warn(notebook):
        notebook.cells[3].outputs = [nbformat.v4.new_output("stream", name="stderr", text="Warning: x")]

    executed = spoil(built, tmp_path, warn)
    older = tmp_path / "tiny.html"
    older.write_text("older")
    with pytest.raises(markup.PageError, match=r"tiny\.ipynb, cell 4: the cell wrote to stderr"):
        pages.render(executed, older, batch.Run("quick", "tiny", "tiny"))
    assert older.read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.ipynb", "tiny.html"}


def test_a_page_says_what_its_notebook_was_made_from(built, tmp_path):
    """Not what the sources are now: a stale notebook rendered again is still stale."""

    def age(notebook):
        notebook.metadata[batch.RECORD]["digest"] = "of yore"

    pages.render(spoil(built, tmp_path, age), tmp_path / "tiny.html", batch.Run("quick", "tiny", "tiny"))
    assert batch.page_digest(tmp_path / "tiny.html") == batch.render_digest("of yore")


def test_the_index_links_notes_where_there_are_any(bare):
    output = bare / "reports" / "quick" / "index.html"
    pages.index("quick", batch.load(), output)
    assert "NOTES.md" not in output.read_text()
    (output.parent / "NOTES.md").write_text("# Notes")
    pages.index("quick", batch.load(), output)
    assert '<a href="NOTES.md">' in output.read_text()


@pytest.mark.parametrize(("seconds", "shown"), [(3.4, "3 s"), (75, "1 min 15 s"), (3725, "1 h 2 min")])
def test_durations(seconds, shown):
    assert pages._duration(seconds) == shown


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_committed_pages_are_small(path):
    assert path.stat().st_size < 3e6


def test_the_command_line_says_what_is_wrong_in_one_line(built):
    done = run(built, "python", "-m", "lib.pipeline.pages", "render", "--run", "nobody", check=False)
    assert done.returncode == 1 and done.stderr == "no run 'nobody' in batch quick\n"


# --- in a browser -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the PATH")
    from playwright.sync_api import sync_playwright

    flags = "no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[f"--{flag}" for flag in [*flags.split(), "disable-sync"]]
        )
        yield launched
        launched.close()


def look(browser, path, width=1280, scheme="light"):
    """The page as a browser shows it, and everything that went wrong on the way."""
    shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wrong = []
    shown.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    shown.on(
        "request",
        lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(f"requested: {r.url}"),
    )
    shown.goto(path.as_uri(), wait_until="load")
    return shown, wrong


@pytest.mark.browser
@pytest.mark.parametrize("name", ["shifted", "index", *(path.name for path in COMMITTED)])
def test_in_a_browser(browser, built, name):
    path = built / "reports" / "quick" / f"{name}.html"
    path = path if path.exists() else ROOT / "reports" / "full" / name
    colours = {}
    for scheme in ("light", "dark"):
        for width in (1280, 390):
            shown, wrong = look(browser, path, width, scheme)
            assert not wrong
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            colours[scheme] = shown.evaluate("getComputedStyle(document.body).backgroundColor")
            assert shown.locator("h1").count() == 1
            alts = shown.locator("img").evaluate_all("found => found.map(img => img.alt.trim())")
            loaded = shown.locator("img").evaluate_all("found => found.every(img => img.naturalWidth > 0)")
            assert alts and all(alts) and loaded
            shown.close()
    assert colours["light"] != colours["dark"]


@pytest.mark.browser
def test_formulas_and_folds_in_a_browser(browser, built):
    shown, wrong = look(browser, built / "reports" / "quick" / "shifted.html", 390)
    box = shown.locator("math[display=block]").first.bounding_box()
    assert box["width"] > 60 and box["height"] > 30, "a fraction is taller than a line"
    assert shown.locator("mfrac").count() >= 2
    code = shown.locator("details.code pre").first
    assert not code.is_visible()
    shown.get_by_role("button", name="Show all code").click()
    assert code.is_visible()
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390, "nor when the code is open"
    shown.get_by_role("button", name="Hide all code").click()
    assert not code.is_visible() and not wrong


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["shifted", "index"])
def test_text_stands_out(browser, built, name, scheme):
    """WCAG AA: 4.5 to 1 for every piece of text against the background it stands on."""
    shown, _ = look(browser, built / "reports" / "quick" / f"{name}.html", 1280, scheme)
    shown.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert shown.evaluate(FAINTEST) == []


FAINTEST = """
() => {
  const parse = c => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
    const v = c[i] / 255; return sum + w * (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); }, 0);
  const ground = e => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c; } return [255, 255, 255, 1]; };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || !e.checkVisibility() || e.closest('script,style,.skip')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${e.className} ${text.slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)];
}
"""
