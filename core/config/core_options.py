"""The options that belong to no plugin."""

from __future__ import annotations

from functools import partial

from pipeloom.core.contract.loss_scale import StaticOrDynamic
from pipeloom.core.contract.micro_batch import MicroBatchSize
from pipeloom.core.contract.options import FREE, FRESH, Options


# fmt: off
def add_core_options(options: Options) -> None:
    """Declare the options of the core, in the order in which ``--help`` lists them."""
    options.owner = "core"

    add = partial(options.add, section="cluster")
    add("nnodes", int, resume=FREE, minimum=1, single_process=1, model_card=False,
        help="number of nodes; without --node_rank they are logical nodes on this host (default: 2 without GPUs, else "
             "1)")
    add("nproc_per_node", int, resume=FREE, minimum=1, aliases=("gpu_num_per_node",), single_process=1,
        model_card=False,
        help="ranks on each node, one per device (default: 2 without GPUs, else the number of GPUs)")
    add("node_rank", int, resume=FRESH, minimum=0, per_node=True, model_card=False,
        help="this machine's number among --nnodes, from 0. Counted separately from the local rank, which numbers the "
             "ranks inside one node: rank = node_rank * nproc_per_node + local rank")
    add("master_addr", str, resume=FRESH, single_process=None, per_node=True, model_card=False,
        help="address of node 0 (default: 127.0.0.1 on a single host)")
    add("master_port", int, resume=FRESH, minimum=1, maximum=65535, single_process=None, model_card=False,
        help="port of rank 0 (default: a free one on a single host, else 29500)")
    add("node_timeout", float, 60.0, resume=FREE, minimum=1,
        help="seconds in which the launchers of all nodes must have found each other, or found each other again for a "
             "restart")
    add("heartbeat_timeout", float, 15.0, resume=FREE, minimum=2,
        help="seconds of silence after which a node is taken as gone, which ends the job on the others")
    add("step_timeout", float, 600.0, resume=FREE, minimum=0,
        help="seconds without any rank beginning a step after which the job is taken as hanging, and ended; the first "
             "step includes compiling the graph; 0 = off")
    add("max_restarts", int, 0, resume=FREE, minimum=0,
        help="how often the job is started again after a fault: a rank or a node that died, an error in a rank, a hang")
    add("memory_check", str, "stop", resume=FREE, choices=("stop", "warn", "off"), per_node=True, model_card=False,
        help="before the ranks start, compare the memory that they will take with what is free here: stop = refuse a "
             "job that cannot fit, and warn of one that may not; warn = only warn; off = do not look")
    add("cluster_file", str, resume=FREE, path=True, aliases=("cluster",), single_process=None, model_card=False,
        help="cluster.yaml: what devices and networks are, by data sheets or as 'profile' measured them; for what "
             "reckons with time (plan, the strategy auto, the partitioner by_time)")
    add("interface", str, resume=FRESH, per_node=True, model_card=False,
        help="network card of this machine (eth1) at which its ranks are reached by those of other machines; on node 0 "
             "also the default of --master_addr (default: the card by which --master_addr is reached)")
    add("device", str, "auto", resume=FREE, choices=("auto", "cpu", "cuda"), per_node=True,
        help="device type of the ranks")

    add = partial(options.add, section="parallel")
    add("nums_split", int, resume=FREE, minimum=1, single_process=1, model_card=False,
        help="number of pipeline stages; the rest of the devices are data parallel (default: 2 if that divides)")
    add("tensor_parallel", int, 1, resume=FREE, minimum=1, single_process=1, model_card=False,
        help="ranks that share each layer: attention heads, MLP and vocabulary are split over them")
    add("grad_acc_steps", int, 4, resume=FREE, minimum=1, single_process=1, model_card=False,
        help="micro-batches of a step: gradients are accumulated over them, and stages overlap on them")
    add("micro_batch", MicroBatchSize, resume=FREE, replaces="grad_acc_steps", single_process=None, model_card=False,
        help="samples of a micro-batch on each data-parallel rank, another way to give --grad_acc_steps; auto: the "
             "most that fit into memory, where a pipeline keeps two micro-batches for each stage")
    add("shard", str, "none", resume=FREE, choices=("none", "vocabulary", "optimizer", "parameters"),
        single_process="none", model_card=False,
        help="spread over the data-parallel ranks: the vocabulary (each computes with its own words, so that gradients "
             "of their table are not exchanged), the optimizer's state, or the parameters too (ZeRO stages 1 and 3)")
    add("recompute", str, "none", resume=FREE, single_process="none",
        help="none, full, or a number: of how many layers of each stage only the inputs are kept, and the rest "
             "computed again for the backward pass")
    add("tied_transfer", str, "auto", resume=FREE, choices=("auto", "vectors", "table"), single_process="auto",
        help="what travels for an embedding tied across stages: the looked-up vectors, or the gradient of a second "
             "copy of the table; auto: whichever is less between nodes")

    add = partial(options.add, section="train")
    add("train_global_batch_size", int, 32, cuda_default=256, minimum=1, model_card=True,
        help="samples of one optimizer step, over all ranks and micro-batches")
    add("train_steps", int, minimum=1, model_card=True, help="number of steps (default: 200, or what --epochs gives)")
    add("epochs", float, minimum=0, replaces="train_steps",
        help="passes over the data (as many samples as it has); another way to give --train_steps")
    add("seed", int, 1234, minimum=0, maximum=2**63, model_card=True,
        help="seed of weights, dropout and the order of samples")
    add("shuffle", bool, True, help="shuffle the samples anew in each epoch; false = file order")
    add("log_every", int, 10, resume=FREE, minimum=1, model_card=False, help="steps between two logged lines")
    add("eval_every", int, resume=FREE, minimum=1,
        help="steps between two evaluations on held-out samples; also after the last step (default: then alone, where "
             "an option names held-out samples)")
    add("eval_samples", int, resume=FREE, minimum=1,
        help="how many of the held-out samples, the first ones (default: all)")
    add("output_dir", str, resume=FRESH, per_node=True, path=True, model_card=False,
        help="the run directory itself (default: runs/<time>-<plugins>)")
    add("save_every", int, resume=FREE, minimum=0, model_card=False,
        help="steps between two checkpoints; 0 = none at all (default: when the run ends or is interrupted)")
    add("keep", int, resume=FREE, minimum=1, model_card=False,
        help="checkpoints to keep, the newest; older ones are removed, but for the best (default: all)")
    add("async_save", bool, True, resume=FREE,
        help="write checkpoints while training goes on, from a copy in memory; false = wait, with one tensor in memory")
    add("best_metric", str, resume=FREE,
        help="what an evaluation measures that the best checkpoint has the best of (default: the loss, or what the "
             "task says: f1 of answers)")
    add("resume", str, resume=FRESH, per_node=True, transient=True, path=True, model_card=False,
        help="continue exactly: a checkpoint (also RUN@best, RUN@last, RUN@120), a run directory, or auto: the newest "
             "whole one in --output_dir (or of the last run with these plugins); options that are not given are as "
             "they were")
    add("resume_allow", str, resume=FRESH, per_node=True, transient=True,
        help="names of changed options, with commas between them, that --resume shall accept though they change the "
             "mathematics")
    add("stop_at", int, resume=FRESH, minimum=1, transient=True,
        help="end after this step, with a checkpoint, as if interrupted; schedules still span --train_steps")
    add("on_nan", str, "stop", resume=FREE, choices=("stop", "skip"),
        help="when a loss or gradient is not finite: stop, or take the step back and leave the batch out (keeps a copy "
             "of the whole state on the devices and waits for each step)")
    add("nan_limit", int, 10, resume=FREE, minimum=1,
        help="batches that --on_nan skip may leave out before it gives up")
    add("trace_plugins", str, resume=FRESH, per_node=True, transient=True, path=True, model_card=False,
        help="write every call of a plugin's hook into this file as a JSON line, with arguments, answer and time (rank "
             "3 into NAME.rank_3 beside it), and sum up at the end what plugins took in the step loop")
    add("save_final_weights", bool, False, resume=FREE,
        help="at the end, write all parameters by their HuggingFace names to final_weights.safetensors")

    add = partial(options.add, section="optimization")
    add("precision", str, "fp32", choices=("fp32", "amp"), model_card=True,
        help="amp: half-precision products, float32 weights and losses; needs CUDA devices")
    add("loss_scale", StaticOrDynamic,
        help="the loss is multiplied by it for the backward pass and gradients divided again, which keeps small ones "
             "from vanishing in half precision; dynamic: it grows until a gradient is not finite, such a step is left "
             "out and it falls (default: dynamic with amp, else 1)")
    add("initial_loss_scale", float, minimum=1, help="where --loss_scale dynamic begins (default: 65536)")
    add("loss_scale_window", int, minimum=1,
        help="finite steps in a row after which --loss_scale dynamic doubles (default: 2000)")
    add("clip_grad_norm", float, 1.0, minimum=0, model_card=True,
        help="clip the gradient of the whole model to this 2-norm; 0 = off")

    add = partial(options.add, section="data")
    add("seq_length", int, 128, minimum=8, model_card=True, help="tokens of a sample, padding included")

    add = partial(options.add, section="model")
    # Not kept for a resumed run: a model may know more words than its data, and then decides it anew.
    add("vocab_size", int, minimum=1, resume=FREE, help="size of the vocabulary (default: that of the dataset)")
