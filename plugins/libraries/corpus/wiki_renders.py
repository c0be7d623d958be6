"""How templates are written as text: their parameters, and what stands on a page for a kind of template."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional

from pipeloom.plugins.libraries.corpus.wiki_numbers import date, number, plain_number


@dataclass
class Parameters:
    """Of a template, as text: ``values`` those without a name (or with a number for one), in their order, ``named`` the
    others."""

    values: List[str]
    named: Dict[str, str] = field(default_factory=dict)
    language: str = "en"

    def value(self, place: int) -> Optional[str]:
        return self.values[place] if place < len(self.values) and self.values[place] else None


#: What stands for a template; ``None`` where that cannot be said.
Render = Callable[[Parameters], Optional[str]]


def first(given: Parameters) -> Optional[str]:
    return given.value(0) or given.named.get("text") or given.named.get("texte")


def last(given: Parameters) -> Optional[str]:
    return given.named.get("text") or next((value for value in reversed(given.values) if value), None)


def second(given: Parameters) -> Optional[str]:
    return given.value(1) or given.named.get("texte") or given.named.get("text")


def constant(text: str) -> Render:
    return lambda given: text


def around(before: str, after: str = "") -> Render:
    def render(given: Parameters) -> Optional[str]:
        found = first(given)
        return f"{before}{found}{after}" if found else None

    return render


def link(given: Parameters) -> Optional[str]:
    """A link to another wiki, with the words that are shown for it."""
    shown = next((given.named[key] for key in ("lt", "texte", "fr") if given.named.get(key)), None)
    return shown or first(given) or given.named.get("trad")


# --- quantities

_RANGES = {
    **dict.fromkeys(("to", "and", "by", "x", "or", "-", "–", "±"), ""),
    "to(-)": "to",
    "and(-)": "and",
    "+/-": "±",
    "xx": "x",
    "*": "x",
}
_UNITS = {
    "sqmi": "sq mi",
    "sqft": "sq ft",
    "sqyd": "sq yd",
    "sqkm": "km2",
    "cuft": "cu ft",
    "cumi": "cu mi",
    "acre": "acres",
    "C": "°C",
    "F": "°F",
    "C-change": "°C",
    "F-change": "°F",
    "mi/h": "mph",
    "kn": "knots",
    "impgal": "imp gal",
    "USgal": "US gal",
    "usgal": "US gal",
    "lbf": "lbf",
    "ftin": "ft",
    "LT": "long tons",
    "ST": "short tons",
    "t": "tonnes",
    "m2": "m2",
    "foot": "feet",
}
_WORDS = frozenset("acre foot inch mile metre meter kilometre kilometer tonne ton pound hectare".split())


def converted(given: Parameters) -> Optional[str]:
    """``{{convert|10|km|mi}}`` is "10 km", ``{{convert|10|to|12|km|mi}}`` "10 to 12 km"; what it is converted to is
    left out."""
    values = [number(value, given.language) for value in given.values]
    amount, unit = values[:1], values[1:2]
    if len(values) >= 4 and values[1] in _RANGES:
        amount, unit = [values[0], _RANGES[values[1]] or values[1], values[2]], values[3:4]
    if not unit:
        return None
    if given.named.get("adj") in ("on", "mid") and unit[0] in _WORDS:  # a 40-acre farm
        return f"{' '.join(amount)}-{unit[0]}"
    return " ".join([*amount, _UNITS.get(unit[0], unit[0])])


def fraction(given: Parameters) -> Optional[str]:
    values = given.values
    if len(values) == 3:
        return f"{values[0]} {values[1]}/{values[2]}"
    return f"{values[0]}/{values[1]}" if len(values) == 2 else f"1/{values[0]}" if values else None


def quantity(given: Parameters) -> Optional[str]:
    """``{{unité|12000|km|2}}`` is "12 000 km2"; a power of ten cannot be written."""
    if not given.value(0) or given.named.get("e"):
        return None
    units = given.values[1:]
    # Units and their exponents take turns.
    unit = " ".join("".join(pair) for pair in zip(units[0::2], [*units[1::2], ""])).strip()
    return f"{number(given.values[0], given.language)} {unit}".strip()


def value(given: Parameters) -> Optional[str]:
    """``{{val|12.5|0.3|u=m}}`` is "12.5±0.3 m"."""
    if (
        not given.value(0)
        or given.named.get("e")
        or any(not plain_number(value) for value in given.values[:2])
        or len(given.values) > 2
    ):
        return None
    error = f"±{given.values[1]}" if given.value(1) else ""
    unit = given.named.get("u") or given.named.get("ul") or given.named.get("up") or ""
    return f"{number(given.values[0], given.language)}{error} {unit}".strip()


def measure(given: Parameters) -> Optional[str]:
    """Italian ``{{M|12|u=km}}`` and ``{{M|12||km}}``."""
    unit = given.named.get("u") or given.named.get("ul") or (given.value(2) or given.value(1) or "")
    return (
        f"{number(given.values[0], given.language)} {unit}".strip()
        if given.value(0) and not given.named.get("e")
        else None
    )


def circa(given: Parameters) -> str:
    return " – ".join(f"c. {value}" for value in given.values[:2] if value) or "c."


def as_of(given: Parameters) -> Optional[str]:
    """``{{as of|2010|5}}`` is "As of May 2010"."""
    if given.named.get("alt"):
        return given.named["alt"]
    when = date(given.values, given.language, american=given.named.get("df", "").lower() == "us")
    if when is None:
        return None
    when = f"{given.named['pre']} {when}" if given.named.get("pre") else when
    word = "Since" if given.named.get("since") else "As of"
    shown = when if given.named.get("bare") else f"{word.lower() if given.named.get('lc') else word} {when}"
    return shown + given.named.get("post", "")


def english_date(given: Parameters) -> Optional[str]:
    day_first = given.named.get("df", "").lower() in ("y", "yes", "dmy")
    return date(given.values[:3], "en", american=not day_first)


def written_date(given: Parameters) -> Optional[str]:
    """``{{date|1|janvier|2000}}``, ``{{fecha|1|5|2000}}``: day, month, year."""
    values = [value for value in given.values[:3] if not value.startswith(("en ", "au "))]
    if len(values) == 1:
        return values[0]
    return date(values[::-1], given.language)


def class_of_ships(given: Parameters) -> Optional[str]:
    return f"{given.values[0]}-class {given.values[1]}" if given.value(0) and given.value(1) else None


def flag(given: Parameters) -> Optional[str]:
    name = first(given)
    return None if name is None or len(name) <= 3 else name  # a code stands for a name


def joined(between: str, most: int = 99) -> Render:
    """The parameters that are not empty, ``most`` of them, with ``between`` between them."""
    return lambda given: between.join(value for value in given.values[:most] if value)


def hour(given: Parameters) -> Optional[str]:
    """French ``{{heure|5|30}}`` is "5 h 30"."""
    values = [value for value in given.values[:2] if value]
    return " h ".join(values) + (" h" if len(values) == 1 else "") if values else None


def spanish_century(given: Parameters) -> Optional[str]:
    """``{{siglo|XIX||s}}`` is "siglo XIX", ``{{siglo|V|a|s}}`` "siglo V a. C."."""
    if not given.value(0):
        return None
    era = {"a": " a. C.", "d": " d. C."}.get((given.value(1) or "")[:1].lower(), "")
    return ("siglo " if given.value(2) == "s" else "") + given.values[0].upper() + era


def with_reading(given: Parameters) -> Optional[str]:
    """Japanese ``{{読み仮名|漢字|かんじ}}``."""
    return f"{given.values[0]}（{given.values[1]}）" if given.value(1) else first(given)
