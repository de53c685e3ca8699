# execute -> render -> index, for one batch of batches.yaml:
#     snakemake --cores all                       (quick)
#     snakemake --cores all --config batch=full
#
# What is up to date is decided by the digests in the reports (lib.pipeline.batch.outdated), never by the times of files:
# what is not outdated counts as `ancient`. `update` keeps an older report until a whole new one replaces it.

import shlex
import sys

sys.path.insert(0, workflow.basedir)
from lib.pipeline import batch

BATCH = config.get("batch", "quick")
try:
    RUNS = {run.name: run for run in batch.load(batch=BATCH)}
except batch.BatchError as error:
    raise WorkflowError(str(error)) from None

PYTHON = shlex.quote(sys.executable)
INDEX = f"reports/{BATCH}/index.html"

# What each file must say that it was made from; and, for those that say otherwise, a mark that is newer.
DIGESTS = {str(run.report): batch.run_digest(run) for run in RUNS.values()}
DIGESTS |= {str(run.page): batch.render_digest(DIGESTS[str(run.report)], run.title) for run in RUNS.values()}
DIGESTS[INDEX] = batch.index_digest(BATCH, [DIGESTS[str(run.page)] for run in RUNS.values()], [[]] * len(RUNS))
MARKS = {path: batch.outdated(path, digest) for path, digest in DIGESTS.items()}


def settled(path):
    return path if MARKS[path] else ancient(path)


wildcard_constraints:
    run="|".join(RUNS),


# All of it, as Snakemake would not miss what lies between the index and the notebooks.
rule all:
    input:
        list(DIGESTS),


rule index:
    input:
        [settled(str(run.page)) for run in RUNS.values()],
        MARKS[INDEX],
    output:
        update(INDEX),
    shell:
        "{PYTHON} -m lib.pipeline.pages index --batch {BATCH}"


rule render:
    input:
        lambda wildcards: settled(str(RUNS[wildcards.run].report)),
        lambda wildcards: MARKS[str(RUNS[wildcards.run].page)],
    output:
        update(f"reports/{BATCH}/{{run}}.html"),
    shell:
        "{PYTHON} -m lib.pipeline.pages render --batch {BATCH} --run {wildcards.run}"


rule execute:
    input:
        lambda wildcards: MARKS[str(RUNS[wildcards.run].report)],
    output:
        update(f"reports/{BATCH}/{{run}}.ipynb"),
    threads: 8  # or all cores where there are fewer: a run keeps several busy; --set-threads execute=N changes it
    shell:
        "{PYTHON} -m lib.pipeline.batch execute --batch {BATCH} --run {wildcards.run}"


# A run that failed is shown as such on the index, beside those that did not.
onerror:
    shell("{PYTHON} -m lib.pipeline.pages index --batch {BATCH}")
