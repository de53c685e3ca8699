"""The statistics of the projective dictionaries' claims as their rules say them, one seed at a time."""

import math

SEEDS = (0, 1, 2, 3)
KINDS = ("independent", "coherent", "clusters", "hierarchy")
VARIANTS = ("penalised hybrid", "tied hybrid", "penalised tied hybrid", "tied ridge", "OMP projection")


class Plain:
    """One seed's numbers; every question must have exactly one answer."""

    def __init__(self, t, seed):
        names = ("codes", "dictionaries", "curves", "layers", "transcoders", "swaps", "pairs", "gradients")
        self.rows = {
            name: [row for row in getattr(t, name).to_dict("records") if row["seed"] == seed]
            for name in names
        }

    def one(self, table, column, **where):
        (found,) = [row[column] for row in self.rows[table] if all(row[key] == where[key] for key in where)]
        return found

    def fvu(self, method, kind, coefficients="as trained"):
        where = dict(method=method, kind=kind, k=8, selection="own", coefficients=coefficients)
        return self.one("codes", "fvu", **where)

    def refitted(self, method, kind):
        return self.fvu(method, kind, "least squares")

    def dictionary(self, column, method, kind, k=8):
        return self.one("dictionaries", column, method=method, kind=kind, k=k)

    def absorption(self, method):
        return self.dictionary("absorption", method, "hierarchy")

    def recovery(self, method):
        return sum(self.dictionary("recovery", method, kind) for kind in KINDS) / 4

    def layer(self, method, layer, coefficients="as trained"):
        where = dict(method=method, layer=layer, selection="own", coefficients=coefficients)
        return self.one("layers", "fvu", **where)

    def transcoder(self, method, arm):
        return self.one("transcoders", "fvu", method=method, arm=arm)

    def swap(self, method, active):
        return self.one("swaps", "error", method=method, active=active, width=1)

    def pair(self, method):
        return self.one("pairs", "accuracy", method=method, width=16)

    def gained(self, method):
        early = self.one("curves", "recovery", method=method, kind="independent", k=8, step=12)  # of 48
        return self.dictionary("recovery", method, "independent") - early

    def share(self, kind, coefficients, hybrid):
        start, refit = self.fvu("top-k", kind), self.fvu("top-k", kind, coefficients)
        return (start - refit) / (start - self.fvu("hybrid", kind, hybrid))

    def share_on(self, layer):
        start, refit = self.layer("top-k", layer), self.layer("top-k", layer, "least squares")
        return (start - refit) / (start - self.layer("hybrid", layer))

    def both(self, method):
        error = self.fvu(method, "hierarchy") / self.fvu("hybrid", "hierarchy")
        return max(error, (self.absorption(method) + 0.01) / (self.absorption("ridge") + 0.01))

    def chosen_on_others(self):
        return min(VARIANTS, key=lambda method: sum(u.both(method) for u in self.others))


def by_seed(t):
    """All seeds, each of which knows the others."""
    every = [Plain(t, seed) for seed in SEEDS]
    for u in every:
        u.others = [other for other in every if other is not u]
    return every


def geometric(function, names=KINDS):
    return math.prod(map(function, names)) ** (1 / len(names))


def mean(function, names=KINDS):
    return sum(map(function, names)) / len(names)


LAYERS = ("layer 1", "layer 2")
IMAGES = ("pixels", *LAYERS)
TRUE = "coefficient swap, true dictionary"
SHUFFLED = "peeking, shuffled input"
UNTRAINED = "learned rotation, untrained network"

# By claim: the statistic of its rule and the control, for one seed.
RULES = {
    "projection-explains-more": (
        lambda u: geometric(lambda kind: u.fvu("tied projection", kind) / u.fvu("top-k", kind)),
        lambda u: geometric(lambda kind: u.refitted("top-k", kind) / u.fvu("top-k", kind)),
    ),
    "projection-beyond-refit": (
        lambda u: geometric(lambda kind: u.fvu("tied projection", kind) / u.refitted("top-k", kind)),
        lambda u: geometric(lambda kind: u.refitted("tied top-k", kind) / u.refitted("top-k", kind)),
    ),
    "projection-on-mnist": (
        lambda u: geometric(
            lambda name: u.layer("tied projection", name) / u.layer("top-k", name, "least squares"), IMAGES
        ),
        lambda u: geometric(
            lambda name: u.layer("top-k", name, "least squares") / u.layer("top-k", name), IMAGES
        ),
    ),
    "sae-misses-strengths": (
        lambda u: geometric(lambda kind: u.refitted("top-k", kind) / u.fvu("top-k", kind)),
        lambda u: geometric(
            lambda kind: u.refitted("tied projection", kind) / u.fvu("tied projection", kind)
        ),
    ),
    "sae-shrinks": (
        lambda u: u.dictionary("slope", "top-k", "independent"),
        lambda u: u.dictionary("slope_ls", "top-k", "independent"),
    ),
    "tying-costs-reconstruction": (
        lambda u: u.fvu("tied top-k", "coherent") / u.fvu("top-k", "coherent"),
        lambda u: u.fvu("tied top-k", "independent") / u.fvu("top-k", "independent"),
    ),
    "tying-tolerable": (
        lambda u: geometric(lambda kind: u.fvu("tied projection", kind) / u.fvu("hybrid", kind)),
        lambda u: geometric(lambda kind: u.fvu("tied top-k", kind) / u.fvu("top-k", kind)),
    ),
    "tying-lowers-absorption": (
        lambda u: u.absorption("tied top-k") - u.absorption("top-k"),
        lambda u: u.absorption("top-k"),
    ),
    "projection-lowers-absorption": (
        lambda u: u.absorption("tied projection") - u.absorption("top-k"),
        lambda u: u.absorption("tied top-k") - u.absorption("top-k"),
    ),
    "projection-lowers-splitting": tuple(
        lambda u, method=method: (
            u.dictionary("splitting", method, "coherent", 16)
            - u.dictionary("splitting", "top-k", "coherent", 16)
        )
        for method in ("tied projection", "tied top-k")
    ),
    "projection-improves-dictionary": (
        lambda u: u.recovery("tied projection") - u.recovery("top-k"),
        lambda u: u.recovery("tied top-k") - u.recovery("top-k"),
    ),
    "biases-get-no-gradient": (
        lambda u: u.dictionary("bias", "tied projection", "independent"),
        lambda u: u.dictionary("bias", "tied ridge", "independent"),
    ),
    "projection-backpropagates": (
        lambda u: u.one("gradients", "difference", dtype="float64"),
        lambda u: u.one("gradients", "difference", dtype="float32"),
    ),
    "ridge-mends-biases": (
        lambda u: u.recovery("tied ridge") - u.recovery("tied projection"),
        lambda u: u.recovery("tied top-k") - u.recovery("tied projection"),
    ),
    "importance-is-learned": (
        lambda u: u.dictionary("ranks", "ridge", "independent"),
        lambda u: u.dictionary("ranks, untrained", "ridge", "independent"),
    ),
    "importance-races": (
        lambda u: u.dictionary("growth", "ridge, no quota", "independent"),
        lambda u: u.dictionary("growth", "ridge", "independent"),
    ),
    "quotas-alike": (
        lambda u: (
            max(u.fvu(method, "independent") for method in ("ridge", "ridge, normalised", "ridge, budget"))
            / min(u.fvu(method, "independent") for method in ("ridge", "ridge, normalised", "ridge, budget"))
        ),
        lambda u: u.fvu("ridge, no quota", "independent") / u.fvu("ridge", "independent"),
    ),
    "effective-dimension-close": (
        lambda u: mean(lambda kind: u.dictionary("dimension_error", "ridge", kind)),
        lambda u: mean(lambda kind: u.dictionary("dimension_error, untrained", "ridge", kind)),
    ),
    "effective-dimension-conservative": (
        lambda u: mean(lambda kind: u.dictionary("conservative", "ridge", kind)),
        lambda u: u.dictionary("conservative", "ridge, normalised", "independent"),
    ),
    "ridge-transcoder": (
        lambda u: u.transcoder("ridge", "not peeking") / u.transcoder("top-k", "peeking"),
        lambda u: u.transcoder("ridge", SHUFFLED) / u.transcoder("top-k", "peeking"),
    ),
    "das-footprint": (
        lambda u: u.swap("tied projection, span", 4) - u.swap("learned rotation", 4),
        lambda u: u.swap("random direction", 4) - u.swap("learned rotation", 4),
    ),
    "das-scalability": (
        lambda u: u.swap("tied projection, span", 16) - u.swap("learned rotation", 16),
        lambda u: u.swap("random direction", 16) - u.swap("learned rotation", 16),
    ),
    "das-swap-exact": (lambda u: u.swap(TRUE, 4), lambda u: u.swap("true direction", 4)),
    "das-pair-tie": (
        lambda u: u.pair("tied projection, by means") - u.pair("learned rotation"),
        lambda u: u.pair(UNTRAINED) - u.pair("learned rotation"),
    ),
    "refit-share-planted": (
        lambda u: mean(lambda kind: u.share(kind, "least squares", "as trained")),
        lambda u: mean(lambda kind: u.share(kind, "NNLS", "least squares, few")),
    ),
    "refit-share-mnist": (lambda u: mean(u.share_on, LAYERS), lambda u: u.share_on("pixels")),
    "projection-pays-tied": (
        lambda u: u.fvu("tied projection", "hierarchy") - u.refitted("tied top-k", "hierarchy"),
        lambda u: u.fvu("tied projection", "hierarchy") - u.fvu("tied top-k", "hierarchy"),
    ),
    "projection-pays-coherent": tuple(
        lambda u, method=method: (
            u.dictionary("recovery", method, "coherent", 16)
            - u.dictionary("recovery", "tied top-k", "coherent", 16)
        )
        for method in ("tied projection", "top-k")
    ),
    "projection-stable-coherent": (
        lambda u: u.dictionary("stability", "tied projection", "coherent", 16),
        lambda u: u.dictionary("stability", "tied top-k", "coherent", 16),
    ),
    "projection-no-less-absorption": (
        lambda u: u.absorption("tied projection") - u.absorption("tied top-k"),
        lambda u: u.absorption("top-k") - u.absorption("tied top-k"),
    ),
    "penalty-lowers-absorption": (
        lambda u: u.absorption("ridge") - u.absorption("top-k"),
        lambda u: u.absorption("ridge, normalised") - u.absorption("top-k"),
    ),
    "hybrid-doubles-absorption": (
        lambda u: u.absorption("hybrid") / u.absorption("top-k"),
        lambda u: u.absorption("tied hybrid") / u.absorption("top-k"),
    ),
    "no-quota-collapses": (
        lambda u: u.dictionary("used", "ridge, no quota", "independent"),
        lambda u: u.dictionary("used", "ridge", "independent"),
    ),
    "budget-collapses": (
        lambda u: u.dictionary("used", "ridge, budget", "independent"),
        lambda u: u.dictionary("used", "ridge", "independent"),
    ),
    "short-runs-mislead": (lambda u: u.gained("top-k"), lambda u: u.gained("tied projection")),
    "shuffled-input-transcoder": (
        lambda u: u.transcoder("ridge", SHUFFLED),
        lambda u: u.transcoder("top-k", SHUFFLED),
    ),
    "best-of-both": (lambda u: u.both(u.chosen_on_others()), lambda u: u.both("top-k")),
}
