"""What a reader sees of a template or a parser function; of those of which nothing is known nothing can be said."""

from __future__ import annotations

import re
from typing import Optional, Sequence

from pipeloom.plugins.libraries.corpus.wiki_numbers import french_century, number
from pipeloom.plugins.libraries.corpus.wiki_renders import Parameters, first
from pipeloom.plugins.libraries.corpus.wiki_template_tables import COMMON, OWN, OWN_UNSEEN, SHIPS, UNSEEN


def rendered(name: str, given: Parameters) -> Optional[str]:
    """What stands on the page for the template ``name`` (lower case); ``None`` for one of which that is not known."""
    own = given.language.partition("-")[0]
    render = OWN.get(own, {}).get(name)
    if render is not None:
        return render(given)
    if own == "fr":
        century = french_century(name, given.values)
        if century is not None:
            return century
    if name in COMMON:
        return COMMON[name](given)
    if name.startswith("lang-") or own == "de" and re.fullmatch(r"[a-z]{2,3}s", name) and given.values:
        return first(given)  # German {{enS|text}}
    if name in SHIPS:
        return " ".join([name.upper(), *given.values[:1]])
    return "" if UNSEEN.match(name) or name in OWN_UNSEEN.get(own, ()) else None


def parser_function(name: str, values: Sequence[str], language: str) -> Optional[str]:
    """What ``{{name:value|value}}`` gives; ``None`` for a function that is not known, or whose condition is not."""
    value, rest = values[0], list(values[1:])
    if name == "formatnum":
        return number(value, language) if rest[:1] != ["R"] else value
    if name in (
        "defaultsort",
        "displaytitle",
        "#tag",
        "#invoke:anchor",
        "ключ_сортировки",
        "clé de tri",
        "sortierung",
        "ordenar",
    ):
        return ""
    change = {
        "lc": str.lower,
        "uc": str.upper,
        "ucfirst": lambda text: text[:1].upper() + text[1:],
        "lcfirst": lambda text: text[:1].lower() + text[1:],
    }.get(name)
    if change is not None:
        return change(value)
    # A condition with a hole in it may be either.
    if name not in ("#if", "#ifeq", "#switch", "plural") or any(character >= "\U000f0000" for character in value):
        return None
    rest += [""] * 3
    if name == "#if":
        return rest[0] if value else rest[1]
    if name == "#ifeq":
        return rest[1] if value == rest[0] else rest[2]
    if name == "plural":
        return rest[0] if value == "1" else rest[1] or rest[0]
    return _switched(value, rest)


def _switched(value: str, cases: Sequence[str]) -> str:
    """``{{#switch:b|a=1|b|c=2|#default=3}}``: a case without a result has that of the next one."""
    default, found = "", False
    for case in cases:
        name, equals, result = case.partition("=")
        found = found or name.strip() == value
        if equals and found:
            return result.strip()
        if equals and name.strip() == "#default":
            default = result.strip()
        elif not equals and case:
            default = case  # the last one, without a name
    return default
