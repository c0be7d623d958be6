"""A model in one file, with its head and its HuggingFace folder (docs/models.md goes through it):

    python entry.py --plugins inter_first,wiki_ofrecord,./examples/my_model.py

Each layer attends without weights and gates what it finds. It answers questions by the head for any model, and has one
of its own for pre-training, which predicts masked words alone.
"""

from dataclasses import replace

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.checkpoint.naming import CheckpointPath
from pipeloom.core.contract.blocks import Block, Cost, ModelSpec, ParameterSpec
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.layers import LayerNorm, Linear, WordLookup, dense, layer_norm
from pipeloom.core.contract.tasks import Encoder, Head, HeadFor
from pipeloom.core.contract.weight_adapter import TensorRule, WeightAdapter

EPS = 1e-5


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("gated_layers", int, 2, section="model", minimum=1, help="layers")
    options.add("gated_width", int, 32, section="model", minimum=1, help="width of the hidden states")
    options.add("init_from", CheckpointPath, None, section="model", resume="free", help="a folder to start from")


@pipeloom.hookimpl
def pipeloom_build_model(config, task):
    if config.tensor_parallel > 1:
        raise UsageError("the model 'gated' has no tensor parallelism: leave --tensor_parallel out")
    if config.init_from is None:
        return model(config, task)
    from pipeloom.plugins.libraries.huggingface.source import open_pretrained
    from pipeloom.plugins.libraries.huggingface.weights import Weights

    folder = open_pretrained(config.init_from)
    folder.require("model_type", "gated")
    settings = {
        "gated_layers": folder.setting("num_hidden_layers", int),
        "gated_width": folder.setting("hidden_size", int),
        "vocab_size": folder.setting("vocab_size", int),
    }
    built = model(config.replace(**settings), task)
    return replace(built, weights=Weights(folder, built), settings=settings)


def model(config, task):
    width, length, vocab = config.gated_width, config.seq_length, config.vocab_size
    encoder = Encoder(
        family="gated",
        hidden=width,
        vocab=vocab,
        seq_length=length,
        norm_eps=EPS,
        prefix="gated",
        word_table="gated.words.weight",
        tied=False,
    )
    head = task.head(config, encoder)
    layers = [layer(number, width, length) for number in range(config.gated_layers)]
    return ModelSpec(
        name="gated",
        task=task.name,
        blocks=(embeddings(encoder), *layers, head.block),
        losses=head.losses,
        metrics=head.metrics,
        normalize=head.normalize,
        scores=head.outputs,
        labels=head.labels,
        huggingface={
            "model_type": "gated",
            "architectures": [f"Gated{head.architecture}"],
            "num_hidden_layers": config.gated_layers,
            "hidden_size": width,
            "vocab_size": vocab,
            "max_position_embeddings": length,
        },
        adapter=adapter(config.gated_layers),
        pipeline_tag=head.pipeline_tag,
    )


# --- blocks: parameters and costs here, what they compute in ``build``


def embeddings(encoder):
    class Embeddings:
        def __init__(self, scope):
            self.word = WordLookup(scope, encoder.word_table)

        def __call__(self, hidden, fields):
            return self.word(fields["input_ids"])

    width = encoder.hidden
    table = ParameterSpec(encoder.word_table, (encoder.vocab, width), tensor_dim=0, products=0, lookups=1)
    cost = Cost(flops=0.0, output_bytes=4.0 * width, kept_bytes=0.0)
    return Block("embeddings", (table,), cost, ("input_ids",), Embeddings)


def layer(number, width, length):
    name = f"gated.layers.{number}"

    class Layer:
        def __init__(self, scope):
            self.ops = scope.ops
            self.gate, self.value = Linear(scope, f"{name}.gate"), Linear(scope, f"{name}.value")
            self.norm = LayerNorm(scope, f"{name}.norm", EPS)

        def __call__(self, hidden_BLH, fields):
            B, L, H = hidden_BLH.shape
            mask_B11L = ((self.ops.to_float(fields["input_mask"]) - 1.0) * -self.ops.MASKED).reshape(B, 1, 1, L)
            x_B1LH, x_NH = hidden_BLH.reshape(B, 1, L, H), hidden_BLH.reshape(B * L, H)
            found_NH = self.ops.attention(x_B1LH, x_B1LH, x_B1LH, mask_B11L, lambda probs: probs).reshape(B * L, H)
            y_NH = self.ops.activation("silu", self.gate(x_NH)) * self.value(found_NH)
            return self.norm(x_NH + y_NH).reshape(B, L, H)

    parameters = (
        *dense(f"{name}.gate", width, width),
        *dense(f"{name}.value", width, width),
        *layer_norm(f"{name}.norm", width),
    )
    # Two products of a token's row, and attention's two with all of the sequence.
    cost = Cost(4.0 * width * width + 4.0 * length * width, 4.0 * width, 4.0 * (6 * width + length))
    return Block(name.rpartition("gated.")[2], parameters, cost, ("input_mask",), Layer, layer=True)


# --- the head for the samples of pre-training


@pipeloom.hookimpl
def pipeloom_heads(config):
    return [HeadFor("pretraining", "gated", masked_words)]


def masked_words(config, encoder):
    predictions, width, vocab = config.max_predictions, encoder.hidden, encoder.vocab
    labels = (
        Field("masked_lm_ids", (predictions,), "int32"),
        Field("masked_lm_weights", (predictions,), "float32"),
    )

    class MaskedWords:
        def __init__(self, scope):
            self.ops, self.decoder = scope.ops, Linear(scope, "decoder")

        def __call__(self, hidden_BLH, fields):
            B, L, H = hidden_BLH.shape
            chosen_BML = self.ops.one_hot(fields["masked_lm_positions"], L)
            x_NH = self.ops.matmul(chosen_BML, hidden_BLH).reshape(-1, H)
            ids_N, weights_N = (fields[field.name].reshape(B * predictions) for field in labels)
            losses_N = self.ops.vocabulary_cross_entropy(x_NH, self.decoder.weight, self.decoder.bias, ids_N)
            return {"word_loss": (losses_N * weights_N).sum()}

    # The number of predictions is fixed, however long a sample is: a cost by sample.
    cost = Cost(
        flops=0.0,
        output_bytes=0.0,
        kept_bytes=4.0 * width,
        flops_per_sample=2.0 * predictions * width * vocab,
        kept_bytes_per_sample=4.0 * predictions * vocab,
    )
    inputs = ("masked_lm_positions", *(field.name for field in labels))
    return Head(
        Block("masked_words", dense("decoder", vocab, width, "column"), cost, inputs, MaskedWords),
        losses={"word_loss": 1.0},
        labels=labels,
        normalize=("masked_lm_weights",),
        architecture="ForMaskedWords",
        pipeline_tag="fill-mask",
    )


# --- how the parameters stand in a HuggingFace folder


def adapter(layers):
    """There a layer has gate and value in one matrix, ``(in, 2 x out)``, and one bias."""
    rules = []
    for number in range(layers):
        name = f"gated.layers.{number}"
        for kind in ("weight", "bias"):
            parts = (f"{name}.gate.{kind}", f"{name}.value.{kind}")
            matrix = kind == "weight"
            rules.append(TensorRule(parts, (f"{name}.both.{kind}",), axis=1 if matrix else 0, transposed=matrix))
    return WeightAdapter(tuple(rules), prefix="gated.")
