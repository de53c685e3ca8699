"""The parts of a notebook as HTML that needs nothing from a network: prose, formulas, code and outputs."""

import html
import re
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from nbconvert.filters import ansi2html
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from lib.common.errors import UserError
from lib.common.files import ROOT
from lib.reporting import display

MATHML = "http://www.w3.org/1998/Math/MathML"
# What only a running kernel's environment can show, or what was meant for somebody watching the run.
RESIDUE = re.compile(r"\d+%\|[^|\n]*\||\[\d\d:\d\d<|it/s\]|\bs/it\]")
LOADED = re.compile(
    r"""<(?:img|script|link|iframe|video|audio|source|object)\b[^>]*\b(?:src|href)=["'](?!data:)"""
)

WORD = re.compile(r"[^\W\d_]{2}")


class PageError(UserError, ValueError):
    """A notebook that can't become a page as it is; says which cell and why."""


def formula(tex: str, *, block: bool = False) -> str:
    """LaTeX as MathML. Raises PageError, with the formula, on what would not be typeset correctly."""
    # The converter knows align*, not the environments that do the same within a formula.
    source = re.sub(r"\\(begin|end)\{(?:aligned|split|align|eqnarray)\*?\}", r"\\\1{align*}", tex.strip())
    source = re.sub(r"\\(begin|end)\{gathered\}", r"\\\1{gather*}", source)
    source = re.sub(r"\\(begin|end)\{equation\*?\}|\\(?:label|nonumber|notag)\b(?:\{[^}]*\})?", "", source)
    source = re.sub(r"\\arg(?![a-z])", r"\\operatorname{arg}", source)
    source = re.sub(r"\\[lr]Vert(?![a-z])", "‖", re.sub(r"\\[lr]vert(?![a-z])", "|", source))
    ET.register_namespace("", MATHML)
    try:
        root = ET.fromstring(convert(source, display="block" if block else "inline"))
    except Exception as error:
        raise PageError(f"formula {tex.strip()!r}: {type(error).__name__}: {error}") from None
    for element in root.iter():
        if re.search(r"\\|&", element.text or ""):
            raise PageError(f"formula {tex.strip()!r}: can't typeset {element.text!r}")
        # MathML Core, which is what browsers draw, leaves the alignment of columns to CSS.
        if align := element.attrib.pop("columnalign", None):
            inner = {"right": ";padding-right:0", "left": ";padding-left:0"}.get(align, "")
            element.set("style", f"text-align:{align}{inner}")
        # Bars of norms would stretch over their row, and infinity be spaced like an operator.
        if element.tag.endswith("}mo") and element.text in ("|", "‖", "∥") and "fence" not in element.attrib:
            element.attrib |= {"stretchy": "false", "lspace": "0", "rspace": "0"}
        if element.tag.endswith("}mo") and element.text in ("∞", "∂"):
            element.tag = element.tag[:-1] + "i"
    markup = ET.tostring(root, encoding="unicode")
    return f'<div class="formula">{markup}</div>' if block else markup


def typeset(markup: str) -> str:
    """HTML with its $formulas$ as MathML."""
    return re.sub(r"\$([^$]+)\$", lambda match: formula(html.unescape(match.group(1))), markup)


def inline(text: str) -> str:
    """Inline Markdown, formulas included, as HTML."""
    return typeset(display.inline(text))


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown with MathML, headings that a table of contents can link, and no loaded images."""

    def __init__(self, headings: list[tuple[int, str, str]], **options: Any):
        super().__init__(escape=False, exclude_anchor_links=True, embed_images=True, **options)
        self.headings = headings

    def heading(self, text: str, level: int, **attributes: Any) -> str:
        level = max(level, 2)  # the page's title is its only h1
        plain = html.unescape(re.sub(r"<math.*?</math>|<[^>]+>", "", text))
        slug = re.sub(r"\W+", "-", plain.lower()).strip("-") or "section"
        taken = {name for _, name, _ in self.headings}
        name = next(n for n in (slug, *(f"{slug}-{i}" for i in range(2, 999))) if n not in taken)
        self.headings.append((level, name, text))
        return f'<h{level} id="{name}">{text}</h{level}>\n'

    def table(self, text: str) -> str:
        return f'<div class="scroll" tabindex="0"><table>{text}</table></div>\n'

    def block_math(self, body: str) -> str:
        return formula(body, block=True)

    def multiline_math(self, text: str) -> str:
        return formula(text, block=True)

    def latex_environment(self, name: str, body: str) -> str:
        return formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

    def inline_math(self, body: str) -> str:
        return formula(body)


def markdown(source: str, headings: list[tuple[int, str, str]], attachments: dict | None = None) -> str:
    """A Markdown cell as HTML; adds its headings, as (level, id, text), to `headings`."""
    renderer = _Renderer(headings, attachments=attachments or {})
    body = MarkdownWithMath(renderer=renderer).render(source)
    # A display formula is a block, which a paragraph can't hold.
    parts = re.split(r'(<div class="formula">.*?</div>)', body, flags=re.S)
    if len(parts) == 1:
        return body
    joined = "".join(f"</p>{part}<p>" if part.startswith('<div class="formula">') else part for part in parts)
    return re.sub(r"<p>\s*</p>", "", joined)


def code(source: str) -> str:
    """A code cell, folded, with its length in the control."""
    lines = len(source.splitlines())
    shown = highlight(source, get_lexer_by_name("ipython3"), HtmlFormatter(cssclass="highlight"))
    plural = "" if lines == 1 else "s"
    return (
        f'<details class="code"><summary>Code <span class="faint">{lines} line{plural}</span></summary>'
        f'<div class="scroll" tabindex="0">{shown}</div></details>'
    )


@cache
def code_style() -> str:
    """The colours of code, light and dark."""
    light = HtmlFormatter(style="xcode").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"


def output(out: Any, headings: list[tuple[int, str, str]], paths: tuple[str, ...] = ()) -> str:
    """One output of a cell as HTML; figures and tables with their captions typeset.

    Raises PageError on what no report may show: errors, anything on stderr, progress bars, widgets, images
    without alt text, things loaded from elsewhere, and any of `paths`.
    """
    if out.output_type == "error":
        raise PageError(f"the cell failed: {out.ename}: {out.evalue}")
    if out.output_type == "stream":
        if out.name == "stderr":
            raise PageError(f"the cell wrote to stderr: {out.text.strip()[:200]!r}")
        _clean(out.text, paths)
        return f'<pre class="scroll" tabindex="0">{ansi2html(out.text)}</pre>'
    data = out.data
    if any("widget" in mime for mime in data):
        raise PageError("the cell shows a widget, which no page can")
    for mime in ("text/html", "text/markdown", "text/plain"):
        _clean(data.get(mime, ""), paths)
    if display.FIGURE in data:
        about = data[display.FIGURE]
        caption = f"<figcaption>{inline(about['caption'])}</figcaption>"
        shown = re.sub(r"<figcaption>.*?</figcaption>", lambda _: caption, data["text/html"], flags=re.S)
    elif "text/html" in data:
        shown = re.sub(
            r"<caption>.*?</caption>",
            lambda match: typeset(match[0]),
            _aligned(data["text/html"]),
            flags=re.S,
        )
        if not shown.lstrip().startswith('<div class="scroll"'):
            shown = f'<div class="scroll">{shown}</div>'
        shown = shown.replace('<div class="scroll"', '<div class="scroll" tabindex="0"', 1)
    elif "text/markdown" in data:
        shown = markdown(data["text/markdown"], headings)
    elif "text/latex" in data:
        shown = formula(data["text/latex"].strip().strip("$"), block=True)
    elif any(mime.startswith("image/") for mime in data):
        raise PageError("the cell shows an image without alt text: use display.figure")
    else:
        shown = f'<pre class="scroll" tabindex="0">{html.escape(data.get("text/plain", ""))}</pre>'
    check_loaded(shown)
    return f'<div class="output">{shown}</div>'


def check_loaded(markup: str) -> None:
    """Raises PageError where HTML has an image without alt text or loads anything."""
    for image in re.findall(r"<img\b[^>]*>", markup):
        if not re.search(r'\balt="[^"]*[^"\s]', image):
            raise PageError("an image has no alt text")
    if found := LOADED.search(markup):
        raise PageError(f"something would be loaded from elsewhere: {found.group(0)[:80]}...")


def machine_paths() -> tuple[str, ...]:
    """The paths that would give the machine away: the project's and the home of whoever ran it."""
    home = str(Path.home())
    return (str(ROOT), *((f"{home}/",) if len(home) > 1 else ()))


def _aligned(markup: str) -> str:
    """pandas tables with the class `text` on columns of words and of an index, which the style sheet aligns left."""
    soup = BeautifulSoup(markup, "html.parser")
    for table in soup.select("table.dataframe"):
        rows = [row.find_all("td") for row in table.select("tbody tr")]
        words = [any(WORD.search(cell.text) for cell in column) for column in zip(*rows, strict=True)]
        for row in table.find_all("tr"):
            cells = row.find_all(["th", "td"])
            for place, cell in enumerate(cells, start=len(words) - len(cells)):
                if place < 0 or words[place]:
                    cell["class"] = "text"
    return str(soup)


def _clean(text: str, paths: tuple[str, ...]) -> None:
    text = re.sub(r'"data:[^"]*"', "", text)
    if found := RESIDUE.search(text):
        raise PageError(f"the cell shows what is left of a progress bar: {found.group(0)[:60]!r}")
    for path in paths:
        if path in text:
            raise PageError(f"the cell shows a path of this machine: {path}")
