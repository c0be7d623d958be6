"""Wikitext to paragraphs of plain prose.

As in the BERT paper (appendix A.2 of Devlin et al., 2018) only the text passages are kept: no lists, tables and headers.
mwparserfromhell parses; what is here says what of its tree a reader would call text.
"""
from __future__ import annotations

import re
from typing import Callable, Dict, Iterable, List, Sequence

import mwparserfromhell
from mwparserfromhell import nodes
from mwparserfromhell.parser import ParserError
from mwparserfromhell.wikicode import Wikicode

# Marks that no text has: what stood here cannot be written as text; a template of which nothing is known stood here; the line is no
# prose; a heading begins, and ends.
HOLE, _UNKNOWN, _NO_PROSE, _HEADING, _HEADING_END = "\ue000", "\ue001", "\ue002", "\ue003", "\ue004"

_DROPPED_TAGS = frozenset("ref references table gallery timeline imagemap syntaxhighlight source pre score hiero poem graph mapframe maplink "
                          "templatestyles section categorytree inputbox noinclude includeonly".split())
_UNWRITABLE_TAGS = frozenset("math chem ce code".split())
_BLOCK_TAGS = frozenset("blockquote div p center hr".split())
# Sections that are lists of works and links, whatever they look like.
_APPENDICES = frozenset("see also,references,external links,notes,further reading,bibliography,sources,footnotes,citations,notes and references,"
                        "references and notes,works cited,gallery,discography,filmography,selected bibliography,publications,works".split(","))
_INTERLANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*:|simple:")
# Templates that show nothing but a mark or a note beside the text.
_UNSEEN = re.compile(r"(sfn|efn|refn|r|rp|cn|fact|citation|cite|note|notetag|who|which|when|where|clarify|clarification needed|dubious|sic|"
                     r"failed verification|verify|page needed|by whom|according to whom|pov|better source|update after|update inline|"
                     r"anchor|cbignore|dead link|webarchive|defaultsort|use [a-z]+ (dates|english)|pp-\w+|good article|featured article)\b")
_SHIPS = frozenset("uss hms hmas hmcs ss rms ms mv sms usns uscgc".split())
_BEHAVIOUR_SWITCH = re.compile(r"__[A-Z]+__")


def _values(template: nodes.Template) -> List[str]:
    """The positional parameters, as text."""
    return [_text(parameter.value).strip() for parameter in template.params if not parameter.showkey]


def _first(values: Sequence[str]) -> str:
    return values[0] if values else HOLE


def _last(values: Sequence[str]) -> str:
    return values[-1] if values else HOLE


def _converted(values: Sequence[str]) -> str:
    """``{{convert|10|km|mi}}`` is "10 km", ``{{convert|10|to|12|km|mi}}`` "10 to 12 km"."""
    if len(values) >= 4 and values[1] in ("to", "-", "–", "and", "by", "x", "or"):
        return f"{values[0]} {values[1]} {values[2]} {values[3]}"
    return f"{values[0]} {values[1]}" if len(values) > 1 else HOLE


def _fraction(values: Sequence[str]) -> str:
    if len(values) == 3:
        return f"{values[0]} {values[1]}/{values[2]}"
    return f"{values[0]}/{values[1]}" if len(values) == 2 else f"1/{_first(values)}"


# What a reader sees of a template, from its positional parameters; of all the others nothing can be said.
_TEMPLATES: Dict[str, Callable[[List[str]], str]] = {
    "lang": _last,
    **dict.fromkeys(("nowrap", "nobr", "abbr", "tooltip", "nihongo", "transl", "smallcaps", "sc", "small", "big", "visible anchor", "vanchor",
                     "quote", "cquote", "quotation", "blockquote", "bq", "rquote", "interlanguage link", "ill", "script", "polytonic", "unicode",
                     "hebrew", "arabic", "em", "strong", "keypress", "tq", "gr"), _first),
    **dict.fromkeys(("convert", "cvt"), _converted),
    **dict.fromkeys(("frac", "fraction", "sfrac"), _fraction),
    **dict.fromkeys(("ndash", "snd", "spnd", "spaced ndash", "en dash"), lambda values: " – "),
    **dict.fromkeys(("mdash", "spaced mdash", "em dash"), lambda values: " — "),
    **dict.fromkeys(("nbsp", "spaces", "space", "thinsp"), lambda values: " "),
    **dict.fromkeys(("circa", "c."), lambda values: f"c. {values[0]}" if values else "c."),
    "as of": lambda values: "As of " + " ".join(values),
    "'": lambda values: "'",
    "'s": lambda values: "'s",
    "sortname": lambda values: " ".join(values[:2]),
    "ship": lambda values: " ".join(value for value in values[:2] if value),
    "okina": lambda values: "ʻ",
    "pi": lambda values: "π",
    "us$": lambda values: "US$" + _first(values),
    "inr": lambda values: "₹" + _first(values),
}


def _template(template: nodes.Template) -> str:
    name = str(template.name).strip().replace("_", " ").lower()
    if name.startswith("lang-"):
        return _first(_values(template))
    if name.startswith("formatnum:"):
        return name.partition(":")[2]
    if name in _SHIPS:
        return " ".join([name.upper(), *_values(template)[:1]])
    if name in _TEMPLATES:
        return _TEMPLATES[name](_values(template))
    return "" if _UNSEEN.match(name) else _UNKNOWN


def _wikilink(link: nodes.Wikilink, aside: Sequence[str]) -> str:
    title = str(link.title).strip()
    namespace, colon, _ = title.partition(":")
    if colon and namespace.strip().lower() in aside:
        return ""
    if _INTERLANGUAGE.match(title) and link.text is None:
        return ""
    if link.text is not None:
        return _text(link.text, aside)
    return title.lstrip(":").replace("_", " ")


def _tag(tag: nodes.Tag, aside: Sequence[str]) -> str:
    name = str(tag.tag).strip().lower()
    if name in _DROPPED_TAGS:
        return ""
    if name in _UNWRITABLE_TAGS:
        return HOLE
    if name == "br":
        return " "
    if name in ("li", "dd", "dt"):      # the marks of a list; what follows on the line is its item
        return _NO_PROSE
    content = _text(tag.contents, aside) if tag.contents is not None else ""
    return f"\n{content}\n" if name in _BLOCK_TAGS else content


def _node(node: nodes.Node, aside: Sequence[str]) -> str:
    if isinstance(node, nodes.Text):
        return node.value
    if isinstance(node, nodes.Wikilink):
        return _wikilink(node, aside)
    if isinstance(node, nodes.Template):
        return _template(node)
    if isinstance(node, nodes.Tag):
        return _tag(node, aside)
    if isinstance(node, nodes.HTMLEntity):
        return _entity(node)
    if isinstance(node, nodes.Heading):
        return f"\n{_HEADING}{node.level}{_text(node.title, aside)}{_HEADING_END}\n"
    if isinstance(node, nodes.ExternalLink):
        return _text(node.title, aside) if node.brackets and node.title is not None else ""
    return _UNKNOWN if isinstance(node, nodes.Argument) else ""     # the others are comments


def _entity(entity: nodes.HTMLEntity) -> str:
    try:
        return entity.normalize()
    except ValueError:      # a number beyond Unicode
        return ""


def _text(code: Wikicode, aside: Sequence[str] = ()) -> str:
    return "".join([_node(node, aside) for node in code.nodes])


_SPACES = re.compile(r"[\s\u200e\u200f\ufeff]+")
_QUOTE_MARKS = re.compile(r"'{2,}")
# An unknown template after a sentence or a clause was a note, and one in brackets a pronunciation: the sentence is whole without it.
_HARMLESS = re.compile(rf"(?<=[.,;:!?\"”’)\]])(\s*{_UNKNOWN})+|^(\s*{_UNKNOWN})+|(\s*{_UNKNOWN})+(?=\s*$)")
_UNKNOWN_IN_BRACKETS = re.compile(rf"\([^()]*{_UNKNOWN}[^()]*\)")
_EMPTY_BRACKETS = re.compile(r"\(\s*(?:[,;:/–-]|or|also|and|\s)*\s*\)|\[\s*\]")
_AFTER_OPENING = re.compile(r"(?<=[(\[])[\s,;:]+")
_BEFORE_CLOSING = re.compile(r"\s+(?=[)\]])|[\s,;]+(?=\))")
_BEFORE_SIGN = re.compile(r"\s+(?=[,.;:!?](?:\s|$))")
_DOUBLED_SIGN = re.compile(r"([,;])(?:\s*[,;])+")
# What remains of markup that did not parse.
_MARKUP = re.compile(r"\{\{|\}\}|\{\||\|\}|\[\[|\]\]|\[https?:|https?://|</?[a-zA-Z!]|^[|!*#;:]|={2,}|&[a-zA-Z]+;|\|\s*\w+\s*=|"
                     r"\|(?:thumb|left|right|center|frame|upright|\d+px)\b|\w\|\w|__[A-Z]+__")


# A line without one is a caption, or a list that is not marked as such.
_SENTENCE_END = re.compile(r"[.!?…。！？؟।]")


def paragraphs(wikitext: str, aside: Iterable[str] = ("file", "image", "category")) -> List[str]:
    """The prose of a page, one string a paragraph. ``HOLE`` stands in a sentence for what cannot be written as text, a formula say:
    who splits sentences should leave such a sentence out.

    ``aside`` are the namespaces (lower case) whose links are no text.
    """
    try:
        code = mwparserfromhell.parse(_BEHAVIOUR_SWITCH.sub("", wikitext))
    except ParserError:
        return []
    found: List[str] = []
    lines: List[str] = []
    appendix = 0    # the level of the heading of the appendix that this is in
    for line in [*_text(code, (*aside, "image", "media")).split("\n"), ""]:
        if line.startswith(_HEADING):
            level, title = int(line[1]), line[2:].partition(_HEADING_END)[0].strip().lower()
            if not appendix or level <= appendix:
                appendix = level if title in _APPENDICES else 0
            line = ""
        elif appendix or _NO_PROSE in line:
            line = ""
        if line.strip():
            lines.append(line)
        elif lines:
            paragraph = _tidied(" ".join(lines))
            lines = []
            if _SENTENCE_END.search(paragraph) and not _MARKUP.search(paragraph):
                found.append(paragraph)
    return found


def _tidied(text: str) -> str:
    text = _QUOTE_MARKS.sub("", text)
    text = _UNKNOWN_IN_BRACKETS.sub(lambda match: _known_pieces(match[0]), text)
    text = _HARMLESS.sub("", text).replace(_UNKNOWN, HOLE)
    text = _EMPTY_BRACKETS.sub("", text)
    text = _BEFORE_CLOSING.sub("", _AFTER_OPENING.sub("", _DOUBLED_SIGN.sub(r"\1", text)))
    return _BEFORE_SIGN.sub("", _SPACES.sub(" ", text)).strip()


def _known_pieces(brackets: str) -> str:
    """``(UNKNOWN; born 1950)`` is "(born 1950)"."""
    pieces = [piece.strip() for piece in re.split(r"[;,]", brackets[1:-1]) if _UNKNOWN not in piece and piece.strip()]
    return f"({'; '.join(pieces)})" if pieces else ""


_DISAMBIGUATION = re.compile(r"\{\{\s*(?:[\w -]*\b)?(?:disambig(?:uation)?|disamb|hndis|geodis|surname|dab)\b", re.I)


def is_disambiguation(wikitext: str) -> bool:
    """Whether a page only lists what its title may mean."""
    return bool(_DISAMBIGUATION.search(wikitext))
