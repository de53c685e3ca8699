"""What a notebook shows: figures, tables, the claims and where the numbers came from.

Each call makes one output: HTML for JupyterLab, plain text, and, for the page rendered from the
executed notebook, the content itself under a MIME type of our own. That output is the only record; nothing is
written beside it.
"""

import base64
import html
import io
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from lib.common.files import ROOT
from lib.reporting import claims as ledger
from lib.reporting import staleness

FIGURE = "application/vnd.superposition-studies.figure+json"
CLAIMS = "application/vnd.superposition-studies.claims+json"
# In this order; a notebook's JSON sorts its keys.
PROVENANCE_KEYS = (
    "parameters",
    "seeds",
    "data",
    "commit",
    "source digest",
    "versions",
    "hardware",
    "duration",
    "date",
)
PROVENANCE = "application/vnd.superposition-studies.provenance+json"

# Okabe and Ito's colours, told apart by colour-blind readers; the yellow last, as it is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
# The shape says what the colour says.
SYMBOLS = {"supported": "●", "contradicted": "✕", "inconclusive": "◐", "not tested": "○"}


def style() -> None:
    """matplotlib's defaults for a report: legible at the width of a page, and on a phone."""
    import matplotlib as mpl

    mpl.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.edgecolor": "#555555",
            "axes.grid": True,
            "axes.labelsize": 11,
            "axes.prop_cycle": mpl.cycler(color=COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 12,
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.figsize": (8, 4.2),
            "font.size": 11,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "image.cmap": "viridis",
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "savefig.dpi": 160,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
        }
    )


def figure(fig, caption: str, alt: str, *, cover: bool = False, width: int | None = None) -> None:
    """Shows a matplotlib figure with its caption, and closes it; `width` in CSS pixels caps its size.

    The caption is inline Markdown (*em*, `code`, $math$); `alt` says in words what is seen. `cover` marks the
    figure that stands for the study on the index. Raises ValueError if caption or alt is empty.
    """
    import matplotlib.pyplot as plt

    if not caption.strip() or not alt.strip():
        raise ValueError("a figure needs a caption and an alt text")
    data = base64.b64encode(_png(fig)).decode()
    size = f' style="max-width:min(100%,{width}px)"' if width else ' style="max-width:100%"'
    markup = (
        f'<figure class="figure"><img alt="{html.escape(alt)}"{size} src="data:image/png;base64,{data}">'
        f"<figcaption>{inline(caption)}</figcaption></figure>"
    )
    plt.close(fig)
    _show(markup, caption, FIGURE, {"alt": alt, "caption": caption, "cover": cover})


def table(frame, caption: str, *, digits: int = 3) -> None:
    """Shows a pandas table with `digits` significant digits; a wide one scrolls in a box of its own."""
    if not caption.strip():
        raise ValueError("a table needs a caption")

    def shown(value: float) -> str:
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"

    body = frame.to_html(border=0, escape=True, float_format=shown, na_rep="–")
    body = body.replace(">\n", f">\n<caption><span>{inline(caption)}</span></caption>\n", 1)
    plain = f"{caption}\n\n{frame.to_string(float_format=shown, na_rep='–')}"
    _show(f'<div class="scroll" style="overflow-x:auto">{body}</div>', plain)


def claims(verdicts: Iterable[ledger.Verdict], *, answer: str, question: str, path=None) -> None:
    """Shows the study's question, its answer in a paragraph, and the verdict on each of its claims.

    Raises ValueError if a claim that the ledger (claims.yaml, or `path`) gives to this study has no
    verdict, or a verdict no claim.
    """
    verdicts = {verdict.claim: verdict for verdict in verdicts}
    if not question.strip() or not answer.strip() or not verdicts:
        raise ValueError("the claims table needs a question, an answer and verdicts")
    known = ledger.load(path)
    if strangers := [name for name in verdicts if name not in known]:
        raise ValueError(f"verdicts on claims that the ledger doesn't have: {', '.join(strangers)}")
    studies = {known[name].study for name in verdicts}
    if len(studies) > 1 or None in studies:
        raise ValueError(f"verdicts on claims of other studies: {', '.join(sorted(map(str, studies)))}")
    ours = [claim for claim in known.values() if claim.study in studies]
    if missing := [claim.id for claim in ours if claim.id not in verdicts]:
        raise ValueError(f"claims of this study without a verdict: {', '.join(missing)}")
    records = [_record(claim, verdicts[claim.id]) for claim in ours]
    rows = "".join(
        f"<tr><td>{SYMBOLS[r['status']]} {r['status']}</td>"
        f"<td style='text-align:left'>{inline(r['statement'])}</td>"
        f"<td>{verdicts[r['claim']].interval}</td><td>{r['n']}</td>"
        f"<td>{html.escape(r['rule']['statistic'])} {r['rule']['bounds']}</td></tr>"
        for r in records
    )
    markup = (
        f"<p><strong>{inline(question)}</strong></p><p>{inline(answer)}</p>"
        '<div class="scroll" style="overflow-x:auto"><table><thead><tr><th>verdict</th><th>claim</th>'
        "<th>estimate [95%]</th><th>n</th><th>supported if</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
    lines = [f"{r['status']:>12}  {verdicts[r['claim']].interval}  {r['statement']}" for r in records]
    plain = "\n".join([question, answer, "", *lines])
    _show(markup, plain, CLAIMS, {"question": question, "answer": answer, "verdicts": records})


def clock() -> float:
    """The time at which a run starts, for `provenance`."""
    return time.time()


def provenance(p, *, notebook: str, data: Mapping[str, Any], seeds: str | list, started: float) -> None:
    """Shows what a run was made of: parameters, seeds, code, data (name, sha256, ...), versions, machine."""
    record = {
        "parameters": dict(vars(p)),
        "seeds": seeds,
        "commit": _commit(),
        "source digest": staleness.digest(notebook),
        "data": dict(data),
        "versions": _versions(),
        "hardware": _hardware(),
        "duration": round(time.time() - started, 1),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    rows = [(key, flat(record[key])) for key in PROVENANCE_KEYS]
    body = "".join(f"<tr><th>{key}</th><td>{html.escape(value)}</td></tr>" for key, value in rows)
    plain = "\n".join(f"{key}: {value}" for key, value in rows)
    _show(f"<table><tbody>{body}</tbody></table>", plain, PROVENANCE, record)


def inline(text: str) -> str:
    """Inline Markdown (*em*, **strong**, `code`) as HTML, escaped; $math$ is left for whoever typesets it."""
    pieces = re.split(r"(\$[^$]+\$|`[^`]+`)", text.strip())
    for i, piece in enumerate(pieces):
        escaped = html.escape(piece, quote=False)
        if i % 2 == 0:
            escaped = re.sub(r"\*\*(\S(?:.*?\S)?)\*\*", r"<strong>\1</strong>", escaped, flags=re.S)
            escaped = re.sub(r"\*(\S(?:.*?\S)?)\*", r"<em>\1</em>", escaped, flags=re.S)
        elif piece.startswith("`"):
            escaped = f"<code>{escaped[1:-1]}</code>"
        pieces[i] = escaped
    return "".join(pieces)


def _show(markup: str, plain: str, mime: str | None = None, content: Any = None) -> None:
    from IPython.display import display

    bundle = {"text/html": markup, "text/plain": plain}
    display(bundle | ({mime: content} if mime else {}), raw=True)


def _record(claim: ledger.Claim, verdict: ledger.Verdict) -> dict[str, Any]:
    # The claim goes with its verdict, so that a page needs nothing but the notebook it is rendered from.
    rule = {key: getattr(claim.rule, key) for key in ("statistic", "unit", "control", "bounds")}
    about = {"statement": claim.statement, "where": claim.where, "source": claim.source.cite, "rule": rule}
    return {**verdict.to_dict(), **about}


def _png(fig) -> bytes:
    from PIL import Image, ImageChops, ImageStat

    raw = io.BytesIO()
    fig.savefig(raw, format="png", bbox_inches="tight", facecolor="white")
    image = Image.open(raw).convert("RGB")
    # 256 colours are a third of the bytes; photographs and smooth maps that would show it keep theirs.
    few = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    error = ImageStat.Stat(ImageChops.difference(image, few.convert("RGB")))
    best = io.BytesIO()
    small = max(error.rms) < 2.5 and max(high for _, high in error.extrema) < 40
    (few if small else image).save(best, format="png", optimize=True)
    return best.getvalue()


def _commit() -> str:
    def git(*args: str) -> str:
        run = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--", "lib", "notebooks/*.py", "claims.yaml", "batches.yaml")
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return f"{commit} with changes that are not committed" if changed else commit


def _versions() -> dict[str, str]:
    known = (
        "torch",
        "numpy",
        "scipy",
        "pandas",
        "sklearn",
        "matplotlib",
        "tokenizers",
        "transformers",
        "transformer_lens",
    )
    packages = {"sklearn": "scikit-learn", "transformer_lens": "transformer-lens"}
    loaded = [packages.get(name, name) for name in known if name in sys.modules]
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in loaded}


def _hardware() -> str:
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as cpus:
            model = next((line.split(":", 1)[1].strip() for line in cpus if "model name" in line), model)
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"
    except (OSError, ValueError):
        memory = ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # A study that has not imported torch has not used a GPU.
    torch = sys.modules.get("torch")
    gpu = f", {torch.cuda.get_device_name()}" if torch and torch.cuda.is_available() else ""
    return f"{model}, {cores} cores{memory}{gpu}"


def flat(value: Any) -> str:
    """A provenance value on one line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {flat(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
