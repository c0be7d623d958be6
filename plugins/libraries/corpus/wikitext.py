"""Wikitext to paragraphs of plain prose.

As in the BERT paper (appendix A.2 of Devlin et al., 2018) only the text passages are kept: no lists, tables and
headers. mwparserfromhell parses; what is here says what of its tree a reader would call text.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, Iterable, Iterator, List, Match, Optional, Sequence

import mwparserfromhell
from mwparserfromhell import nodes
from mwparserfromhell.parser import ParserError
from mwparserfromhell.wikicode import Wikicode

from pipeloom.plugins.libraries.corpus.language_variants import in_one_variant
from pipeloom.plugins.libraries.corpus.wiki_renders import Parameters
from pipeloom.plugins.libraries.corpus.wiki_templates import parser_function, rendered

# Marks that no text has: something stood here that cannot be written as text; the line is no prose; a heading begins,
# and ends.
HOLE, _NO_PROSE, _HEADING, _HEADING_END = "\ue000", "\ue002", "\ue003", "\ue004"
# While a page is read, holes are characters that tell them apart: of templates of which nothing is known, and of
# formulas and code.
_TEMPLATES, _FORMULAS, _MOST = 0xF0000, 0x100000, 0xFFFD
_UNKNOWN, _ANY_HOLE = "[\U000f0000-\U000ffffd]", re.compile("[\U000f0000-\U0010fffd]")
#: The first of the latter, for texts where formulas need no names.
FORMULA = chr(_FORMULAS)
_PRIVATE = re.compile("[\ue000-\ue004\U000f0000-\U0010ffff]")

_DROPPED_TAGS = frozenset(
    "ref references table gallery timeline imagemap syntaxhighlight source pre score hiero poem graph mapframe maplink "
    "templatestyles section categorytree inputbox noinclude includeonly templatedata indicator".split()
)
_UNWRITABLE_TAGS = frozenset("math chem ce code".split())
_BLOCK_TAGS = frozenset("blockquote div p center hr".split())
# Sections that are lists of works and links, whatever they look like.
_APPENDICES = frozenset(
    "see also,references,external links,notes,further reading,bibliography,sources,footnotes,citations,"
    "notes and references,references and notes,"
    "works cited,gallery,discography,filmography,selected bibliography,publications,works,"
    "voir aussi,notes et références,références,bibliographie,liens externes,annexes,articles connexes,discographie,"
    "filmographie,"
    "weblinks,einzelnachweise,literatur,siehe auch,quellen,anmerkungen,véase también,referencias,enlaces externos,"
    "bibliografía,notas,"
    "note,bibliografia,voci correlate,collegamenti esterni,altri progetti,ver também,referências,ligações externas,"
    "примечания,литература,ссылки,см. также,источники,zie ook,externe links,literatuur,przypisy,linki zewnętrzne,"
    "zobacz też,"
    "参考文献,參考文獻,外部链接,外部連結,参见,參見,注释,參考資料,参考资料,脚注,外部リンク,関連項目,出典".split(",")
)
# Names of the namespaces of files and categories that a dump does not list: the English ones, and old ones.
_ALWAYS_ASIDE = (
    "file",
    "image",
    "media",
    "category",
    "bild",
    "imagen",
    "immagine",
    "imagem",
    "изображение",
    "grafika",
    "afbeelding",
    "画像",
)
_INTERLANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*:|simple:")
_BEHAVIOUR_SWITCH = re.compile(r"__[^\W\d_]{3,20}__")


@dataclass
class Notes:
    """What reading a page gives besides its text: ``counts`` of what was left out by reason, and ``holes``: what stood
    at each ``HOLE`` of the text in their order, a template by its name (``{{age}}``) or a tag (``<math>``)."""

    counts: Counter = field(default_factory=Counter)
    holes: List[str] = field(default_factory=list)


class _Page:
    """The nodes of one page as text. ``aside``: namespaces whose links are no text; ``language`` and ``title``: of the
    page."""

    def __init__(self, aside: Sequence[str], language: str, title: str, counts: Counter) -> None:
        self._aside, self._language, self._title, self._counts = aside, language, title, counts
        self._names: Dict[str, str] = {}  # of a hole by its character

    def name_of(self, hole: str) -> str:
        return self._names[hole]

    def text(self, code: Optional[Wikicode]) -> str:
        return "".join([self._node(node) for node in code.nodes]) if code is not None else ""

    def _hole(self, name: str, first: int = _TEMPLATES) -> str:
        hole = chr(first + min(len(self._names), _MOST))
        self._names[hole] = name
        return hole

    def _node(self, node: nodes.Node) -> str:
        if isinstance(node, nodes.Text):
            return node.value
        if isinstance(node, nodes.Wikilink):
            return self._wikilink(node)
        if isinstance(node, nodes.Template):
            return self._template(node)
        if isinstance(node, nodes.Tag):
            return self._tag(node)
        if isinstance(node, nodes.HTMLEntity):
            return _entity(node)
        if isinstance(node, nodes.Heading):
            return f"\n{_HEADING}{node.level}{self.text(node.title)}{_HEADING_END}\n"
        if isinstance(node, nodes.ExternalLink):
            # A bare address is no word; one in brackets without a text is a note.
            return self.text(node.title) if node.brackets else ""
        return self._hole("{{{...}}}") if isinstance(node, nodes.Argument) else ""  # the others are comments

    def _wikilink(self, link: nodes.Wikilink) -> str:
        title = str(link.title).strip()
        namespace, colon, _ = title.partition(":")
        if colon and namespace.strip().lower() in self._aside:
            return ""
        if _INTERLANGUAGE.match(title) and link.text is None:
            return ""
        if link.text is not None:
            return self.text(link.text)
        return title.lstrip(":").replace("_", " ")

    def _tag(self, tag: nodes.Tag) -> str:
        name = str(tag.tag).strip().lower()
        if name in _DROPPED_TAGS:
            if name not in _NEVER_SHOWN:
                self._counts[_LEFT_TAGS.get(name, "boxes and code")] += 1
            return ""
        if name in _UNWRITABLE_TAGS:
            return self._hole(f"<{name}>", _FORMULAS)
        if name == "br":
            return " "
        if name in ("li", "dd", "dt"):  # the marks of a list; what follows on the line is its item
            return _NO_PROSE
        content = self.text(tag.contents)
        return f"\n{content}\n" if name in _BLOCK_TAGS else content

    def _template(self, template: nodes.Template) -> str:
        name = " ".join(_ANY_HOLE.sub("", self.text(template.name)).replace("_", " ").split())
        for prefix in ("subst:", "safesubst:", "template:"):
            name = name[len(prefix) :].strip() if name.lower().startswith(prefix) else name
        found = self._function(name, template)
        if found is None:
            found = rendered(name.lower(), self._parameters(template))
        return self._hole(f"{{{{{name.lower()[:_NAME_SHOWN]}}}}}") if found is None else found

    def _parameters(self, template: nodes.Template) -> Parameters:
        places: Dict[int, str] = {}
        named: Dict[str, str] = {}
        count = 0
        for parameter in template.params:
            value, name = self.text(parameter.value).strip(), str(parameter.name).strip()
            if not parameter.showkey:
                count += 1
                places[count] = value
            elif name.isdigit() and 0 < int(name) < 100:
                places[int(name)] = value
            else:
                named[name.lower()] = value
        return Parameters(
            [places.get(place, "") for place in range(1, max(places, default=0) + 1)], named, self._language
        )

    def _function(self, name: str, template: nodes.Template) -> Optional[str]:
        """What a parser function or a magic word gives: ``{{#if:...}}``, ``{{PAGENAME}}``; ``None`` where ``name`` is
        neither, or unknown."""
        function, colon, first = name.partition(":")
        if not colon:
            return (
                self._title
                if name in ("PAGENAME", "FULLPAGENAME", "BASEPAGENAME", "SUBPAGENAME") and self._title
                else None
            )
        # The holes of the name count here: what depends on them is not known.
        first = self.text(template.name).partition(":")[2].strip()
        rest = [
            (f"{parameter.name}=" if parameter.showkey else "") + self.text(parameter.value)
            for parameter in template.params
        ]
        return parser_function(function.strip().lower(), [first, *map(str.strip, rest)], self._language)


_NEVER_SHOWN = frozenset("ref references templatestyles section includeonly noinclude templatedata indicator".split())
_LEFT_TAGS = {"table": "tables", "gallery": "galleries", "poem": "poems"}
_NAME_SHOWN = 40


def _entity(entity: nodes.HTMLEntity) -> str:
    try:
        return without_marks(entity.normalize())
    except ValueError:  # a number beyond Unicode
        return ""


_SPACES = re.compile(r"[\s\u200e\u200f\ufeff]+")
_QUOTE_MARKS = re.compile(r"'{2,}")
# An unknown template right after a sign was a note, and one in brackets a pronunciation: the sentence is whole without
# it. So it is before a sentence, where an infobox stands, and behind one. What goes on with a small letter, or in a
# script that has none, began with it.
_HARMLESS = re.compile(
    rf"(?:^|(?<=[.!?\"”’)\]]))(?:\s*{_UNKNOWN})+(?!\s*{_UNKNOWN})(?P<next>\s*)(?=(?P<letter>[^\W\d_]?))"
    rf"|(?<=[,;:。，；：！？]){_UNKNOWN}+|(?:\s*{_UNKNOWN})+(?=\s*$)"
)
_NOTES = re.compile(f"^{_UNKNOWN}+")
_ANY_TEMPLATE = re.compile(_UNKNOWN)
_UNKNOWN_IN_BRACKETS = re.compile(rf"\([^()]*{_UNKNOWN}[^()]*\)")
_EMPTY_BRACKETS = re.compile(r"\(\s*(?:[,;:/–-]|or|also|and|\s)*\s*\)|\[\s*\]")
_AFTER_OPENING = re.compile(r"(?<=[(\[])[\s,;:]+")
_BEFORE_CLOSING = re.compile(r"\s+(?=[)\]])|[\s,;]+(?=\))")
_BEFORE_SIGN = re.compile(r"\s+(?=[,.;:!?](?:\s|$))")
_DOUBLED_SIGN = re.compile(r"([,;])(?:\s*[,;])+")
# What remains of markup that did not parse.
_MARKUP = re.compile(
    r"\{\{|\}\}|-\{|\}-|\{\||\|\}|\[\[|\]\]|\[https?:|https?://|</?[a-zA-Z!]|^[|!*#;:]|={2,}|&[a-zA-Z]+;|\|\s*\w+\s*=|"
    r"\|(?:thumb|left|right|center|frame|upright|\d+px)\b|\w\|\w|__[A-Z]+__"
)


# A line without one is a caption, or a list that is not marked as such.
_SENTENCE_END = re.compile(r"[.!?…。！？؟।]")


def without_marks(text: str) -> str:
    """``text`` without the characters that are marks here; no script has them."""
    return _PRIVATE.sub("", text)


def paragraphs(
    wikitext: str,
    aside: Iterable[str] = ("file", "image", "category"),
    language: str = "en",
    title: str = "",
    notes: Optional[Notes] = None,
) -> List[str]:
    """The prose of a page, one string a paragraph. ``HOLE`` stands in a sentence for what cannot be written as text, a
    formula say: who splits sentences should leave such a sentence out.

    ``aside`` are the namespaces (lower case) whose links are no text; ``language`` and ``title`` are the page's.
    ``notes`` gets what was left out, and what the holes were.
    """
    notes = Notes() if notes is None else notes
    wikitext = in_one_variant(without_marks(wikitext), language)
    try:
        code = mwparserfromhell.parse(_BEHAVIOUR_SWITCH.sub("", wikitext))
    except ParserError:
        notes.counts["pages whose markup cannot be read"] += 1
        return []
    page = _Page((*aside, *_ALWAYS_ASIDE), language, title, notes.counts)
    found: List[str] = []
    for lines in _blocks(page.text(code), notes.counts):
        paragraph = prose(" ".join(lines), notes.counts)
        if paragraph:
            notes.holes += map(page.name_of, _ANY_HOLE.findall(paragraph))
            found.append(_ANY_HOLE.sub(HOLE, paragraph))
    return found


def _blocks(text: str, counts: Counter) -> Iterator[List[str]]:
    """The lines of each paragraph of a page, without its lists, headings and appendices."""
    lines: List[str] = []
    appendix = 0  # the level of the heading of the appendix that this is in
    for line in [*text.split("\n"), ""]:
        if line.startswith(_HEADING):
            level, title = int(line[1]), line[2:].partition(_HEADING_END)[0].strip().lower()
            if not appendix or level <= appendix:
                appendix = level if title in _APPENDICES else 0
            line = ""
        elif _NO_PROSE in line or appendix and line.strip():
            counts["lines of appendices such as See also" if appendix else "items of lists"] += 1
            line = ""
        if line.strip():
            lines.append(line)
        elif lines:
            yield lines
            lines = []


def prose(text: str, counts: Counter) -> str:
    """A paragraph as it is read, or nothing where it is none: a caption, what remains of markup that did not parse."""
    paragraph = _tidied(text)
    if not paragraph or not _ANY_HOLE.sub("", paragraph).strip():
        return ""
    if not _SENTENCE_END.search(paragraph):
        counts["lines without the end of a sentence"] += 1
        return ""
    if _MARKUP.search(paragraph):
        counts["paragraphs with markup that cannot be read"] += 1
        return ""
    return paragraph


def _tidied(text: str) -> str:
    text = _QUOTE_MARKS.sub("", text)
    text = _UNKNOWN_IN_BRACKETS.sub(lambda match: _known_pieces(match[0]), text)
    text = _HARMLESS.sub(_without_notes, text)
    text = _EMPTY_BRACKETS.sub("", text)
    text = _BEFORE_CLOSING.sub("", _AFTER_OPENING.sub("", _DOUBLED_SIGN.sub(r"\1", text)))
    return _BEFORE_SIGN.sub("", _SPACES.sub(" ", text)).strip()


def _without_notes(match: Match[str]) -> str:
    letter = match["letter"]
    if not letter or letter.isupper() or letter.istitle() or not letter.islower() and match["next"]:
        return match["next"] or ""
    return _NOTES.sub("", match[0]) if match.start() else match[0]


def _known_pieces(brackets: str) -> str:
    """``(UNKNOWN; born 1950)`` is "(born 1950)"."""
    pieces = [
        piece.strip()
        for piece in re.split(r"[;,]", brackets[1:-1])
        if not _ANY_TEMPLATE.search(piece) and piece.strip()
    ]
    return f"({'; '.join(pieces)})" if pieces else ""


_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:(?:[\w -]*\b)?(?:disambig(?:uation)?|disamb|hndis|geodis|surname|dab)\b|(?:homonymie|"
    r"begriffsklärung|desambiguación|desambig|disambigua|desambiguação|неоднозначность|ujednoznacznienie|dp|"
    r"doorverwijspagina|förgrening|消歧义|消歧義|aimai|曖昧さ回避)\s*(?:\||\}\}))",
    re.I,
)


def is_disambiguation(wikitext: str) -> bool:
    """Whether a page only lists what its title may mean."""
    return bool(_DISAMBIGUATION.search(wikitext))
