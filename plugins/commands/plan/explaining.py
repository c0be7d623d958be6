"""``plan --explain A B``: when which of two strategies wins, as an inequality with this cluster's numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.host.plugin_manager import hooks_of, load_plugin
from pipeloom.core.planning.cost.hardware import Machines, Network
from pipeloom.core.planning.worth import slowest_link
from pipeloom.plugins.commands.plan.planned import Planned

#: Bandwidths between nodes among which the meeting point is looked for, in bytes a second.
_LEAST, _MOST = 1e5, 1e13
_HALVINGS = 60


def explain(rest: Sequence[str], first: str, second: str) -> Tuple[List[str], Dict[str, Any]]:
    """Return lines and content on when strategy ``first`` wins over ``second``. Raises ``UsageError``."""
    if first == second:
        raise UsageError(f"--explain {first} {second}: name two different strategies")
    plans = [Planned.of(with_strategy(rest, name), name=name) for name in (first, second)]
    machines = plans[0].known.machines
    rate = machines.between.bandwidth
    lines = [f"{plans[0].plan.model.name} on {machines.name}, {bits(rate)} between nodes:"]
    content: Dict[str, Any] = {"strategies": {}, "bandwidth": rate}
    forms = []
    for one in plans:
        link = slowest_link(one.worth) or {}
        fixed, amount = _form(one)
        forms.append((fixed, amount))
        listed = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in link.items()) or "nothing"
        where = one.plan.placement.summary()
        lines.append(f"  {one.name}: {one.worth.seconds:.3g} s a step; {listed} leave a node ({where})")
        content["strategies"][one.name] = {
            "seconds": one.worth.seconds,
            "leaving_a_node": link,
            "fixed_seconds": fixed,
            "bytes_that_are_waited_for": amount,
        }
    near = f"near {bits(rate)}"
    (a, x), (b, y) = forms
    lines.append(
        f"with w bytes a second between nodes ({near}, and without a limit) {first} wins where "
        f"{a:.3g} s + {x / 1e6:.1f} MB / w < {b:.3g} s + {y / 1e6:.1f} MB / w"
    )
    meeting = meeting_point(plans)
    content["meet_at"] = meeting
    slow, fast = (_seconds(one, _LEAST) for one in plans), (_seconds(one, _MOST) for one in plans)
    wins_slow, wins_fast = (_winner(plans, figures) for figures in (slow, fast))
    if meeting is None:
        lines.append(f"they meet nowhere between {bits(_LEAST)} and {bits(_MOST)}: {wins_slow} wins throughout")
    else:
        lines.append(f"they meet at {bits(meeting)}: {wins_slow} wins below it, {wins_fast} above")
    winner = min(plans, key=lambda one: one.worth.seconds)
    other = next(one for one in plans if one is not winner)
    content["winner"] = winner.name
    lines.append(f"here {winner.name} wins, {other.worth.seconds / winner.worth.seconds:.2f} x faster")
    return lines, content


def with_strategy(rest: Sequence[str], name: str) -> List[str]:
    """Return the arguments with ``name`` in the place of the strategy among their plugins."""
    words = list(rest)
    place = next((number for number, word in enumerate(words) if word.partition("=")[0] == "--plugins"), None)
    if place is None:
        raise UsageError("--explain needs --plugins: it puts each of the two strategies among them")
    value = words[place].partition("=")[2] if "=" in words[place] else words[place + 1]
    names = [one.strip() for one in value.split(",") if one.strip()]
    kept = [one for one in names if not _lays_out(one)]
    if not _lays_out(name):
        raise UsageError(f"--explain {name}: this plugin is no strategy, for it places nothing")
    chosen = ",".join([name, *kept])
    if "=" in words[place]:
        return [*words[:place], f"--plugins={chosen}", *words[place + 1 :]]
    return [*words[: place + 1], chosen, *words[place + 2 :]]


def _lays_out(name: str) -> bool:
    return not name.startswith("-") and "pipeloom_place" in hooks_of(load_plugin(name)[0])


def meeting_point(plans: Sequence[Planned]) -> Optional[float]:
    """Return the bandwidth between nodes at which both take the same time; ``None`` where one always wins."""

    def gap(rate: float) -> float:
        one, other = (_seconds(plan, rate) for plan in plans)
        return one - other

    low, high = _LEAST, _MOST
    if gap(low) * gap(high) >= 0:
        return None
    sign = gap(low)
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if gap(middle) * sign > 0 else (low, middle)
    return (low * high) ** 0.5


def _form(planned: Planned) -> Tuple[float, float]:
    """``a`` and ``x`` of ``a + x / w``, which is right at this cluster's bandwidth and without any limit."""
    fixed = _seconds(planned, _MOST)
    return fixed, (planned.worth.seconds - fixed) * planned.known.machines.between.bandwidth


def _seconds(planned: Planned, rate: float) -> float:
    """Seconds of a step with ``rate`` bytes a second between nodes, and other networks there in proportion."""
    machines = planned.known.machines
    return planned.on(planned.known._replace(machines=at_rate(machines, rate))).seconds


def at_rate(machines: Machines, rate: float) -> Machines:
    """Return ``machines`` with ``rate`` between nodes, and a network for one purpose there in proportion."""
    factor = rate / machines.between.bandwidth

    def scaled(network: Optional[Network]) -> Optional[Network]:
        return None if network is None else replace(network, bandwidth=network.bandwidth * factor)

    between = replace(machines.between, bandwidth=rate)
    hidden, gradients = scaled(machines.hidden), scaled(machines.gradients)
    return replace(machines, between=between, hidden=hidden, gradients=gradients)


def _winner(plans: Sequence[Planned], seconds) -> str:
    return min(zip(seconds, (one.name for one in plans)))[1]


def bits(rate: float) -> str:
    """Return bytes a second in words, as networks are sold."""
    size_in_bits = rate * 8
    unit, size = ("Gbit/s", 1e9) if size_in_bits >= 1e9 else ("Mbit/s", 1e6)
    number = size_in_bits / size
    return f"{number:,.3g} {unit}" if number < 1000 else f"{number:,.0f} {unit}"
