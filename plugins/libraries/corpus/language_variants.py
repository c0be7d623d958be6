"""``-{zh-hans:...; zh-hant:...}-`` in wikis of languages with several scripts: the text of one variant.

As MediaWiki's ConverterRule reads it: flags before the first ``|``, then rules with ``;`` between them. What the flags
add to the conversion of the rest of the page is not done: that stands in the variant in which it was written.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Dict, List, Sequence, Tuple

# Of each language its variants, by script; the first script is taken where the user names none.
_SCRIPTS: Dict[str, Sequence[Sequence[str]]] = {
    "zh": (("zh-hans", "zh-cn", "zh-sg", "zh-my"), ("zh",), ("zh-hant", "zh-tw", "zh-hk", "zh-mo")),
    "gan": (("gan-hans",), ("gan",), ("gan-hant",)),
    "wuu": (("wuu-hans",), ("wuu",), ("wuu-hant",)),
    "sr": (("sr-ec", "sr-cyrl"), ("sr",), ("sr-el", "sr-latn")),
    "sh": (("sh-latn",), ("sh",), ("sh-cyrl",)),
    "kk": (("kk-cyrl", "kk-kz"), ("kk",), ("kk-latn", "kk-tr"), ("kk-arab", "kk-cn")),
    "ku": (("ku-latn",), ("ku",), ("ku-arab",)),
    "uz": (("uz-latn",), ("uz",), ("uz-cyrl",)),
    "tg": (("tg", "tg-cyrl"), ("tg-latn",)),
    "crh": (("crh-latn",), ("crh",), ("crh-cyrl",)),
    "iu": (("ike-cans",), ("iu",), ("ike-latn",)),
    "shi": (("shi-tfng",), ("shi",), ("shi-latn",)),
}
_CODES = frozenset(code for scripts in _SCRIPTS.values() for script in scripts for code in script)
# A dash before a template is none of these.
_INNERMOST = re.compile(r"-\{(?!\{(?!\{))((?:(?!-\{(?!\{(?!\{))|\}-).)*)\}-", re.S)
_FLAGS = re.compile(r"[\sA-Za-z;+-]*")
_DEEPEST = 10
_SHOWN_AS_IT_IS, _HIDDEN = frozenset("R"), frozenset("HT-ND")


def has_variants(language: str) -> bool:
    return language.partition("-")[0] in _SCRIPTS


def in_one_variant(wikitext: str, language: str) -> str:
    """``wikitext`` with every ``-{...}-`` as a reader of one variant sees it.

    ``language``: that of the wiki or one of its variants (``zh``, ``zh-hant``). In a language without variants the
    signs mean nothing.
    """
    if "-{" not in wikitext or not has_variants(language):
        return wikitext
    wanted = _order(language)
    for _ in range(_DEEPEST):
        wikitext, count = _INNERMOST.subn(lambda match: _shown(match[1], wanted), wikitext)
        if not count:
            break
    return wikitext


@lru_cache(maxsize=None)
def _order(language: str) -> Tuple[str, ...]:
    """All variants, the best first: the one that is named, those of its script, the others."""
    scripts = _SCRIPTS[language.partition("-")[0]]
    own = next(
        (
            script
            for script in scripts
            if language.lower() in script and len(script) + len(scripts) > 2 and "-" in language
        ),
        scripts[0],
    )
    found: List[str] = [language.lower()] if "-" in language else []
    for script in (own, *scripts):
        found += [code for code in script if code not in found]
    return tuple(found)


def _shown(text: str, wanted: Sequence[str]) -> str:
    before, bar, after = text.partition("|")
    flags = {flag.strip() for flag in before.split(";")} if bar and _FLAGS.fullmatch(before) else None
    if flags is None:
        return _chosen(text, wanted)
    if flags & _SHOWN_AS_IT_IS or any(flag.lower() in _CODES for flag in flags):
        return after
    return "" if flags & _HIDDEN else _chosen(after, wanted)


_RULE_END = re.compile(
    r";\s*(?=(?:{0})\s*:|[^;]*?=>\s*(?:{0})\s*:|\s*$)".format("|".join(sorted(_CODES, key=len, reverse=True))), re.I
)
_ENTITY = re.compile(r"(&[#a-zA-Z0-9]+);")


def _chosen(rules: str, wanted: Sequence[str]) -> str:
    """Of ``zh-hans:A; zh-hant:B`` one text; what has no rules stays as it is."""
    texts: Dict[str, str] = {}
    for rule in _RULE_END.split(_ENTITY.sub("\\1\x01", rules)):
        code, colon, text = rule.replace("\x01", ";").partition(":")
        # "from=>code: to" converts in one direction.
        code = code.rpartition("=>")[2].strip().lower()
        if not colon and not rule.strip():
            continue
        if not colon or code not in _CODES:
            return rules
        if text.strip():
            texts.setdefault(code, text.strip())
    return next((texts[code] for code in wanted if code in texts), next(iter(texts.values()), ""))
