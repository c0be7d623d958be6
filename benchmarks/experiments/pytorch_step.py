"""The side of PyTorch in the experiment ``step``; nothing of pipeloom is imported here.

python pytorch_step.py plain|transformers|ddp LAYERS HIDDEN HEADS SAMPLES prints milliseconds a sample as JSON, versions
the versions.
"""

import json
import os
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional

LENGTH, WORDS, PREDICTIONS, STEPS, WARM = 128, 30522, 20, 14, 4


class Layer(nn.Module):
    """A layer of BERT: post-LayerNorm, exact GELU, dropout 0.1."""

    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)
        self.norms = nn.ModuleList([nn.LayerNorm(hidden, eps=1e-12) for _ in range(2)])
        self.drop = nn.Dropout(0.1)

    def forward(self, x, mask):
        B, L, H = x.shape
        q, k, v = self.qkv(x).reshape(B, L, 3, self.heads, H // self.heads).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.1)
        x = self.norms[0](x + self.drop(self.out(seen.transpose(1, 2).reshape(B, L, H))))
        return self.norms[1](x + self.drop(self.down(functional.gelu(self.up(x)))))


class Bert(nn.Module):
    """BERT for pre-training with a tied decoder over the predicted positions alone."""

    def __init__(self, layers, hidden, heads):
        super().__init__()
        self.words, self.places, self.kinds = (
            nn.Embedding(WORDS, hidden),
            nn.Embedding(512, hidden),
            nn.Embedding(2, hidden),
        )
        self.norm, self.drop = nn.LayerNorm(hidden, eps=1e-12), nn.Dropout(0.1)
        self.layers = nn.ModuleList([Layer(hidden, heads) for _ in range(layers)])
        self.transform, self.transform_norm = nn.Linear(hidden, hidden), nn.LayerNorm(hidden, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(WORDS))
        self.pooler, self.next = nn.Linear(hidden, hidden), nn.Linear(hidden, 2)

    def forward(self, batch):
        ids = batch["input_ids"]
        x = self.words(ids) + self.places(torch.arange(ids.shape[1])) + self.kinds(batch["token_type_ids"])
        x, mask = self.drop(self.norm(x)), batch["attention_mask"][:, None, None, :].bool()
        for layer in self.layers:
            x = layer(x, mask)
        chosen = x.gather(1, batch["positions"][:, :, None].expand(-1, -1, x.shape[2])).flatten(0, 1)
        logits = self.transform_norm(functional.gelu(self.transform(chosen))) @ self.words.weight.T + self.bias
        pooled = torch.tanh(self.pooler(x[:, 0]))
        return functional.cross_entropy(logits, batch["labels"].flatten()) + functional.cross_entropy(
            self.next(pooled), batch["next"]
        )


def random_batch(samples):
    """Return a batch of random words; how long a step takes does not depend on which."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda most, *shape: torch.randint(most, shape, generator=generator)
    return {
        "input_ids": draw(WORDS, samples, LENGTH),
        "token_type_ids": draw(2, samples, LENGTH),
        "attention_mask": torch.ones(samples, LENGTH, dtype=torch.int64),
        "positions": draw(LENGTH, samples, PREDICTIONS),
        "labels": draw(WORDS, samples, PREDICTIONS),
        "next": draw(2, samples),
    }


def timed(model, loss_of, batch):
    """Train and return the median milliseconds of a step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    times = []
    for _ in range(STEPS):
        began = time.perf_counter()
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[WARM:])


def hugging_face(layers, hidden, heads):
    """Return transformers' BERT of this size and its loss of a batch, by the predicted positions alone."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
    )

    def loss_of(model, batch):
        names = ("input_ids", "token_type_ids", "attention_mask")
        found = model.bert(**{name: batch[name] for name in names})
        x = found.last_hidden_state
        chosen = x.gather(1, batch["positions"][:, :, None].expand(-1, -1, x.shape[2])).flatten(0, 1)
        words = functional.cross_entropy(model.cls.predictions(chosen), batch["labels"].flatten())
        return words + functional.cross_entropy(model.cls.seq_relationship(found.pooler_output), batch["next"])

    return transformers.BertForPreTraining(config).train(), loss_of


def of_rank(rank, sizes, samples, port, answer):
    """Train as one of two ranks, each with a core and half of the samples."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(Bert(*sizes).train())
    found = timed(model, lambda model, batch: model(batch), random_batch(samples // 2))
    if rank == 0:
        answer.put(found)
    torch.distributed.destroy_process_group()


def main():
    form = sys.argv[1]
    if form == "versions":
        import transformers

        print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__}))
        return
    *sizes, samples = map(int, sys.argv[2:])
    if form == "ddp":
        import socket

        import torch.multiprocessing as processes

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        answer = processes.get_context("spawn").SimpleQueue()
        processes.spawn(of_rank, (sizes, samples, port, answer), nprocs=2)
        found = answer.get()
    elif form == "transformers":
        found = timed(*hugging_face(*sizes), random_batch(samples))
    else:
        found = timed(Bert(*sizes).train(), lambda model, batch: model(batch), random_batch(samples))
    print(json.dumps({"ms": found / samples}))


if __name__ == "__main__":
    main()
