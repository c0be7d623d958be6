"""The blocks of a transformer on the scope of a stage. Nothing here knows about ranks.

Shapes: B = micro-batch, L = sequence, H = hidden, N = B x L, A = heads, D = head size, Q = queries of a run, K = keys.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, List, Mapping

import numpy as np

from pipeloom.core.contract.blocks import DROPOUT_SEEDS
from pipeloom.core.contract.layers import LayerNorm, Linear, WordLookup
from pipeloom.core.contract.scope import DropoutFunction, Scope, Tensor
from pipeloom.plugins.models.transformer.attention import query_runs
from pipeloom.plugins.models.transformer.sizes import Sizes
from pipeloom.plugins.models.transformer.transformer_blocks import EmbeddingNames, LayerNames


class Embeddings:
    """Add up words, positions and, where the model has them, segments; normalise where it does."""

    def __init__(self, scope: Scope, sizes: Sizes, names: EmbeddingNames, tied: bool) -> None:
        self.scope, self.ops, self.sizes = scope, scope.ops, sizes
        self.word = None if tied else WordLookup(scope, names.word, sizes.padding)
        self.position = scope.parameter(names.position)
        self.segment = None if names.segment is None else scope.parameter(names.segment)
        self.norm = None if names.norm is None else LayerNorm(scope, names.norm, sizes.norm_eps)
        self.dropout = scope.dropout(names.dropout, sizes.hidden_dropout, sizes.hidden_shape)

    def __call__(self, words_BLH, fields):
        """Embed; ``words_BLH`` are the looked-up vectors when the table is borrowed, else None."""
        if self.word is not None:
            words_BLH = self.word(fields["input_ids"])
        B, L, H = words_BLH.shape
        decoding, first = self.scope.decoding, self.sizes.first_position
        if decoding is not None:
            rows_N = (decoding.positions + first).reshape(B * L)
            x_NH = words_BLH.reshape(B * L, H) + self.ops.gather(self.position, rows_N)
        elif self.sizes.count_tokens:
            rows_N = self._counted(fields["input_ids"]).reshape(B * L)
            x_NH = words_BLH.reshape(B * L, H) + self.ops.gather(self.position, rows_N, self.sizes.padding)
        else:
            positions = self.ops.narrow(self.ops.use(self.position), 0, first, L).reshape(L * H)
            x_NH = self.ops.add_row(words_BLH.reshape(B, L * H), positions).reshape(B * L, H)
        if self.segment is not None and self.sizes.segments == 1:
            x_NH = self.ops.add_row(x_NH, self.ops.use(self.segment).reshape(H))
        elif self.segment is not None:
            x_NH = x_NH + self.ops.gather(self.segment, fields["segment_ids"].reshape(B * L))
        if self.norm is not None:
            x_NH = self.norm(x_NH)
        return self.dropout(x_NH.reshape(B, L, H), fields[DROPOUT_SEEDS])

    def _counted(self, ids_BL):
        """Return the rows of the position table as transformers' ``create_position_ids_from_input_ids`` does."""
        token_BL = (self.ops.to_float(ids_BL == self.sizes.padding) - 1.0) * -1.0
        return self.ops.to_ids(self.ops.cumsum(token_BL, 1) * token_BL) + (self.sizes.first_position - 1)


def _keyed(dropout: DropoutFunction, seeds: Any) -> Callable[[Tensor], Tensor]:
    """Return ``dropout`` for a micro-batch."""
    return lambda x: dropout(x, seeds)


class FullAttention:
    """Attend to all tokens of the sequence but padding."""

    def __init__(self, scope: Scope, sizes: Sizes, place: str) -> None:
        self.ops = scope.ops
        shape = (sizes.heads, sizes.seq_length, sizes.seq_length)
        self.dropout = scope.dropout(place, sizes.attention_dropout, shape, split=True)

    def __call__(self, query_BALD, key_BALD, value_BALD, fields: Mapping[str, Any]):
        B, L = query_BALD.shape[0], key_BALD.shape[2]
        # 0 where there is a token, a large negative number at padding.
        mask_B11L = ((self.ops.to_float(fields["input_mask"]) - 1.0) * -self.ops.MASKED).reshape(B, 1, 1, L)
        return self.ops.attention(
            query_BALD, key_BALD, value_BALD, mask_B11L, _keyed(self.dropout, fields[DROPOUT_SEEDS])
        )


class CausalAttention:
    """Attend to no later token, and, unless ``across_documents``, to none of another document.

    The queries are taken in runs, each over the keys up to its end (``attention.py``).
    """

    def __init__(self, scope: Scope, sizes: Sizes, place: str) -> None:
        self.scope, self.ops, self.sizes, self.place, self.runs = scope, scope.ops, sizes, place, query_runs(sizes)
        self.masks = [
            scope.constant(f"causal_{start}_{stop}", partial(self._mask, start, stop)) for start, stop in self.runs
        ]
        self.dropouts = [
            scope.dropout(
                place if len(self.runs) == 1 else f"{place}.{start}",
                sizes.attention_dropout,
                (sizes.heads, stop - start, stop),
                split=True,
            )
            for start, stop in self.runs
        ]

    def _mask(self, start: int, stop: int) -> np.ndarray:
        later = np.arange(stop) > np.arange(start, stop)[:, None]
        return np.where(later, self.ops.MASKED, 0.0).astype(np.float32)[None, None]

    def __call__(self, query_BALD, key_BALD, value_BALD, fields: Mapping[str, Any]):
        decoding = self.scope.decoding
        if decoding is not None:
            keys, values = (
                decoding.keep(f"{self.place}.{name}", x, 2) for name, x in (("key", key_BALD), ("value", value_BALD))
            )
            return self.ops.attention(query_BALD, keys, values, decoding.mask, lambda probs: probs)
        seeds, contexts = fields[DROPOUT_SEEDS], []
        for (start, stop), mask_11QK, dropout in zip(self.runs, self.masks, self.dropouts):
            mask = mask_11QK if self.sizes.across_documents else self._between_documents(mask_11QK, start, stop, fields)
            contexts.append(
                self.ops.attention(
                    self.ops.narrow(query_BALD, 2, start, stop - start),
                    self.ops.narrow(key_BALD, 2, 0, stop),
                    self.ops.narrow(value_BALD, 2, 0, stop),
                    mask,
                    _keyed(dropout, seeds),
                )
            )
        return contexts[0] if len(contexts) == 1 else self.ops.concat(contexts, 2)

    def _between_documents(self, mask_11QK, start: int, stop: int, fields: Mapping[str, Any]):
        """Return the mask ``(B, 1, Q, K)`` that also keeps queries from keys of other documents."""
        ids_BL = fields["document_ids"]
        B = ids_BL.shape[0]
        rows_BQ1 = self.ops.narrow(ids_BL, 1, start, stop - start).reshape(B, stop - start, 1)
        same_BQK = self.ops.to_float(rows_BQ1 == self.ops.narrow(ids_BL, 1, 0, stop).reshape(B, 1, stop))
        return ((same_BQK - 1.0) * -self.ops.MASKED).reshape(B, 1, stop - start, stop) + mask_11QK


class Attention:
    """Attend with several heads."""

    def __init__(self, scope: Scope, sizes: Sizes, names: LayerNames) -> None:
        self.scope, self.ops, self.sizes = scope, scope.ops, sizes
        self.query = Linear(scope, names.query, "column_linear")
        self.key = Linear(scope, names.key, "column_linear")
        self.value = Linear(scope, names.value, "column_linear")
        self.output = Linear(scope, names.attention_output, "row_linear")
        self.attend = (CausalAttention if sizes.causal else FullAttention)(scope, sizes, names.probs_dropout)

    def __call__(self, x_NH, B: int, fields: Mapping[str, Any]):
        query, key, value = self.heads(x_NH, B)
        context_BALD = self.attend(query, key, value, fields)
        return self.output(context_BALD.permute(0, 2, 1, 3).reshape(x_NH.shape[0], self.sizes.hidden))

    def heads(self, x_NH, B: int) -> List[Any]:
        """Return queries, keys and values, each ``(B, A, L, D)``."""
        x_NH = self.ops.into_group(x_NH)
        L, A, D = x_NH.shape[0] // B, self.sizes.heads, self.sizes.head_size
        return [part(x_NH).reshape(B, L, A, D).permute(0, 2, 1, 3) for part in (self.query, self.key, self.value)]


class Layer:
    """Compute one layer: attention and MLP, each with dropout and a sum with what it reads."""

    def __init__(self, scope: Scope, sizes: Sizes, names: LayerNames) -> None:
        self.scope, self.ops, self.sizes = scope, scope.ops, sizes
        self.attention = Attention(scope, sizes, names)
        self.attention_norm = LayerNorm(scope, names.attention_norm, sizes.norm_eps)
        self.intermediate = Linear(scope, names.intermediate, "column_linear")
        self.output = Linear(scope, names.output, "row_linear")
        self.output_norm = LayerNorm(scope, names.output_norm, sizes.norm_eps)
        self.attention_dropout = scope.dropout(names.attention_dropout, sizes.hidden_dropout, sizes.hidden_shape)
        self.output_dropout = scope.dropout(names.output_dropout, sizes.hidden_dropout, sizes.hidden_shape)

    def __call__(self, hidden_BLH, fields):
        B, L, H = hidden_BLH.shape
        seeds = fields[DROPOUT_SEEDS]

        def attention(x_NH):
            return self.attention(x_NH, B, fields)

        x_NH = hidden_BLH.reshape(B * L, H)
        for sublayer, norm, dropout in (
            (attention, self.attention_norm, self.attention_dropout),
            (self._mlp, self.output_norm, self.output_dropout),
        ):
            y_NH = sublayer(norm(x_NH) if self.sizes.pre_norm else x_NH)
            x_NH = x_NH + dropout(y_NH.reshape(B, L, H), seeds).reshape(B * L, H)
            x_NH = x_NH if self.sizes.pre_norm else norm(x_NH)
        return x_NH.reshape(B, L, H)

    def _mlp(self, x_NH):
        y_NF = self.intermediate(self.ops.into_group(x_NH))
        return self.output(self.ops.activation(self.sizes.activation, y_NF))


class Normalised:
    """Normalise hidden states before what stands behind them, whose parts are this one's too."""

    def __init__(self, scope: Scope, name: str, eps: float, inner: Any) -> None:
        self.norm, self.inner = LayerNorm(scope, name, eps), inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, hidden_BLH, fields):
        B, L, H = hidden_BLH.shape
        return self.inner(self.norm(hidden_BLH.reshape(B * L, H)).reshape(B, L, H), fields)
