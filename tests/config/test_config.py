"""The resolved configuration."""

import pytest

from pipeloom.core.config.config import Config
from pipeloom.core.contract.option_checks import ATTRIBUTES_OF_CONFIG

pytestmark = pytest.mark.fast


def test_no_option_can_have_the_name_of_what_a_config_has_besides():
    there = {*vars(Config({}, {}, ())), *vars(Config)}
    assert {name for name in there if not name.startswith("_")} == set(ATTRIBUTES_OF_CONFIG)
