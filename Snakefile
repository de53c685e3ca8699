# execute -> render -> index, for one batch of batches.yaml:
#     snakemake --cores all                       (quick)
#     snakemake --cores all --config batch=full
#
# What is up to date is decided by the digests in the reports (lib.batch.outdated), never by the times of files:
# hence `ancient`. `update` keeps an older report until a whole new one replaces it.

import shlex
import sys

sys.path.insert(0, workflow.basedir)
from lib import batch

BATCH = config.get("batch", "quick")
try:
    RUNS = {run.name: run for run in batch.load(batch=BATCH)}
except batch.BatchError as error:
    raise WorkflowError(str(error)) from None

DIGESTS = {name: batch.digest(run) for name, run in RUNS.items()}
PAGES = {name: batch.render_digest(digest) for name, digest in DIGESTS.items()}
PYTHON = shlex.quote(sys.executable)
INDEX = f"reports/{BATCH}/index.html"


wildcard_constraints:
    run="|".join(RUNS),


rule index:
    input:
        ancient([run.page for run in RUNS.values()]),
        lambda _: batch.outdated(INDEX, batch.index_digest(BATCH, list(PAGES.values()))),
    output:
        update(INDEX),
    shell:
        "{PYTHON} -m lib.pages index --batch {BATCH}"


rule render:
    input:
        ancient(f"reports/{BATCH}/{{run}}.ipynb"),
        lambda wildcards: batch.outdated(RUNS[wildcards.run].page, PAGES[wildcards.run]),
    output:
        update(f"reports/{BATCH}/{{run}}.html"),
    shell:
        "{PYTHON} -m lib.pages render --batch {BATCH} --run {wildcards.run}"


rule execute:
    input:
        lambda wildcards: batch.outdated(RUNS[wildcards.run].report, DIGESTS[wildcards.run]),
    output:
        update(f"reports/{BATCH}/{{run}}.ipynb"),
    threads: workflow.cores  # a run uses all cores by itself: two at once would only get into each other's way
    shell:
        "{PYTHON} -m lib.batch execute --batch {BATCH} --run {wildcards.run}"


# A run that failed is shown as such on the index, beside those that did not.
onerror:
    shell("{PYTHON} -m lib.pages index --batch {BATCH}")
