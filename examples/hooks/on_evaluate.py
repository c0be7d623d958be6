"""Says when an evaluation was better than all before it."""

import pipeloom

best = {}


@pipeloom.hookimpl
def pipeloom_on_evaluate(run, step, metrics):
    if metrics["loss"] < best.get("loss", float("inf")):
        best["loss"] = metrics["loss"]
        run.say(f"better     {metrics['loss']:.4f} after step {step}")
