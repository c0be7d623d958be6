"""Distributions of initial values that plugins add: the values, and what is wrong with one in one line."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.checkpoint.initialization import initial_value, initial_values
from pipeloom.core.contract.blocks import Block, Cost, ModelSpec, ParameterSpec
from pipeloom.core.host.initial_distributions import check_distributions, find_distributions
from pipeloom.core.host.plugin_manager import PluginManager

pytestmark = pytest.mark.fast


def host(distributions):
    """The host with a plugin that adds ``distributions`` and has a model."""
    plugin = SimpleNamespace(
        pipeloom_initial_distributions=pipeloom.hookimpl(
            lambda config: distributions, specname="pipeloom_initial_distributions"
        ),
        pipeloom_build_model=pipeloom.hookimpl(lambda config, task: None, specname="pipeloom_build_model"),
    )
    manager = PluginManager()
    manager._register(plugin, "mine")
    manager.versions["mine"] = "1"
    return manager


def model(init):
    parameters = (ParameterSpec("w", (3, 4), init, std=0.5), ParameterSpec("v", (3, 4)))
    return ModelSpec("m", "t", (Block("b", parameters, Cost(1.0, 1.0, 1.0), (), print),), {"loss": 1.0})


def uniform(generator, spec):
    return generator.uniform(-spec.std, spec.std, spec.shape).astype(np.float32)


def test_a_distribution_of_a_plugin_is_drawn_from_the_parameters_own_generator():
    plugins = host({"uniform": uniform})
    check_distributions(plugins, None, model("uniform"))
    specs = {spec.name: spec for spec in model("uniform").parameters}
    value_of = initial_values(model("uniform"), 7, find_distributions(plugins, None))
    drawn = value_of(specs["w"])
    assert drawn.dtype == np.float32 and 0.4 < np.abs(drawn).max() <= 0.5
    np.testing.assert_array_equal(value_of(specs["w"]), drawn)  # whoever asks, and how often
    np.testing.assert_array_equal(value_of(specs["v"]), initial_value(specs["v"], 7))


def test_a_distribution_that_nobody_adds_names_the_plugin_of_the_model():
    with pytest.raises(UsageError) as error:
        check_distributions(host({"uniform": uniform}), None, model("unifrom"))
    assert str(error.value) == (
        "plugin 'mine' (1): its parameter 'w' has the initial distribution 'unifrom', which nobody adds (did you mean "
        "'uniform'?); there are: normal, ones, uniform, zeros"
    )


@pytest.mark.parametrize(
    "distributions, says",
    [
        ({"normal": uniform}, "it adds the initial distribution 'normal', which pipeloom itself has"),
        ([uniform], "it answers .*, not a dict: return functions"),
        ({"u": lambda generator, spec: np.zeros(3)}, r"'u': it answers float64 \(3,\) for 'w', not a float32 array of"),
        ({"u": lambda generator, spec: 1 / 0}, "hook pipeloom_initial_distributions, 'u': ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_one_is_one_line(distributions, says):
    with pytest.raises(UsageError, match=f"^plugin 'mine'.*{says}") as error:
        initial_value(ParameterSpec("w", (3, 4), "u"), 1, find_distributions(host(distributions), None))
    assert "\n" not in str(error.value)
