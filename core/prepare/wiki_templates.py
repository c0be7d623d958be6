"""What a reader sees of the templates that carry text, in the larger Wikipedias; of all others nothing can be said."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence

from pipeloom.core.prepare.wiki_numbers import date, french_century, number, plain_number


@dataclass
class Parameters:
    """Of a template, as text: ``values`` those without a name (or with a number for one), in their order, ``named`` the others."""

    values: List[str]
    named: Dict[str, str] = field(default_factory=dict)
    language: str = "en"

    def value(self, place: int) -> Optional[str]:
        return self.values[place] if place < len(self.values) and self.values[place] else None


#: What stands for a template; ``None`` where that cannot be said.
Render = Callable[[Parameters], Optional[str]]


def _first(given: Parameters) -> Optional[str]:
    return given.value(0) or given.named.get("text") or given.named.get("texte")


def _last(given: Parameters) -> Optional[str]:
    return given.named.get("text") or next((value for value in reversed(given.values) if value), None)


def _second(given: Parameters) -> Optional[str]:
    return given.value(1) or given.named.get("texte") or given.named.get("text")


def _constant(text: str) -> Render:
    return lambda given: text


def _around(before: str, after: str = "") -> Render:
    def render(given: Parameters) -> Optional[str]:
        found = _first(given)
        return f"{before}{found}{after}" if found else None
    return render


def _link(given: Parameters) -> Optional[str]:
    """A link to another wiki, with the words that are shown for it."""
    shown = next((given.named[name] for name in ("lt", "texte", "fr") if given.named.get(name)), None)
    return shown or _first(given) or given.named.get("trad")


# --- quantities

_RANGES = {**dict.fromkeys(("to", "and", "by", "x", "or", "-", "–", "±"), ""), "to(-)": "to", "and(-)": "and", "+/-": "±", "xx": "x", "*": "x"}
_UNITS = {"sqmi": "sq mi", "sqft": "sq ft", "sqyd": "sq yd", "sqkm": "km2", "cuft": "cu ft", "cumi": "cu mi", "acre": "acres", "C": "°C", "F": "°F",
          "C-change": "°C", "F-change": "°F", "mi/h": "mph", "kn": "knots", "impgal": "imp gal", "USgal": "US gal", "usgal": "US gal", "lbf": "lbf",
          "ftin": "ft", "LT": "long tons", "ST": "short tons", "shton": "short tons", "t": "tonnes", "m2": "m2", "foot": "feet"}


_WORDS = frozenset("acre foot inch mile metre meter kilometre kilometer tonne ton pound hectare".split())


def _converted(given: Parameters) -> Optional[str]:
    """``{{convert|10|km|mi}}`` is "10 km", ``{{convert|10|to|12|km|mi}}`` "10 to 12 km"; what it is converted to is left out."""
    values = [number(value, given.language) for value in given.values]
    amount, unit = values[:1], values[1:2]
    if len(values) >= 4 and values[1] in _RANGES:
        amount, unit = [values[0], _RANGES[values[1]] or values[1], values[2]], values[3:4]
    if not unit:
        return None
    if given.named.get("adj") in ("on", "mid") and unit[0] in _WORDS:   # a 40-acre farm
        return f"{' '.join(amount)}-{unit[0]}"
    return " ".join([*amount, _UNITS.get(unit[0], unit[0])])


def _fraction(given: Parameters) -> Optional[str]:
    values = given.values
    if len(values) == 3:
        return f"{values[0]} {values[1]}/{values[2]}"
    return f"{values[0]}/{values[1]}" if len(values) == 2 else f"1/{values[0]}" if values else None


def _quantity(given: Parameters) -> Optional[str]:
    """``{{unité|12000|km|2}}`` is "12 000 km2"; a power of ten cannot be written."""
    if not given.value(0) or given.named.get("e"):
        return None
    units = given.values[1:]
    # Units and their exponents take turns.
    unit = " ".join("".join(pair) for pair in zip(units[0::2], [*units[1::2], ""])).strip()
    return f"{number(given.values[0], given.language)} {unit}".strip()


def _value(given: Parameters) -> Optional[str]:
    """``{{val|12.5|0.3|u=m}}`` is "12.5±0.3 m"."""
    if not given.value(0) or given.named.get("e") or any(not plain_number(value) for value in given.values[:2]) or len(given.values) > 2:
        return None
    error = f"±{given.values[1]}" if given.value(1) else ""
    unit = given.named.get("u") or given.named.get("ul") or given.named.get("up") or ""
    return f"{number(given.values[0], given.language)}{error} {unit}".strip()


def _measure(given: Parameters) -> Optional[str]:
    """Italian ``{{M|12|u=km}}`` and ``{{M|12||km}}``."""
    unit = given.named.get("u") or given.named.get("ul") or (given.value(2) or given.value(1) or "")
    return f"{number(given.values[0], given.language)} {unit}".strip() if given.value(0) and not given.named.get("e") else None


def _circa(given: Parameters) -> str:
    return " – ".join(f"c. {value}" for value in given.values[:2] if value) or "c."


def _as_of(given: Parameters) -> Optional[str]:
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


def _english_date(given: Parameters) -> Optional[str]:
    day_first = given.named.get("df", "").lower() in ("y", "yes", "dmy")
    return date(given.values[:3], "en", american=not day_first)


def _written_date(given: Parameters) -> Optional[str]:
    """``{{date|1|janvier|2000}}``, ``{{fecha|1|5|2000}}``: day, month, year."""
    values = [value for value in given.values[:3] if not value.startswith(("en ", "au "))]
    if len(values) == 1:
        return values[0]
    return date(values[::-1], given.language)


def _class_of_ships(given: Parameters) -> Optional[str]:
    return f"{given.values[0]}-class {given.values[1]}" if given.value(0) and given.value(1) else None


def _flag(given: Parameters) -> Optional[str]:
    name = _first(given)
    return None if name is None or len(name) <= 3 else name     # a code stands for a name


_COMMON: Dict[str, Render] = {
    **dict.fromkeys("lang,transl,transliteration,script,resize,color,colour,font color,background color,langue,язык".split(","), _last),
    "langx": _second,
    **dict.fromkeys(("nowrap,nobr,no break,abbr,tooltip,nihongo,smallcaps,sc,sc2,smallcaps all,small,smaller,big,large,larger,visible anchor,vanchor,"
                     "quote,cquote,quotation,blockquote,bq,rquote,polytonic,unicode,hebrew,arabic,em,strong,bold,italic,nobold,noitalic,"
                     "underline,keypress,key press,kbd,samp,var,mvar,mono,tt,tq,gr,sub,sup,sup sub,aut,chem2,clarify span,citation needed span,"
                     "dubious span,quote without source,iw2,nastaliq,text").split(","), _first),
    **dict.fromkeys(("interlanguage link", "ill", "lien", "link-interwiki", "仮リンク", "не переведено", "нп3", "нп5"), _link),
    **dict.fromkeys(("convert", "cvt"), _converted), **dict.fromkeys(("frac", "fraction", "sfrac"), _fraction), "val": _value,
    **dict.fromkeys(("ndash", "snd", "spnd", "spaced ndash", "en dash"), _constant(" – ")),
    **dict.fromkeys(("mdash", "spaced mdash", "em dash"), _constant(" — ")),
    **dict.fromkeys(("nbsp", "spaces", "space", "thinsp", "hsp", "br", "break", "sp", "0"), _constant(" ")),
    **dict.fromkeys(("shy", "wbr", "zwj", "zwnj", "zwsp"), _constant("")), **dict.fromkeys(("nbhyph", "nbh", "hyphen"), _constant("-")),
    **dict.fromkeys(("middot", "·", "dot", "bull", "•"), _constant(" · ")), **dict.fromkeys(("ellipsis", "..."), _constant("…")),
    **dict.fromkeys(("circa", "c."), _circa), "as of": _as_of, "'": _constant("'"), "'s": _constant("'s"), "okina": _constant("ʻ"),
    **dict.fromkeys(("sic", "not a typo", "notatypo", "typo", "as written", "proper name", "linktext", "chem"), lambda given: "".join(given.values)),
    "sortname": lambda given: " ".join(given.values[:2]), "ship": lambda given: " ".join(value for value in given.values[:2] if value),
    **dict.fromkeys(("sclass", "sclass-", "sclass2", "sclass2-"), _class_of_ships),
    **dict.fromkeys(("flag", "flagu", "flagcountry", "country"), _flag),
    "pi": _constant("π"), "degree": _constant("°"), "deg": _constant("°"), "!": _constant("|"), "=": _constant("="), "co2": _constant("CO2"),
    **dict.fromkeys(("us$", "usd"), _around("US$")), **dict.fromkeys(("inr", "indian rupee", "₹"), _around("₹")),
    **dict.fromkeys(("gbp", "£"), _around("£")), **dict.fromkeys(("eur", "€"), _around("€")), **dict.fromkeys(("jpy", "¥"), _around("¥")),
    "a$": _around("A$"), "c$": _around("C$"), "isbn": _around("ISBN "),
    **dict.fromkeys(("birth date", "birth-date", "death date", "start date", "end date", "release date", "film date"), _english_date),
}

_FRENCH: Dict[str, Render] = {
    **dict.fromkeys(("nb", "nombre", "unité", "unite", "unité/2", "formatnum", "num"), _quantity),
    **dict.fromkeys("date,date-,date de naissance,date de naissance-,date de décès,date de décès-,date rapide".split(","), _written_date),
    **dict.fromkeys(("citation,citation étrangère,cita,\",guil,guillemets,citation bloc").split(","), _around("« ", " »")),
    **dict.fromkeys(("refnec", "référence nécessaire", "référence souhaitée", "ref nec", "passage non neutre", "pas clair", "non neutre",
                     "exp", "petites capitales", "pc", "rom-maj", "rom", "abréviation", "japonais", "souligner", "surligner", "fchim"), _first),
    "incise": _around("– ", " –"), "n°": _around("no "), "numéro": _around("no "), "nº": _around("no "), "p.": _around("p. "), "vol.": _around("vol. "),
    "m.": _around("M. "), "mme": _around("Mme "), "mlle": _around("Mlle "), "mgr": _around("Mgr "), "dr": _around("Dr "), "me": _around("Me "),
    **dict.fromkeys(("av jc", "av. j.-c.", "avjc", "-jc"), _constant("av. J.-C.")),
    **dict.fromkeys(("ap jc", "ap. j.-c.", "apjc"), _constant("apr. J.-C.")),
    "heure": lambda given: " h ".join(value for value in given.values[:2] if value) + (" h" if len(given.values) == 1 else "") or None,
    "tiret": _constant(" – "), "e": _constant("e"), "er": _constant("er"), "re": _constant("re"), "ère": _constant("ère"), "à": _constant("à"),
}
_GERMAN: Dict[str, Render] = {
    **dict.fromkeys(("\"", "zitat", "zitat-de"), _around("„", "“")), "§": lambda given: "§ " + " ".join(filter(None, given.values[:2])),
    **dict.fromkeys(("nowrap", "polytonisch", "zh", "akü", "ß"), _first), "höhe": lambda given: given.value(0) and given.values[0] + " m",
    "bruch": _fraction, "nr.": _around("Nr. "), "s.": _around("S. "), "eur": _around("", " Euro"), "chf": _around("", " Schweizer Franken"),
}
_SPANISH: Dict[str, Render] = {
    **dict.fromkeys(("esd", "espacio duro", "nowrap"), lambda given: " ".join(given.values) or " "),
    **dict.fromkeys(("unidad", "unidades"), _quantity), "fecha": _written_date, "versalita": _first, "versalitas": _first,
    **dict.fromkeys(("cita", "\"", "cita en línea"), _around("«", "»")), "convertir": _converted,
    **dict.fromkeys(("ac", "a. c.", "a.c."), _constant("a. C.")), **dict.fromkeys(("dc", "d. c.", "d.c."), _constant("d. C.")),
    "siglo": lambda given: given.value(0) and ("siglo " if given.value(2) == "s" else "") + given.values[0].upper()
    + {"a": " a. C.", "d": " d. C."}.get((given.value(1) or "")[:1].lower(), ""),
}
_ITALIAN: Dict[str, Render] = {
    "m": _measure, **dict.fromkeys(("unità",), _quantity), **dict.fromkeys(("citazione", "\""), _around("«", "»")),
    **dict.fromkeys(("tutto attaccato", "ta", "senza fonte", "maiuscoletto", "nowrap"), _first), "data": _written_date,
    **dict.fromkeys(("a.c.", "a.c"), _constant("a.C.")), **dict.fromkeys(("d.c.",), _constant("d.C.")),
}
_PORTUGUESE: Dict[str, Render] = {
    **dict.fromkeys(("fmtn", "unidade"), _quantity), "séc": _around("século "), "século": _around("século "), "dtext": _written_date, "br$": _around("R$ "),
    **dict.fromkeys(("ac", "a.c."), _constant("a.C.")), **dict.fromkeys(("dc", "d.c."), _constant("d.C.")),
}
_RUSSIAN: Dict[str, Render] = {
    **dict.fromkeys(("число", "num", "formatnum"), _quantity), **dict.fromkeys(("s", "нет разрыва", "nobr", "comment", "подсказка"), _first),
    **dict.fromkeys(("до н. э.", "до н.э."), _constant("до н. э.")),
}
_JAPANESE: Dict[str, Render] = {
    **dict.fromkeys(("ルビ", "ruby", "jis2004フォント", "補助漢字フォント", "cp932フォント", "要出典範囲"), _first),
    "読み仮名": lambda given: f"{given.values[0]}（{given.values[1]}）" if given.value(1) else _first(given),
}
_CHINESE: Dict[str, Render] = {
    **dict.fromkeys(("le", "link-en", "link-ja", "tsl", "internal link helper/en", "kai", "僻字", "ruby", "zy"), _first),
    "notea": _constant(""), "noteta": _constant(""), "jpn": _last,
}
_OWN: Dict[str, Dict[str, Render]] = {"fr": _FRENCH, "de": _GERMAN, "es": _SPANISH, "it": _ITALIAN, "pt": _PORTUGUESE, "ru": _RUSSIAN,
                                      "ja": _JAPANESE, "zh": _CHINESE}
_SHIPS = frozenset("uss hms hmas hmcs ss rms ms mv sms usns uscgc".split())
# Templates that show nothing but a mark or a note beside the text.
_UNSEEN = re.compile(r"(sfn|efn|refn|r|rp|cn|fact|citation needed|cite|note|notetag|who|which|when|where|clarify|clarification needed|dubious|"
                     r"failed verification|verify|page needed|by whom|according to whom|pov|better source|update after|update inline|"
                     r"anchor|cbignore|dead link|webarchive|defaultsort|use [a-z]+ (dates|english)|pp-\w+|good article|featured article|flagicon|"
                     r"clear|harvnb)\b|citation$")
_OWN_UNSEEN: Dict[str, Sequence[str]] = {
    "fr": ("quoi", "qui", "quand", "où", "combien", "pourquoi", "lesquels", "ancre", "référence à confirmer", "source insuffisante", "page h'"),
    "de": ("anker", "anm.", "belege fehlen", "fn", "fnz", "rp"), "es": ("cita requerida", "quién", "cuándo", "ancla", "aclaración requerida"),
    "it": ("chiarire", "quando", "ancora", "nota disambigua", "vedi anche"), "pt": ("carece de fontes", "quem", "quando", "âncora", "nota de rodapé"),
    "ru": ("источник", "нет аи", "нет в источнике", "якорь", "уточнить", "переход", "когда", "кто"),
    "ja": ("要出典", "いつ", "誰", "要検証", "anchors"), "zh": ("来源请求", "來源請求", "fact", "誰", "谁", "何时"),
}


def rendered(name: str, given: Parameters) -> Optional[str]:
    """What stands on the page for the template ``name`` (lower case); ``None`` for one of which that is not known."""
    own = given.language.partition("-")[0]
    render = _OWN.get(own, {}).get(name)
    if render is None and own == "fr":
        century = french_century(name, given.values)
        if century is not None:
            return century
    if render is None:
        render = _COMMON.get(name)
    if render is not None:
        return render(given)
    if name.startswith("lang-") or own == "de" and re.fullmatch(r"[a-z]{2,3}s", name) and given.values:
        return _first(given)    # German {{enS|text}}
    if name in _SHIPS:
        return " ".join([name.upper(), *given.values[:1]])
    return "" if _UNSEEN.match(name) and not (own == "fr" and name == "citation") or name in _OWN_UNSEEN.get(own, ()) else None


def parser_function(name: str, values: Sequence[str], language: str) -> Optional[str]:
    """What ``{{name:value|value}}`` gives; ``None`` for a function that is not known, or whose condition is not."""
    first, rest = values[0], list(values[1:])
    if name == "formatnum":
        return number(first, language) if rest[:1] != ["R"] else first
    if name in ("defaultsort", "displaytitle", "#tag", "#invoke:anchor", "ключ_сортировки", "clé de tri", "sortierung", "ordenar"):
        return ""
    change = {"lc": str.lower, "uc": str.upper, "ucfirst": lambda text: text[:1].upper() + text[1:],
              "lcfirst": lambda text: text[:1].lower() + text[1:]}.get(name)
    if change is not None:
        return change(first)
    # A condition with a hole in it may be either.
    if name not in ("#if", "#ifeq", "#switch", "plural") or any(character >= "\U000f0000" for character in first):
        return None
    rest += [""] * 3
    if name == "#if":
        return rest[0] if first else rest[1]
    if name == "#ifeq":
        return rest[1] if first == rest[0] else rest[2]
    if name == "plural":
        return rest[0] if first == "1" else rest[1] or rest[0]
    return _switched(first, rest)


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
            default = case      # the last one, without a name
    return default
