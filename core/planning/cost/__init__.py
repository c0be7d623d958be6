"""One model of what a step costs: for ``plan``, the strategy ``auto``, the hints of a run and the partitioners."""
