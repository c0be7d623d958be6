"""Half the rate after half of the steps."""

import pipeloom


class Halves:
    def __init__(self, rate, steps):
        self._rate, self._steps = rate, steps

    def at(self, step):
        return self._rate if step < self._steps / 2 else self._rate / 2


@pipeloom.hookimpl
def pipeloom_lr_schedule(config):
    return Halves(0.001, config.train_steps)
