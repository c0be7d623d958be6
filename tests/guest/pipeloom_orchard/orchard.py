"""orchard: fruit by their traits: model, task, data, what prepares it, and a logger."""

import pipeloom
from pipeloom_orchard import data, model, task

PIPELOOM_API = 1


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("basket", str, default=None, path=True, section="data", help="file of fruit, of 'prepare orchard'")
    options.add("held_out_basket", str, default=None, path=True, section="data", resume="free", help="held-out fruit")
    options.add("trait_size", int, 16, section="model", minimum=2, help="width of the hidden states")
    options.add("rings", int, 2, section="model", minimum=1, help="layers")


@pipeloom.hookimpl
def pipeloom_tasks(config):
    return [task.FRUIT]


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    return model.build(config, task)


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    return data.opened(config, split)


@pipeloom.hookimpl
def pipeloom_prepare_kinds():
    return [data.KIND]


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    if run.is_main and metrics is not None:
        with open(run.directory / "harvest.txt", "a") as file:
            file.write(f"{step} {metrics['loss']:.6f}\n")


@pipeloom.hookimpl
def pipeloom_on_checkpoint(run, step, path):
    with open(run.directory / "harvest.txt", "a") as file:
        file.write(f"kept {path.name}\n")
