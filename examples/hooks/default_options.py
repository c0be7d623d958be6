"""Other defaults, for samples of eight tokens; what the user gives counts before them."""

import pipeloom


@pipeloom.hookimpl
def pipeloom_default_options(config):
    return {"seq_length": 8, "learning_rate": 0.001, "clip_grad_norm": 0.0}
