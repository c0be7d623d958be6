"""The options that belong to no plugin."""
from __future__ import annotations

from pipeloom.core.options import Options
from pipeloom.core.sharing import CHOICES


def add_core_options(options: Options) -> None:
    """Declare the options of the core, in the order in which ``--help`` lists them."""
    options.owner = "core"
    add = options.add
    add("nnodes", int, None, section="cluster", minimum=1,
        help="number of nodes; without --node_rank they are logical nodes on this host (default: 2 without GPUs, else 1)")
    add("nproc_per_node", int, None, section="cluster", minimum=1, aliases=("gpu_num_per_node",),
        help="ranks on each node, one per device (default: 2 without GPUs, else the number of GPUs)")
    add("node_rank", int, None, section="cluster", minimum=0,
        help="this machine's number among --nnodes, from 0. Counted separately from the local rank, which "
             "numbers the ranks inside one node: rank = node_rank * nproc_per_node + local rank")
    add("master_addr", str, None, section="cluster", help="address of node 0 (default: 127.0.0.1 on a single host)")
    add("master_port", int, None, section="cluster", minimum=1, maximum=65535,
        help="port of rank 0 (default: a free one on a single host, else 29500)")
    add("node_timeout", float, 60.0, section="cluster", minimum=1,
        help="seconds in which the launchers of all nodes must have found each other, or found each other again for a restart")
    add("heartbeat_timeout", float, 15.0, section="cluster", minimum=2,
        help="seconds of silence after which a node is taken as gone, which ends the job on the others")
    add("step_timeout", float, 600.0, section="cluster", minimum=0,
        help="seconds without any rank beginning a step after which the job is taken as hanging, and ended; the first step includes "
             "compiling the graph; 0 = off")
    add("max_restarts", int, 0, section="cluster", minimum=0,
        help="how often the job is started again after a fault: a rank or a node that died, an error in a rank, a hang")
    add("device", str, "auto", section="cluster", choices=("auto", "cpu", "cuda"), help="device type of the ranks")
    add("nums_split", int, None, section="parallel", minimum=1,
        help="number of pipeline stages; the rest of the devices are data parallel (default: 2 if that divides)")
    add("tensor_parallel", int, 1, section="parallel", minimum=1,
        help="ranks that share each layer: attention heads, MLP and vocabulary are split over them")
    add("grad_acc_steps", int, 4, section="parallel", minimum=1,
        help="micro-batches of a step: gradients are accumulated over them, and stages overlap on them")
    add("shard", str, "none", section="parallel", choices=("none", "optimizer", "parameters"),
        help="spread over the data-parallel ranks: the optimizer's state, or the parameters too (ZeRO stages 1 and 3)")
    add("recompute", str, "none", section="parallel",
        help="none, full, or a number: of how many layers of each stage only the inputs are kept, and the rest computed "
             "again for the backward pass")
    add("tied_transfer", str, "auto", section="parallel", choices=CHOICES,
        help="what travels for an embedding tied across stages: the looked-up vectors, or the gradient of a second "
             "copy of the table; auto: whichever is less between nodes")
    add("train_global_batch_size", int, 32, cuda_default=256, section="train", minimum=1,
        help="samples of one optimizer step, over all ranks and micro-batches")
    add("train_steps", int, None, section="train", minimum=1, help="number of steps (default: 200, or what --epochs gives)")
    add("epochs", float, None, section="train", minimum=0, help="passes over the data; another way to give --train_steps")
    add("stop_at", int, None, section="train", minimum=1,
        help="end the run after this step as if it were interrupted; schedules still reach to --train_steps")
    add("seed", int, 1234, section="train", minimum=0, maximum=2 ** 63, help="seed of weights, dropout and the order of samples")
    add("shuffle", bool, True, section="train", help="shuffle the samples anew in each epoch; false = file order")
    add("log_every", int, 10, section="train", minimum=1, help="steps between two logged lines")
    add("output_dir", str, None, section="train", help="the run directory itself (default: runs/<time>-<plugins>)")
    add("save_final_weights", bool, False, section="train",
        help="at the end, write all parameters by their HuggingFace names to final_weights.safetensors")
    add("precision", str, "fp32", section="optimization", choices=("fp32", "amp"),
        help="amp: half-precision products, float32 weights and losses; needs CUDA devices")
    add("loss_scale", float, None, section="optimization", minimum=1,
        help="the loss is multiplied by it for the backward pass and gradients divided again, which keeps small ones from "
             "vanishing in half precision (default: 1024 with amp, else 1)")
    add("clip_grad_norm", float, 1.0, section="optimization", minimum=0,
        help="clip the gradient of the whole model to this 2-norm; 0 = off")
    add("seq_length", int, 128, section="data", minimum=8, help="tokens of a sample, padding included")
    add("vocab_size", int, None, section="model", minimum=1, help="size of the vocabulary (default: that of the dataset)")
