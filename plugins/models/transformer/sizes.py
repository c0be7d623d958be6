"""Sizes and form of a transformer, and the options that set them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.checkpoint.naming import CheckpointPath


@dataclass(frozen=True)
class Sizes:
    """Sizes and form of a transformer. ``head_size = hidden / heads``.

    ``segments``: kinds of segments that have an embedding, 0 where none has; where there is one, all tokens are of it.
    ``padding``: the id of [PAD], whose vector is not trained by being looked up, as in transformers. ``activation``:
    one of ``core.contract.layers.ACTIVATIONS``. ``pre_norm``: each sublayer reads normalised values and adds to the
    others (pre-LN), else sums are normalised (post-LN). ``causal``: a token attends to itself and those before it, to
    those of its own document alone unless ``across_documents``. ``first_position``: the row of the position table for
    the first token. ``count_tokens``: padding takes no position, it has the row before that one, which is ``padding``.
    """

    layers: int
    heads: int
    hidden: int
    intermediate: int
    vocab: int
    positions: int
    seq_length: int
    hidden_dropout: float
    attention_dropout: float
    norm_eps: float = 1e-12
    segments: int = 2
    padding: Optional[int] = 0
    activation: str = "gelu"
    pre_norm: bool = False
    causal: bool = False
    across_documents: bool = True
    first_position: int = 0
    count_tokens: bool = False

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def hidden_shape(self) -> Tuple[int, int]:
        """Hidden states of one sample."""
        return self.seq_length, self.hidden

    def describe(self) -> Dict[str, Any]:
        return asdict(self)


def add_transformer_options(options, positions: int = 512) -> None:
    """Declare the options that every transformer model here has; ``positions``: the default of how many have an
    embedding."""
    add = options.add
    add(
        "init_from",
        CheckpointPath,
        None,
        section="model",
        resume="free",
        path=True,
        help="start from a checkpoint of ours (also RUN@best, RUN@last, RUN@120) or a HuggingFace folder (config.json, "
        "model.safetensors); its sizes replace the defaults of the following",
    )
    add("num_hidden_layers", int, 2, cuda_default=24, section="model", minimum=1, help="layers")
    add("num_attention_heads", int, 2, cuda_default=16, section="model", minimum=1, help="attention heads")
    add("hidden_size", int, None, section="model", minimum=1, help="width of the hidden states (default: 64 x heads)")
    add("intermediate_size", int, None, section="model", minimum=1, help="width of the MLP (default: 4 x hidden size)")
    add("max_position_embeddings", int, positions, section="model", minimum=1, help="positions that have an embedding")
    add(
        "hidden_dropout_prob",
        float,
        0.1,
        section="model",
        minimum=0,
        maximum=0.99,
        model_card=True,
        help="dropout of hidden states",
    )
    add(
        "attention_probs_dropout_prob",
        float,
        0.1,
        section="model",
        minimum=0,
        maximum=0.99,
        model_card=True,
        help="dropout of attention probabilities",
    )
    add(
        "tie_embeddings",
        bool,
        True,
        section="model",
        help="use the word embedding as the decoder too; false gives the decoder a weight of its own",
    )


def agree(config, sizes: Mapping[str, Any], folder: Any):
    """``config`` with the sizes of the folder it starts from, by the names of the options.

    Raises ``UsageError`` where the user asked for another size, and where the folder's vocabulary is
    smaller than that of the dataset.
    """
    for name, value in sizes.items():
        mine = getattr(config, name)
        if name in config.given and mine is not None and mine != value:
            raise UsageError(
                f"--{name} {mine} disagrees with --init_from {folder}, where it is {value}: leave one of the two out"
            )
    if sizes["vocab_size"] < config.vocab_size:
        raise UsageError(
            f"--init_from {folder} has a vocabulary of {sizes['vocab_size']}, the dataset has ids below "
            f"{config.vocab_size}: "
            f"use data made with the folder's vocabulary; if these are, say --vocab_size {sizes['vocab_size']}"
        )
    return config.replace(**sizes)


def sizes_from(config, **others: Any) -> Sizes:
    """Sizes by the options; ``others`` are the fields that have none. Raises ``UsageError`` for those that do not
    fit."""
    heads = config.num_attention_heads
    hidden = config.hidden_size or 64 * heads
    if hidden % heads:
        raise UsageError(f"--hidden_size {hidden} is not a multiple of --num_attention_heads {heads}")
    if heads % config.tensor_parallel:
        raise UsageError(
            f"--tensor_parallel {config.tensor_parallel} does not divide --num_attention_heads {heads}: "
            "each rank of a tensor group takes as many heads"
        )
    first = others.get("first_position", 0)
    if config.seq_length + first > config.max_position_embeddings:
        before = f", of which the first {first} are for no token" if first else ""
        raise UsageError(
            f"--seq_length {config.seq_length} is longer than --max_position_embeddings "
            f"{config.max_position_embeddings}{before}: "
            + ("lower the former" if config.init_from else "raise the latter")
        )
    return Sizes(
        layers=config.num_hidden_layers,
        heads=heads,
        hidden=hidden,
        intermediate=config.intermediate_size or 4 * hidden,
        vocab=config.vocab_size,
        positions=config.max_position_embeddings,
        seq_length=config.seq_length,
        hidden_dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        **others,
    )
