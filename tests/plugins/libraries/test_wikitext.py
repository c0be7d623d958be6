"""Wikitext to prose: what a reader of the page would call text, and nothing else."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeloom.plugins.libraries.corpus.sentences import SentenceSplitter
from pipeloom.plugins.libraries.corpus.wiki_dump import WikiPage
from pipeloom.plugins.libraries.corpus.wikitext import HOLE, Notes, is_disambiguation, paragraphs

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    "wikitext, prose",
    [
        ("'''Bold''' and ''italic'' words.", "Bold and italic words."),
        ("A [[link]] and [[Some page|another one]].", "A link and another one."),
        ("[[File:A.jpg|thumb|A ''caption'' with [[a link]].]]Text.", "Text."),
        ("[[image:A.jpg|left]]Text.\n[[Category:Things]] [[de:Etwas]]", "Text."),
        ("See [[:Category:Things]] there.", "See Category:Things there."),
        ('One.<ref>A note.</ref> Two.<ref name="a" /> Three.{{sfn|Smith|1990}}', "One. Two. Three."),
        ("Dr.{{cn}} Smith<!-- a comment --> came.", "Dr. Smith came."),
        ("It is {{convert|10|km|mi}} long, {{convert|3|to|5|m|ft}} wide.", "It is 10 km long, 3 to 5 m wide."),
        ("The {{lang|fr|bon mot}} of {{nowrap|Mr. X}} {{circa|1900}}.", "The bon mot of Mr. X c. 1900."),
        ("The {{USS|Hornet|CV-12}} sailed.", "The USS Hornet sailed."),
        ("Anarchism ({{IPAc-en|a|b}}; from Greek) is old.", "Anarchism (from Greek) is old."),
        ("Anarchism ({{IPAc-en|a|b}}) is old. {{unknown thing}}", "Anarchism is old."),
        ("An [http://example.org example] of it, http://example.org/bare too.", "An example of it, too."),
        ("Fish &amp; chips&nbsp;cost 3&ndash;4 pounds.", "Fish & chips cost 3–4 pounds."),
        ("A line<br />break and H<sub>2</sub>O.", "A line break and H2O."),
        ("__NOTOC__First line\nsecond line.", "First line second line."),
        ("{{math|x}} is so.", f"{HOLE} is so."),
        ("In 1990, {{unknown|5}} people.", f"In 1990, {HOLE} people."),
        ("Text,{{a note}} more.{{a note}} {{another}} Last.", "Text, more. Last."),
        ("{{Box}} {{Box}}\nText.", "Text."),
        ("{{盒}}\n文。{{注}}茶{{量|5}}。", f"文。{HOLE}茶{HOLE}。".replace(HOLE, "", 1)),
        ("A formula <math>x^2</math> here.", f"A formula {HOLE} here."),
        ("The area of {{unknown|3}} is large.", f"The area of {HOLE} is large."),
        ("Let <math>x</math>, <math>y</math> be.", f"Let {HOLE}, {HOLE} be."),
    ],
)
def test_markup_is_read_as_a_reader_sees_it(wikitext, prose):
    assert paragraphs(wikitext) == [prose]


@pytest.mark.parametrize(
    "wikitext",
    [
        "* An item.\n* Another one.\n# A numbered one.\n: An indented one.\n; A term : its text.",
        '{| class="wikitable"\n! Head.\n|-\n| A cell.\n|}',
        "{{Infobox person|name=Somebody.|born=1900}}",
        "== A heading. ==",
        "<gallery>\nFile:A.jpg|A caption.\n</gallery>",
        "<syntaxhighlight lang=\"python\">print('Hello.')</syntaxhighlight>",
        "A caption without an end",
        "Broken {{template|with [[link here.",
        "Broken table |} here.",
    ],
)
def test_what_is_no_prose_is_left_out(wikitext):
    assert paragraphs(wikitext) == []


def test_appendices_are_left_out_up_to_the_next_heading_of_their_level():
    page = (
        "Lead.\n== History ==\nText.\n== See also ==\nNot this.\n=== Deeper ===\nNor this.\n== Reception "
        "==\nAgain.\n==References==\nNo."
    )
    assert paragraphs(page) == ["Lead.", "Text.", "Again."]


def test_the_namespaces_of_another_wiki_are_known_by_the_dump():
    assert paragraphs("[[Datei:A.jpg|mini|Ein Bild.]]Ein Satz.", ("datei", "kategorie")) == ["Ein Satz."]
    assert "Datei" in paragraphs("Die [[Datei:A.jpg]] hier.", ())[0]


def test_depth_and_nonsense_do_no_harm():
    assert paragraphs("{{" * 500 + "x." + "}}" * 500) == []
    assert paragraphs("[[" * 500 + "x.") == []
    assert paragraphs("&#xD800; &#99999999; A sentence.")[0].endswith("A sentence.")


@pytest.mark.parametrize(
    "wikitext, answer",
    [
        ("'''Alien''' may be:\n* a\n{{disambiguation}}", True),
        ("{{Hndis|Smith}}", True),
        ("{{geodis}}", True),
        ("{{disambig-ship}}", True),
        ("A text {{about|x}} about disambiguation.", False),
        ("{{Infobox settlement}} Text.", False),
    ],
)
def test_disambiguation_pages_are_known_by_their_template(wikitext, answer):
    assert is_disambiguation(wikitext) == answer


@pytest.mark.parametrize(
    "template, text",
    [
        ("as of|2010|5", "As of May 2010"),
        ("as of|2010", "As of 2010"),
        ("as of|2010|5|12|lc=y", "as of 12 May 2010"),
        ("as of|2010|May|12|df=US", "As of May 12, 2010"),
        ("as of|2010|since=y", "Since 2010"),
        ("as of|2010|alt=lately", "lately"),
        ("as of|2010|bare=y|pre=early", "early 2010"),
        ("as of|2010|13", None),
        ("convert|52419|sqmi|km2", "52,419 sq mi"),
        ("convert|-3|to|5|C|F", "−3 to 5 °C"),
        ("convert|40|acre|ha|adj=on", "40-acre"),
        ("val|12345.5|0.3|u=m", "12,345.5±0.3 m"),
        ("val|1|e=6", None),
        ("circa|1900|1910", "c. 1900 – c. 1910"),
        ("lang|fr|bon mot", "bon mot"),
        ("langx|fr|bon mot", "bon mot"),
        ("transl|ar|ALA|kitab", "kitab"),
        ("script|Hebr|x y", "x y"),
        ("1=a", None),
        ("nowrap|1=a = b", "a = b"),
        ("birth date|1950|1|2", "January 2, 1950"),
        ("birth date|1950|1|2|df=y", "2 January 1950"),
        ("formatnum:1234567.891", "1,234,567.891"),
        ("formatnum:-10", "−10"),
        ("formatnum:1,234|R", "1,234"),
        ("#if:x|a|b", "a"),
        ("#if:|a|b", "b"),
        ("#if:{{age|1}}|a|b", None),
        ("#ifeq:a|b|c|d", "d"),
        ("#switch:b|a=1|b|c=2|#default=3", "2"),
        ("#expr:1+1", None),
        ("#invoke:x|y", None),
        ("lc:ABC", "abc"),
        ("PAGENAME", "Tea"),
        ("CURRENTYEAR", None),
        ("age|1990|1|1", None),
        ("chem|H|2|O", "H2O"),
        ("US$|5", "US$5"),
        ("sclass|Iowa|battleship", "Iowa-class battleship"),
        ("flag|France", "France"),
        ("{{{1}}}", None),
        ("sic|teh", "teh"),
        ("!", "|"),
    ],
)
def test_templates_that_carry_text(template, text):
    notes = Notes()
    assert paragraphs(f"It was {{{{{template}}}}} there.", title="Tea", notes=notes) == [
        f"It was {HOLE if text is None else text} there."
    ]
    assert len(notes.holes) == (text is None)


@pytest.mark.parametrize(
    "language, template, text",
    [
        ("fr", "nb|12000|km", "12 000 km"),
        ("fr", "unité|5|km", "5 km"),
        ("fr", "unité|5|km|2", "5 km2"),
        ("fr", "unité|3.5|m||s|-1", "3,5 m s-1"),
        ("fr", "formatnum:12000", "12 000"),
        ("fr", "Date|1|janvier|2000", "1er janvier 2000"),
        ("fr", "date de naissance-|17|octobre|1973", "17 octobre 1973"),
        ("fr", "s-|XIX", "XIXe siècle"),
        ("fr", "s|I", "Ier siècle"),
        ("fr", "XIXe siècle", "XIXe siècle"),
        ("fr", "s2-|XVIII|XIX", "XVIIIe et XIXe siècles"),
        ("fr", "sp|XVIII|au|XIX", "XVIIIe au XIXe siècle"),
        ("fr", "-s|V", "Ve siècle av. J.-C."),
        ("fr", "1er", "1er"),
        ("fr", "Ier", "Ier"),
        ("fr", "2e", "2e"),
        ("fr", "M.|Dupont", "M. Dupont"),
        ("fr", "citation|un mot", "« un mot »"),
        ("fr", "lien|langue=en|trad=Tea|fr=Thé", "Thé"),
        ("fr", "quand", ""),
        ("fr", "heure|5|30", "5 h 30"),
        ("fr", "inconnu|5", None),
        ("en", "citation|title=x", ""),
        ("en", "nb|12|km", None),
        ("de", "formatnum:12345", "12.345"),
        ("de", "enS|tea", "tea"),
        ("de", '"|Wort', "„Wort“"),
        ("de", "§|5|BGB", "§ 5 BGB"),
        ("es", "esd|12 km", "12 km"),
        ("es", "formatnum:1234", "1234"),
        ("es", "formatnum:12345", "12 345"),
        ("es", "fecha|1|5|2000", "1 de mayo de 2000"),
        ("es", "siglo|xix||s", "siglo XIX"),
        ("it", "M|12|ul=km", "12 km"),
        ("pt", "séc|XIX", "século XIX"),
        ("ru", "число|12345", "12 345"),
        ("ja", "仮リンク|茶|en|Tea", "茶"),
        ("zh", "link-en|茶|Tea", "茶"),
        ("sv", "formatnum:12345", "12 345"),
    ],
)
def test_templates_of_other_languages(language, template, text):
    found = paragraphs(f"Ici {{{{{template}}}}} fin.", language=language)
    assert found == [f"Ici {HOLE if text is None else text} fin.".replace("  ", " ")]


@pytest.mark.parametrize(
    "wikitext, text",
    [
        ("是-{zh-hans:中华; zh-hant:中華}-的。", "是中华的。"),
        ("是-{zh-hant:中華; zh-cn:中华; }-的。", "是中华的。"),
        ("是-{中华}-的。", "是中华的。"),
        ("是-{A|zh-cn:计算机;zh-tw:電腦}-的。", "是计算机的。"),
        ("是-{H|zh-cn:计算机;zh-tw:電腦}-的。", "是的。"),
        ("-{T|zh-cn:甲;zh-tw:乙}-是的。", "是的。"),
        ("是-{R|zh-cn:甲}-的。", "是zh-cn:甲的。"),
        ("是-{zh-hans;zh-hant|甲}-的。", "是甲的。"),
        ("是-{-|zh-cn:甲;zh-tw:乙}-的。", "是的。"),
        ("是-{zh-cn:甲-{zh-hans:丙; zh-hant:丁}-; zh-tw:乙}-的。", "是甲丙的。"),
        ("是-{电脑=>zh-tw:電腦}-的。", "是電腦的。"),
        ("是-{[[甲|乙]]}-的。", "是乙的。"),
        ("是-{zh-cn:甲&nbsp;乙; zh-tw:丙}-的。", "是甲 乙的。"),
        ("是-{zh-hk:甲}-的。", "是甲的。"),
        ("是-{x:甲}-的。", "是x:甲的。"),
        ("是-{zh-cn:甲的。", None),
    ],
)
def test_one_variant_is_taken(wikitext, text):
    assert paragraphs(wikitext, language="zh") == ([text] if text else [])


def test_the_variant_may_be_named_and_means_nothing_elsewhere():
    text = "是-{zh-hans:中华; zh-tw:中華}-的。"
    assert paragraphs(text, language="zh-hant") == ["是中華的。"] and paragraphs(text, language="zh-cn") == [
        "是中华的。"
    ]
    assert (
        paragraphs("A dash-{{nowrap|b}}-c, -{x}- d.", language="en") == []
    )  # what is in braces there is markup that did not parse
    assert paragraphs("A dash-{{nowrap|b}}-c.", language="sr") == ["A dash-b-c."]


def test_sentences_left_out_are_counted_by_reason():
    page = (
        "One {{foo|1}} is. Two {{Foo}} {{bar}} is. Three is.\n* An item.\n<math>x</math> is so. Caption\n\nNo end\n"
        "{|\n|cell.\n|}\n\nA |} b.\n\n"
        "...\n== See also ==\nThis one."
    )
    counts: Counter = Counter()
    assert SentenceSplitter("en", 0)(WikiPage("Tea", page, ()), counts) == ["Three is.", "Caption"]
    assert counts == {
        "sentences with a template of which nothing is known": 2,
        "{{foo}}": 2,
        "{{bar}}": 1,
        "items of lists": 1,
        "sentences with a formula or code": 1,
        "lines without the end of a sentence": 1,
        "tables": 1,
        "paragraphs with markup that cannot be read": 1,
        "sentences without a letter or digit": 1,
        "lines of appendices such as See also": 1,
    }


def test_marks_in_a_page_are_no_marks():
    assert paragraphs("A \ue000 b \U000f0001 c &#xe000; &#xF0001; d.") == ["A b c d."]
