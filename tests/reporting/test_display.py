"""What a notebook shows: one output each, with the content itself beside the HTML."""

import base64
import io
import json
import re
import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from helpers import tiny
from lib.reporting import claims, display, staleness


@pytest.fixture
def shown(monkeypatch):
    """What was displayed, in order."""
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(tiny.CLAIMS))
    return path


def line():
    fig, ax = plt.subplots()
    ax.plot([1, 2, 3])
    return fig


def test_a_figure_is_one_output_and_is_closed(shown):
    display.style()
    fig = line()
    display.figure(fig, "A *line* of $x < y$ & `code`", 'It "rises"', cover=True)
    (bundle,) = shown
    assert bundle[display.FIGURE] == {
        "alt": 'It "rises"',
        "caption": "A *line* of $x < y$ & `code`",
        "cover": True,
    }
    markup = bundle["text/html"]
    assert 'alt="It &quot;rises&quot;"' in markup
    assert "<figcaption>A <em>line</em> of $x &lt; y$ &amp; <code>code</code></figcaption>" in markup
    assert bundle["text/plain"].startswith("A *line*")
    assert not plt.fignum_exists(fig.number)
    data = re.search(r"base64,([^\"]+)", markup).group(1)
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == "PNG" and image.width > 800


@pytest.mark.parametrize("words", [("", "alt"), ("caption", " ")])
def test_a_figure_needs_words(words):
    fig = line()
    with pytest.raises(ValueError, match="caption and an alt"):
        display.figure(fig, *words)
    plt.close(fig)


def test_images_lose_colours_only_where_nobody_sees_it():
    display.style()
    few = line()
    small = Image.open(io.BytesIO(display._png(few)))
    assert small.mode == "P"
    fig, ax = plt.subplots()
    ax.imshow(np.random.default_rng(0).random((64, 64, 3)), interpolation="bicubic")
    full = Image.open(io.BytesIO(display._png(fig)))
    assert full.mode == "RGB"
    plt.close("all")


def test_a_table_escapes_and_rounds(shown):
    frame = pd.DataFrame({"<b>": [1 / 3, 12345.678, np.nan], "n": [1, 2, 3], "t": ["a&b", "<i>", ""]})
    display.table(frame, "Thirds of $x$")
    (bundle,) = shown
    markup = bundle["text/html"]
    assert "&lt;b&gt;" in markup and "&lt;i&gt;" in markup and "<i>" not in markup
    assert "0.333" in markup and "12346" in markup and "–" in markup
    assert (
        markup.startswith('<div class="scroll"') and "<caption><span>Thirds of $x$</span></caption>" in markup
    )
    assert "Thirds" in bundle["text/plain"]
    with pytest.raises(ValueError, match="caption"):
        display.table(frame, "")


def verdicts(ledger):
    known = claims.load(ledger)
    return [claims.judge(known[name], [1.0, 2.0]) for name in ("tiny-big", "tiny-mean")]


def test_claims_carry_all_a_page_needs(shown, ledger):
    display.claims(verdicts(ledger), answer="Small.", question="How large?", path=ledger)
    content = json.loads(json.dumps(shown[0][display.CLAIMS]))
    assert content["question"] == "How large?" and content["answer"] == "Small."
    assert [v["claim"] for v in content["verdicts"]] == ["tiny-mean", "tiny-big"], "in the ledger's order"
    first = content["verdicts"][0]
    assert first["statement"] == "The mean of $x$ is at least $0$." and first["source"] == "Author 2024"
    assert first["rule"]["bounds"] == "≥ 0" and first["mean"] == 1.5 and first["n"] == 2
    assert "inconclusive" in shown[0]["text/html"] and "contradicted" in shown[0]["text/plain"]


def test_every_claim_of_a_study_must_be_judged(ledger):
    with pytest.raises(ValueError, match="without a verdict: tiny-mean"):
        display.claims(verdicts(ledger)[:1], answer="a", question="q", path=ledger)
    stranger = claims.Verdict("nobody", "supported", 2, 1.0)
    with pytest.raises(ValueError, match="doesn't have: nobody"):
        display.claims([*verdicts(ledger), stranger], answer="a", question="q", path=ledger)
    untested = claims.Verdict("tiny-untested", "supported", 2, 1.0)
    with pytest.raises(ValueError, match="other studies"):
        display.claims([*verdicts(ledger), untested], answer="a", question="q", path=ledger)
    with pytest.raises(ValueError, match="answer"):
        display.claims(verdicts(ledger), answer=" ", question="q", path=ledger)


def test_provenance_says_what_was_used(shown, bare):
    from types import SimpleNamespace

    p = SimpleNamespace(seeds=3, dataset="digits")
    display.provenance(p, notebook="tiny", data={"name": "digits"}, seeds=[0, 1], started=display.clock() - 5)
    record = json.loads(json.dumps(shown[0][display.PROVENANCE]))
    assert set(record) == set(display.PROVENANCE_KEYS)
    assert record["parameters"] == {"seeds": 3, "dataset": "digits"}
    assert record["source digest"] == staleness.digest("tiny", bare)
    assert 4 < record["duration"] < 30 and record["versions"]["numpy"] == np.__version__
    assert str(bare) not in json.dumps(shown[0])


def test_the_commit_says_whether_it_is_all(bare):
    assert display._commit() == "not a git checkout"
    for command in (
        "init -q",
        "add .",
        "-c user.name=a -c user.email=a@b -c commit.gpgsign=false commit -qm x",
    ):
        subprocess.run(["git", *command.split()], cwd=bare, check=True)
    clean = display._commit()
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (bare / "lib" / "claims.py").write_text("# changed")
    assert display._commit() == f"{clean} with changes that are not committed"


def test_inline_markdown_leaves_formulas_alone():
    assert display.inline("*a* **b** `c*d*` $e*f*g$ 2 * 3 * 4") == (
        "<em>a</em> <strong>b</strong> <code>c*d*</code> $e*f*g$ 2 * 3 * 4"
    )
    assert display.inline("<script>") == "&lt;script&gt;"


def test_every_status_has_a_shape_of_its_own():
    assert set(display.SYMBOLS) == set(claims.STATUSES) and len(set(display.SYMBOLS.values())) == 4
