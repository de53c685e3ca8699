"""The data sets that the MNIST notebook allows, by its own check of its parameters."""

import jupytext
import pytest

from helpers.tiny import ROOT
from lib.networks import images
from lib.reporting.parameters import ParameterError


@pytest.fixture(scope="module")
def checked():
    """The notebook's two first code cells with some parameters changed: the parameters that come out."""
    cells = jupytext.read(ROOT / "notebooks" / "mnist_superposition.py").cells
    (given,) = (cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
    (check,) = (cell.source for cell in cells if "check-parameters" in cell.metadata.get("tags", []))

    def run(**changed):
        names = {}
        exec(given, names)
        exec(check, names | changed, local := {})
        return local["p"]

    return run


@pytest.mark.parametrize("name", images.NAMES)
def test_every_data_set_is_allowed(checked, name):
    assert checked(dataset=name).dataset == name


def test_another_data_set_is_not(checked):
    with pytest.raises(ParameterError, match=r"'cifar'.*'digits', 'mnist' or 'fashion-mnist'"):
        checked(dataset="cifar")


def test_a_single_outer_model_is_too_few_for_intervals(checked):
    with pytest.raises(ParameterError, match="seeds: got 1"):
        checked(seeds=1)
