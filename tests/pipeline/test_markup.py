"""Formulas, prose, code and outputs as HTML that loads nothing, and what no report may show."""

import xml.etree.ElementTree as ET

import nbformat
import pandas as pd
import pytest

from lib.pipeline import markup
from lib.pipeline.markup import PageError, formula
from lib.reporting import display as report

M = "{http://www.w3.org/1998/Math/MathML}"


def tree(tex, block=False):
    found = formula(tex, block=block)
    return ET.fromstring(found.removeprefix('<div class="formula">').removesuffix("</div>"))


@pytest.mark.parametrize(
    "tex",
    [
        r"\hat{x}_i = \left[\left(\sum_j K_j F_j^\top\right)^\top K_i - q_i F_i\right] / (c_i + \epsilon)",
        r"D_i = \frac{\lVert W_i \rVert^2}{\sum_j (\hat{W}_i \cdot W_j)^2}",
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"\begin{align} a &= b \\ c &= d \end{align}",
        r"\begin{equation} a = b \label{eq:a} \end{equation}",
        r"f(x) = \begin{cases} 1 & x > 0 \\ 0 & \text{else} \end{cases}",
        r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}",
        r"\mathbb{E}\left[\lVert x - \hat{x} \rVert_2^2\right], \quad \mathcal{J} \subset \mathbf{R}^n",
        r"\operatorname{WAK}(K^\top K), \ \mathrm{FVU}, \ \partial \hat{x}_i / \partial x_i",
        r"\underset{\theta}{\arg\min} \ \mathcal{L}(\theta)",
        r"\log \binom{n}{k} \propto \tilde{p} \odot \bar{q} \mid \theta \sim \mathcal{N}(0, \sigma^2 I)",
        r"K \in [0, 1]^{k \times n}, \quad n \gg 1, \quad a \approx b \neq c \leq d \to \infty",
        r"\prod_{i=1}^n \int_0^1 \sqrt{x} \, dx \ll \max_j |w_j|",
    ],
)
def test_formulas_are_typeset_whole(tex):
    root = tree(tex, block=True)
    assert root.tag == f"{M}math" and root.get("display") == "block"
    assert "\\" not in "".join(root.itertext()) and "&" not in "".join(root.itertext())


def test_aligned_columns_meet_at_the_sign():
    cells = list(tree(r"\begin{aligned} a &= b \\ cc &= d \end{aligned}", True).iter(f"{M}mtd"))
    assert len(cells) == 4
    assert ["right" in c.get("style") for c in cells] == [True, False, True, False]
    assert not any("(1)" in "".join(c.itertext()) for c in cells), "no numbers nobody refers to"


def test_norms_do_not_stretch_over_their_row():
    root = tree(r"\lVert \frac{a}{b} \rVert + |x| + \|y\|")
    bars = [element for element in root.iter() if element.text and element.text in "‖∥|"]
    assert len(bars) == 6
    assert all(bar.tag == f"{M}mi" or bar.get("stretchy") == "false" for bar in bars)


@pytest.mark.parametrize("tex", [r"\notacommand{x}", r"\frac{a}{", r"\begin{nonsense} a & b \end{nonsense}"])
def test_a_formula_that_would_come_out_wrong_is_an_error(tex):
    with pytest.raises(PageError, match="formula"):
        formula(tex)


def test_markdown_has_formulas_headings_and_no_second_h1():
    headings = []
    shown = markup.markdown(
        "# One\n\n## Two of $x$\n\n## Two of $x$\n\ntext $a<b$ text\n\n$$c$$\n\nafter", headings
    )
    assert "<h1" not in shown and "$" not in shown and shown.count("<math") == 4 + 0
    assert [(level, name) for level, name, _ in headings] == [(2, "one"), (2, "two-of"), (2, "two-of-2")]
    assert 'id="two-of-2"' in shown
    assert '<p><div class="formula">' not in shown, "a block does not fit in a paragraph"


def test_wide_tables_of_prose_scroll_in_a_box():
    assert '<div class="scroll" tabindex="0"><table>' in markup.markdown("|a|\n|---|\n|b|\n", [])


def test_code_is_folded_and_escaped():
    shown = markup.code("x = '<b>'\ny = 2")
    assert shown.startswith('<details class="code"><summary>') and "2 lines" in shown and "<b>" not in shown


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", text=text, name=name)


def display(**data):
    return nbformat.v4.new_output("display_data", data={key.replace("__", "/"): v for key, v in data.items()})


def test_plain_outputs():
    assert "&lt;b&gt;" in markup.output(stream("<b>"), [])
    assert "<b>" in markup.output(display(text__html="<b>x</b>", text__plain="x"), [])
    assert "<math" in markup.output(display(text__markdown="$x$"), [])
    assert "<math" in markup.output(display(text__latex="$$x^2$$"), [])
    assert "&lt;C&gt;" in markup.output(display(text__plain="<C>"), [])


def test_captions_are_typeset():
    bundle = {
        "text/html": '<figure class="figure"><img alt="a" src="data:x"><figcaption>old</figcaption></figure>',
        report.FIGURE: {"caption": "New *one* of $x_i$", "alt": "a", "cover": False},
    }
    shown = markup.output(nbformat.v4.new_output("display_data", data=bundle), [])
    assert "New <em>one</em> of <math" in shown and "old" not in shown
    table = '<div class="scroll"><table><caption>of $a &lt; b$</caption><tr><td>$5</td></tr></table></div>'
    shown = markup.output(display(text__html=table), [])
    assert "<caption>of <math" in shown and "<td>$5</td>" in shown


def test_columns_of_words_and_of_an_index_are_marked():
    frame = pd.DataFrame({"n": [5, 11], "verdict": ["kept", "not kept"], "ratio": [2.5, None]})
    frame.index = pd.MultiIndex.from_product([["neox-tiny"], [0, 5]], names=["model", "layer"])
    shown = markup.output(display(text__html=frame.to_html(na_rep="–")), [])
    rows = [[cell.get("class") for cell in row] for row in ET.fromstring(shown).iter("tr")]
    text = "text"
    assert rows[0] == rows[1] == rows[2] == [text, text, None, text, None]
    assert rows[3] == [text, None, text, None]  # the row's model is in the row above


@pytest.mark.parametrize(
    ("out", "why"),
    [
        (stream("UserWarning: careful\n", "stderr"), "wrote to stderr: 'UserWarning"),
        (stream(" 50%|█████     | 5/10 [00:01<00:01,  4.9it/s]"), "progress bar"),
        (nbformat.v4.new_output("error", ename="E", evalue="bad", traceback=[]), "the cell failed: E: bad"),
        (stream("saved to /somewhere/project/x"), "a path of this machine"),
        (display(text__html="<p>/somewhere/project</p>"), "a path of this machine"),
        (display(image__png="aGk=", text__plain="<Figure>"), "without alt text"),
        (display(text__html='<img src="data:image/png;base64,aa">'), "no alt text"),
        (display(text__html='<img alt=" " src="data:image/png;base64,aa">'), "no alt text"),
        (display(text__html='<img alt="x" src="https://example.org/x.png">'), "loaded from elsewhere"),
        (display(text__html='<script src="https://example.org/x.js"></script>'), "loaded from elsewhere"),
        (display(text__html="<link rel=stylesheet href='x.css'>"), "loaded from elsewhere"),
        (
            nbformat.v4.new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}}),
            "widget",
        ),
    ],
)
def test_what_no_report_may_show(out, why):
    with pytest.raises(PageError, match=why):
        markup.output(out, [], paths=("/somewhere/project",))


def test_a_link_is_not_loaded():
    markup.check_loaded(markup.markdown("[there](https://example.org)", []))
