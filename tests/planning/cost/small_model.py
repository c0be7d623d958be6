"""A model of blocks with given costs, for the cost model's tests."""

from pipeloom.core.contract.blocks import Block, Borrow, Cost, ModelSpec, ParameterSpec


def block(name, flops, size, layer=False, hidden=64, borrow=None, vocabulary=False):
    return Block(
        name,
        (ParameterSpec(f"{name}.weight", (size // hidden, hidden), tensor_dim=0, vocabulary=vocabulary),),
        Cost(flops=flops, output_bytes=4.0 * hidden, kept_bytes=40.0 * hidden, tensor_bytes=16.0 * hidden),
        inputs=("input_ids",),
        build=lambda scope: None,
        borrow=borrow,
        layer=layer,
    )


def model(layers=6, flops=1e6, head=5e5, tied=True):
    """``layers`` equal layers between embeddings and a head that holds the table."""
    table = ParameterSpec("head.weight", (1024, 64), tensor_dim=0, vocabulary=True)
    copy = Block(
        "embeddings",
        (table, ParameterSpec("positions", (128, 64))),
        Cost(0.0, 256.0, 256.0, 256.0),
        ("input_ids",),
        lambda s: None,
    )
    first = Block(
        "embeddings",
        (ParameterSpec("positions", (128, 64)),),
        Cost(0.0, 256.0, 256.0),
        (),
        lambda scope: None,
        borrow=Borrow("head", "word", "input_ids", copy),
    )
    if not tied:
        first = block("embeddings", 0.0, 65536, vocabulary=True)
    last = Block("head", (table,), Cost(head, 0.0, 256.0, 256.0), ("labels",), lambda scope: None)
    middle = tuple(block(f"layer.{number}", flops, 49152, layer=True) for number in range(layers))
    return ModelSpec("small", "task", (first, *middle, last), {"loss": 1.0})
