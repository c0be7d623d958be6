"""Numbers, dates and centuries as MediaWiki and the larger Wikipedias write them."""

from __future__ import annotations

import re
from typing import Dict, Optional, Sequence

MONTHS: Dict[str, Sequence[str]] = {
    "en": "January February March April May June July August September October November December".split(),
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre".split(),
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split(),
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split(),
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre".split(),
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro".split(),
}
_NO_BREAK, _NARROW = "\u00a0", "\u202f"
# What is between the thousands, and before the decimals; from how many digits before the thousands on.
_DOTS, _SPACES, _LONG_SPACES = (".", ",", 1), (_NO_BREAK, ",", 1), (_NO_BREAK, ",", 2)
_SEPARATORS = {
    **dict.fromkeys("de nl da id tr vi el ca sr ro hr sl gl".split(), _DOTS),
    **dict.fromkeys("it sv fi no nb nn cs sk lt lv et uk hu".split(), _SPACES),
    **dict.fromkeys("es pl pt ru be hy bg".split(), _LONG_SPACES),
    "fr": (_NARROW, ",", 1),
}
_NUMBER = re.compile(r"([+\-−]?)(\d+)(?:\.(\d+))?")
_GROUPED = re.compile(r"[+\-−]?\d{1,3}(,\d{3})+(\.\d+)?")


def plain_number(text: str) -> bool:
    """Whether ``text`` is a number with a decimal point, and nothing else."""
    return _NUMBER.fullmatch(text.strip()) is not None


def number(text: str, language: str) -> str:
    """``12345.6`` as ``{{formatnum:}}`` writes it in that language; what is no plain number stays as it is."""
    text = text.strip()
    match = _NUMBER.fullmatch(text.replace(",", "") if _GROUPED.fullmatch(text) else text)
    if match is None:
        return text
    thousands, point, least = _SEPARATORS.get(language.partition("-")[0], (",", ".", 1))
    sign, whole, decimals = match[1], match[2], match[3]
    if len(whole) >= 3 + least:
        whole = re.sub(r"(?<=\d)(?=(\d{3})+$)", thousands, whole)
    return sign.replace("-", "−") + whole + (point + decimals if decimals else "")


def date(values: Sequence[str], language: str, american: bool = False) -> Optional[str]:
    """Year, month (number or name) and day, as many as there are: "12 May 2010"; ``None`` for what is no date."""
    values = [value for value in values if value]
    own = language.partition("-")[0]
    if not values or not re.search(r"\d", values[0]):
        return None
    year = values[0]
    if len(values) == 1:
        return year
    month, day = values[1], values[2].lstrip("0") if len(values) > 2 else ""
    if month.isdigit():
        if not 1 <= int(month) <= 12 or own not in MONTHS:
            return None
        month = MONTHS[own][int(month) - 1]
    of = " de " if own in ("es", "pt") else " "
    if not day:
        return f"{month}{of}{year}"
    if own == "en" and american:
        return f"{month} {day}, {year}"
    if own == "de":
        return f"{day}. {month} {year}"
    return f"{_FIRST.get(own, day) if day == '1' else day}{of}{month}{of}{year}"


_FIRST = {"fr": "1er", "it": "1º"}
_ROMAN = re.compile(r"[ivxlcdm]+")


def _ordinal(roman: str) -> str:
    return roman.upper() + ("er" if roman.lower() == "i" else "e")


def french_century(name: str, values: Sequence[str]) -> Optional[str]:
    """``{{XIXe siècle}}``, ``{{s-|XIX}}``, ``{{s2-|XVIII|XIX}}``, ``{{-s|V}}``, ``{{1er}}``, ``{{XIVe}}``; ``None`` for
    another template."""
    match = re.fullmatch(r"([ivxlcdm]+)(e|er|re)( siècles?(?: av\. j\.-c\.)?)?", name)
    if match:
        return match[1].upper() + match[2] + (match[3] or "").replace("j.-c.", "J.-C.")
    match = re.fullmatch(r"(\d+)(e|er|re|ère|ers|nd|nde)", name)
    if match:
        return name
    kind = re.fullmatch(r"(-?)(s|sp|s2|s mini)(-?)", name)
    if not kind or not values or not _ROMAN.fullmatch(values[0].lower()):
        return None
    romans = [value for value in values if _ROMAN.fullmatch(value.lower())]
    words = [value for value in values if value in ("au", "et", "ou", "-", "–", "ou au", "à")]
    before = " av. J.-C." if kind[1] else ""
    if len(romans) == 2:
        word, many = ("et", "s") if kind[2] == "s2" else ("au", "")
        return f"{_ordinal(romans[0])} {words[0] if words else word} {_ordinal(romans[1])} siècle{many}{before}"
    return f"{_ordinal(romans[0])} siècle{before}"
