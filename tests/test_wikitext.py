"""Wikitext to prose: what a reader of the page would call text, and nothing else."""
from __future__ import annotations

import pytest

from pipeloom.core.prepare.wikitext import HOLE, is_disambiguation, paragraphs

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("wikitext, prose", [
    ("'''Bold''' and ''italic'' words.", "Bold and italic words."),
    ("A [[link]] and [[Some page|another one]].", "A link and another one."),
    ("[[File:A.jpg|thumb|A ''caption'' with [[a link]].]]Text.", "Text."),
    ("[[image:A.jpg|left]]Text.\n[[Category:Things]] [[de:Etwas]]", "Text."),
    ("See [[:Category:Things]] there.", "See Category:Things there."),
    ("One.<ref>A note.</ref> Two.<ref name=\"a\" /> Three.{{sfn|Smith|1990}}", "One. Two. Three."),
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
    ("A formula <math>x^2</math> here.", f"A formula {HOLE} here."),
    ("The area of {{unknown|3}} is large.", f"The area of {HOLE} is large."),
    ("Let <math>x</math>, <math>y</math> be.", f"Let {HOLE}, {HOLE} be."),
])
def test_markup_is_read_as_a_reader_sees_it(wikitext, prose):
    assert paragraphs(wikitext) == [prose]


@pytest.mark.parametrize("wikitext", [
    "* An item.\n* Another one.\n# A numbered one.\n: An indented one.\n; A term : its text.",
    "{| class=\"wikitable\"\n! Head.\n|-\n| A cell.\n|}",
    "{{Infobox person|name=Somebody.|born=1900}}",
    "== A heading. ==",
    "<gallery>\nFile:A.jpg|A caption.\n</gallery>",
    "<syntaxhighlight lang=\"python\">print('Hello.')</syntaxhighlight>",
    "A caption without an end",
    "Broken {{template|with [[link here.",
    "Broken table |} here.",
])
def test_what_is_no_prose_is_left_out(wikitext):
    assert paragraphs(wikitext) == []


def test_appendices_are_left_out_up_to_the_next_heading_of_their_level():
    page = "Lead.\n== History ==\nText.\n== See also ==\nNot this.\n=== Deeper ===\nNor this.\n== Reception ==\nAgain.\n==References==\nNo."
    assert paragraphs(page) == ["Lead.", "Text.", "Again."]


def test_the_namespaces_of_another_wiki_are_known_by_the_dump():
    assert paragraphs("[[Datei:A.jpg|mini|Ein Bild.]]Ein Satz.", ("datei", "kategorie")) == ["Ein Satz."]
    assert "Datei" in paragraphs("Die [[Datei:A.jpg]] hier.", ())[0]


def test_depth_and_nonsense_do_no_harm():
    assert paragraphs("{{" * 500 + "x." + "}}" * 500) == []
    assert paragraphs("[[" * 500 + "x.") == []
    assert paragraphs("&#xD800; &#99999999; A sentence.")[0].endswith("A sentence.")


@pytest.mark.parametrize("wikitext, answer", [
    ("'''Alien''' may be:\n* a\n{{disambiguation}}", True), ("{{Hndis|Smith}}", True), ("{{geodis}}", True), ("{{disambig-ship}}", True),
    ("A text {{about|x}} about disambiguation.", False), ("{{Infobox settlement}} Text.", False),
])
def test_disambiguation_pages_are_known_by_their_template(wikitext, answer):
    assert is_disambiguation(wikitext) == answer
