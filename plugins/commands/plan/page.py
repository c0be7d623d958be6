"""One page of a plan, in one file: nothing is loaded from elsewhere; good on a screen, a phone and on paper."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, List, Mapping, Sequence

from pipeloom.core.planning.worth import TERMS
from pipeloom.plugins.commands.plan import svg
from pipeloom.plugins.commands.plan.colours import PARTS, WORK

_HERE = Path(__file__).parent


def page_of(content: Mapping[str, Any], measured: str = "") -> str:
    """Return the page of a plan's ``content``; ``measured``: what is shown of a run after the figures."""
    mesh, step = content["mesh"], content["step"]
    title = f"{content['model']['name']}, {_mesh(mesh)}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_cluster(content['cluster']))}; {escape(_batch(content))}</p>",
        *(f"<p>{escape(line)}</p>" for line in content["reasons"]),
        _figures(content),
        measured,
        "<h2>Where stages lie</h2>",
        f'<div class="wide">{svg.draw_placement(content)}</div>',
        f"<p>{escape(content['placement']['summary'])}</p>",
        _stages(content),
        "<h2>A step, to scale</h2>",
        f'<div class="wide">{svg.draw_timeline(content)}</div>',
        _key(
            [
                ("forward", WORK["forward"]),
                ("backward", WORK["backward"]),
                ("exchange and update", WORK["after"]),
                ("waiting", "var(--idle)"),
            ]
        ),  # fmt: skip
        _terms(step),
        "<h2>Memory of a rank</h2>",
        f'<div class="wide">{svg.draw_memory(content)}</div>',
        _key([(name, PARTS[number % len(PARTS)]) for number, name in enumerate(svg.part_names(content))]),
        "<h2>Bytes of a step</h2>",
        _traffic(content),
        _alternatives(content),
        f"<p>Seconds and bytes are predicted by the plan's cost model ({escape(content['cluster']['source'])}).</p>",
    ]
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{escape(title)}</title><style>{style}</style></head>'
        f"<body><main>{''.join(body)}</main><script>{script}</script></body></html>\n"
    )


def _mesh(mesh: Mapping[str, int]) -> str:
    tensor = f" x tensor {mesh['tensor']}" if mesh["tensor"] > 1 else ""
    return f"pipeline {mesh['pipeline']} x data {mesh['data']}{tensor}"


def _cluster(cluster: Mapping[str, Any]) -> str:
    return f"{cluster['name']}: {cluster['nodes']} nodes x {cluster['devices_per_node']} {cluster['device']}"


def _batch(content: Mapping[str, Any]) -> str:
    options = content["options"]
    return (
        f"{options['train_global_batch_size']} samples a step in {options['grad_acc_steps']} micro-batches of "
        f"{options['micro_batch']} for each of {content['mesh']['data']} data-parallel ranks"
    )


def _figures(content: Mapping[str, Any]) -> str:
    step, memory = content["step"], content["memory"]
    bubble = step["terms"].get("bubble", 0.0) / step["seconds"]
    fits = f"of {memory['room'] / 1e9:.1f} GB" if memory["fits"] else '<span class="no">does not fit</span>'
    figures = [
        (f"{step['seconds']:.3g} s", "a step"),
        (f"{step['samples_per_second']:.4g}", "samples a second"),
        (f"{step['tokens_per_second']:,.0f}", "tokens a second"),
        (f"{step['mfu']:.1%}", "of the devices' peak (MFU)"),
        (f"{bubble:.0%}", "waiting for other stages"),
        (f"{memory['largest'] / 1e9:.1f} GB", f"the fullest rank, {fits}"),
    ]
    cells = "".join(f'<div class="figure"><b>{value}</b><span>{text}</span></div>' for value, text in figures)
    return f'<div class="figures">{cells}</div>'


def _stages(content: Mapping[str, Any]) -> str:
    flops = sum(row["flops"] for row in content["stages"]) or 1.0
    rows = [
        [
            row["stage"],
            f"{row['blocks'][0]} to {row['blocks'][1]}",
            (row["parameters"], f"{row['parameters'] / 1e6:.2f} M"),
            (row["flops"], f"{row['flops'] / flops:.0%}"),
            (row["forward"], f"{row['forward'] * 1e3:.3g}"),
            (row["backward"], f"{row['backward'] * 1e3:.3g}"),
            (row["in_flight"], str(row["in_flight"])),
        ]
        for row in content["stages"]
    ]
    heads = ["stage", "blocks", "parameters", "FLOPs", "forward, ms", "backward, ms", "micro-batches kept"]
    return f'<div class="wide">{_table(heads, rows)}</div>'


def _terms(step: Mapping[str, Any]) -> str:
    rows = [
        [name, TERMS[name], (seconds, f"{seconds:.4g}"), (seconds, f"{seconds / step['seconds']:.1%}")]
        for name, seconds in step["terms"].items()
    ]
    table = _table(["term", "what it is", "seconds", "of the step"], rows)
    return f"<p>The step of the stage that works longest, by reason:</p>{table}"


def _traffic(content: Mapping[str, Any]) -> str:
    traffic = content["traffic"]
    rows = [
        [
            name if name != "shared" else "tied embedding",
            (traffic["between_nodes"][name], f"{traffic['between_nodes'][name] / 1e6:,.1f}"),
            (traffic["inside_nodes"][name], f"{traffic['inside_nodes'][name] / 1e6:,.1f}"),
        ]
        for name in traffic["between_nodes"]
    ]
    table = _table(["what", "MB between nodes", "MB inside nodes"], rows)
    links = sorted(traffic["links"].items(), key=lambda entry: -entry[1])[:24]
    listed = ", ".join(f"{name.replace('->', ' to ')}: {size / 1e6:,.1f} MB" for name, size in links)
    return table + (f"<p>From node to node: {listed}</p>" if links else "")


def _alternatives(content: Mapping[str, Any]) -> str:
    search = content.get("search")
    if not search:
        return ""
    best = search["best"][0]["seconds"]
    rows: List[Sequence[Any]] = []
    seen = set()
    for one in [*search["best"], *search["kinds"], *search["unfit"]]:
        if one["text"] in seen:
            continue
        seen.add(one["text"])
        why = one.get("why") or ("" if one not in search["unfit"] else "does not fit into memory")
        slower = one["seconds"], f"{one['seconds'] / best - 1:+.1%}"
        rows.append([one["text"], (one["seconds"], f"{one['seconds']:.4g}"), slower, why])
    head = f"<h2>Alternatives</h2><p>{search['candidates']} layouts were weighed in {search['seconds']:.2f} s.</p>"
    table = _table(["layout", "seconds a step", "slower", "why"], rows)
    flags = escape(search["best"][0]["flags"])
    return f'{head}<div class="wide">{table}</div><p>Take the best by <code>{flags}</code></p>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table that sorts by a click on a head; a cell is text, or ``(value to sort by, text)``."""
    numbers = [bool(rows) and isinstance(cell, tuple) for cell in (rows[0] if rows else heads)]
    head = "".join(
        f'<th scope="col"{" class=number" if is_number else ""}><button type="button">{escape(name)}</button></th>'
        for name, is_number in zip(heads, numbers)
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(cell: Any) -> str:
    if isinstance(cell, tuple):
        return f'<td class="number" data-value="{cell[0]!r}">{escape(cell[1])}</td>'
    return f"<td>{escape(str(cell))}</td>"


def _key(entries: Sequence["tuple[str, str]"]) -> str:
    listed = "".join(f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in entries)
    return f'<div class="key">{listed}</div>'


def run_part(rows: Sequence[Sequence[Any]], curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Return the part of a page that shows a run: predicted beside measured, and its curves."""
    table = _table(["figure", "predicted", "measured", "predicted over measured"], rows)
    drawn = "".join(
        f'<h2>{escape(name)}</h2><div class="wide">{svg.draw_curve(points, name)}</div>'
        for name, points in curves.items()
        if len(points) > 1
    )
    return f"<h2>Predicted and measured</h2>{table}{drawn}"
