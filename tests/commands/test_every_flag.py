"""Law 5: a flag that is accepted has an effect. Every option must stand in one of the two tables below."""

from __future__ import annotations

import pytest

from pipeloom.core.checkpoint.initialization import initial_value
from pipeloom.core.commands.cli import parse
from pipeloom.core.data.dropout_seeds import dropout_seeds
from pipeloom.core.planning.planner import make_plan

PLUGINS = ["--plugins", "inter_first,bert,wiki_ofrecord"]

#: What a plan shows, by the part of it that an option changes.
OBSERVE = {
    "cluster": lambda plan, plugins: plan.cluster,
    "mesh": lambda plan, plugins: plan.mesh,
    "batch": lambda plan, plugins: (
        plan.config.train_global_batch_size,
        plan.micro_batch_size,
        plan.order().indices(0).tolist(),
    ),
    "steps": lambda plan, plugins: (plan.config.train_steps, plan.config.warmup_steps),
    "order": lambda plan, plugins: plan.order().indices(0).tolist(),
    "seed": lambda plan, plugins: (
        initial_value(plan.model.parameters[0], plan.config.seed).sum(),
        dropout_seeds(plan.config.seed, 0, 2).tolist(),
        plan.order().indices(0).tolist(),
    ),
    "data": lambda plan, plugins: (plan.dataset.fields, len(plan.dataset), plan.dataset.describe()),
    "model": lambda plan, plugins: (
        dict(plan.model.sizes),
        plan.model.size,
        [block.inputs for block in plan.model.blocks],
    ),
    "rates": lambda plan, plugins: [
        plugins.hook.pipeloom_lr_schedule(config=plan.config).at(step) for step in range(200)
    ],
    "transfer": lambda plan, plugins: (plan.traffic(), [block.inputs for block in plan.model.blocks]),
    "evaluation": lambda plan, plugins: (plan.evaluation and plan.evaluation.describe(), plan.config.eval_every),
    "recomputed": lambda plan, plugins: plan.recomputed(),
    "limits": lambda plan, plugins: __import__("pipeloom.core.commands.train", fromlist=["_limits"])._limits(plan),
    "nodes": lambda plan, plugins: __import__("pipeloom.core.commands.train", fromlist=["_nodes"])._nodes(
        plan, "10.0.0.1", 4000, plugins
    ),
    "master": lambda plan, plugins: __import__("pipeloom.core.commands.train", fromlist=["_master"])._master(plan),
}

#: option -> (value, what it changes, further flags for both plans)
EFFECTS = {
    "nnodes": ("4", "cluster", []),
    "nproc_per_node": ("4", "cluster", []),
    "node_rank": ("1", "cluster", ["--master_addr", "10.0.0.1"]),
    "master_addr": (
        "10.0.0.9",
        "master",
        ["--master_addr", "10.0.0.8", "--node_rank", "0", "--master_port", "4000", "--nnodes", "2"],
    ),
    "master_port": ("4001", "master", []),
    "node_timeout": ("5", "nodes", ["--node_rank", "0", "--master_addr", "10.0.0.1"]),
    "heartbeat_timeout": ("5", "nodes", ["--node_rank", "0", "--master_addr", "10.0.0.1"]),
    "step_timeout": ("9", "limits", []),
    "max_restarts": ("3", "limits", []),
    "nums_split": ("4", "mesh", []),
    "tensor_parallel": ("2", "mesh", []),
    "recompute": ("full", "recomputed", []),
    "tied_transfer": ("table", "transfer", ["--tied_transfer", "vectors"]),
    "grad_acc_steps": ("2", "batch", []),
    "micro_batch": ("8", "batch", []),
    "train_global_batch_size": ("64", "batch", []),
    "train_steps": ("7", "steps", []),
    "epochs": ("2", "steps", []),
    "seed": ("5", "seed", []),
    "eval_every": ("5", "evaluation", []),
    "eval_samples": ("7", "evaluation", ["--eval_every", "5"]),
    "shuffle": ("false", "order", []),
    "seq_length": ("64", "data", []),
    "max_predictions": ("10", "data", []),
    "vocab_size": ("5000", "model", []),
    "num_hidden_layers": ("3", "model", []),
    "num_attention_heads": ("4", "model", []),
    "hidden_size": ("64", "model", []),
    "intermediate_size": ("100", "model", []),
    "max_position_embeddings": ("256", "model", []),
    "hidden_dropout_prob": ("0.2", "model", []),
    "attention_probs_dropout_prob": ("0.2", "model", []),
    "tie_embeddings": ("false", "model", []),
    "learning_rate": ("0.5", "rates", []),
    "lr_schedule": ("constant", "rates", []),
    "lr_power": ("3", "rates", ["--lr_schedule", "polynomial"]),
    "min_learning_rate": ("1e-5", "rates", []),
    "warmup_steps": ("50", "rates", []),
    "warmup_ratio": ("0.25", "rates", []),
}

#: Options whose effect another test shows.
ELSEWHERE = {
    "precision": "test_plan.py (amp without CUDA is refused)",
    "interface": "test_network.py",
    "cluster_file": "test_plan_command.py, test_auto.py",
    "device": "test_plan.py (cuda without a GPU is refused)",
    "ofrecord_path": "test_wiki_ofrecord.py, test_mixture.py, test_parity.py",
    "eval_path": "test_held_out.py, test_evaluation.py",
    "log_every": "test_main_run.py::test_metrics_jsonl",
    "output_dir": "test_main_run.py::test_run_directory",
    "save_final_weights": "test_parity_command.py",
    **dict.fromkeys(
        ("save_every", "keep", "best_metric", "async_save"), "test_checkpoint_files.py, test_resume_runs.py"
    ),
    **dict.fromkeys(("resume", "resume_allow"), "test_resume.py, test_resume_runs.py"),
    "stop_at": "test_resume_runs.py",
    "trace_plugins": "test_tracing.py",
    "memory_check": "test_memory.py (stop, warn, off)",
    "profile": "test_profiler.py, test_recorder.py",
    **dict.fromkeys(("fused_kernels", "nccl_fusion_mbytes", "nccl_fusion_ops", "nccl_compute_stream"), "test_cuda.py"),
    **dict.fromkeys(("blas", "threads_per_rank"), "test_blas.py"),
    **dict.fromkeys(("on_nan", "nan_limit"), "test_on_nan.py"),
    **dict.fromkeys(("initial_loss_scale", "loss_scale_window"), "test_loss_scale_runs.py"),
    "init_from": "test_huggingface.py, test_reference_curve.py",
    **dict.fromkeys(
        (
            "optimizer",
            "weight_decay",
            "clip_grad_norm",
            "momentum",
            "adam_beta1",
            "adam_beta2",
            "adam_eps",
            "shard",
            "loss_scale",
        ),
        "test_executor.py::test_steps_of_training_equal_numpy",
    ),
}


def options_of_a_usual_run():
    config, _ = parse(PLUGINS)
    return sorted(config.to_flat_dict())


@pytest.mark.parametrize("name", options_of_a_usual_run())
def test_every_option_has_an_effect(name):
    if name in ELSEWHERE:
        assert ".py" in ELSEWHERE[name]
        return
    assert name in EFFECTS, f"option '{name}' has no test of its effect: add it to a table"
    value, part, further = EFFECTS[name]
    seen = []
    for flags in (further, [*further, f"--{name}", value]):
        config, plugins = parse([*PLUGINS, *flags])
        seen.append(OBSERVE[part](make_plan(config, plugins), plugins))
    assert seen[0] != seen[1]


def test_no_table_names_an_option_that_is_gone():
    assert set(EFFECTS) | set(ELSEWHERE) <= set(options_of_a_usual_run()) | {"init_from"}
