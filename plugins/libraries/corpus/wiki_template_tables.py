"""The templates that carry text, by their names in small letters: of all Wikipedias, and of the larger ones by
language."""

from __future__ import annotations

import re
from typing import Dict, Sequence

from pipeloom.plugins.libraries.corpus.wiki_renders import (
    Render,
    around,
    as_of,
    circa,
    class_of_ships,
    constant,
    converted,
    english_date,
    first,
    flag,
    fraction,
    hour,
    joined,
    last,
    link,
    measure,
    quantity,
    second,
    spanish_century,
    value,
    with_reading,
    written_date,
)


def _table(entries: Dict[str, Render]) -> Dict[str, Render]:
    """The keys of ``entries`` are names with commas between them."""
    return {name: render for names, render in entries.items() for name in names.split(",")}


COMMON = _table(
    {
        "lang,transl,transliteration,script,resize,color,colour,font color,background color,langue,язык": last,
        "langx": second,
        "nowrap,nobr,no break,abbr,tooltip,nihongo,visible anchor,vanchor,text,clarify span,citation needed "
        "span": first,
        "smallcaps,sc,sc2,smallcaps all,small,smaller,big,large,larger,nobold,noitalic,underline,em,strong,bold": first,
        "italic,keypress,key press,kbd,samp,var,mvar,mono,tt,tq,gr,sub,sup,sup sub,aut,chem2,dubious span,iw2": first,
        "quote,cquote,quotation,blockquote,bq,rquote,quote without source": first,
        "polytonic,unicode,hebrew,arabic,nastaliq": first,
        "interlanguage link,ill,lien,link-interwiki,仮リンク,не переведено,нп3,нп5": link,
        "convert,cvt": converted,
        "frac,fraction,sfrac": fraction,
        "val": value,
        "ndash,snd,spnd,spaced ndash,en dash": constant(" – "),
        "mdash,spaced mdash,em dash": constant(" — "),
        "nbsp,spaces,space,thinsp,hsp,br,break,sp,0": constant(" "),
        "shy,wbr,zwj,zwnj,zwsp": constant(""),
        "nbhyph,nbh,hyphen": constant("-"),
        "middot,·,dot,bull,•": constant(" · "),
        "ellipsis,...": constant("…"),
        "circa,c.": circa,
        "as of": as_of,
        "sic,not a typo,notatypo,typo,as written,proper name,linktext,chem": joined(""),
        "sortname,ship": joined(" ", 2),
        "sclass,sclass-,sclass2,sclass2-": class_of_ships,
        "flag,flagu,flagcountry,country": flag,
        "birth date,birth-date,death date,start date,end date,release date,film date": english_date,
        "us$,usd": around("US$"),
        "inr,indian rupee,₹": around("₹"),
        "gbp,£": around("£"),
        "eur,€": around("€"),
        "jpy,¥": around("¥"),
        "a$": around("A$"),
        "c$": around("C$"),
        "isbn": around("ISBN "),
        "'": constant("'"),
        "'s": constant("'s"),
        "okina": constant("ʻ"),
        "pi": constant("π"),
        "degree,deg": constant("°"),
        "!": constant("|"),
        "=": constant("="),
        "co2": constant("CO2"),
    }
)

#: What a template means in one language, where that is not what it means in all.
OWN: Dict[str, Dict[str, Render]] = {
    "fr": _table(
        {
            "nb,nombre,unité,unite,unité/2,formatnum,num": quantity,
            "date,date-,date de naissance,date de naissance-,date de décès,date de décès-,date rapide": written_date,
            'citation,citation étrangère,cita,",guil,guillemets,citation bloc': around("« ", " »"),
            "refnec,référence nécessaire,référence souhaitée,ref nec,passage non neutre,pas clair,non neutre": first,
            "exp,petites capitales,pc,rom-maj,rom,abréviation,japonais,souligner,surligner,fchim": first,
            "incise": around("– ", " –"),
            "n°,nº,numéro": around("no "),
            "p.": around("p. "),
            "vol.": around("vol. "),
            "m.": around("M. "),
            "mme": around("Mme "),
            "mlle": around("Mlle "),
            "mgr": around("Mgr "),
            "dr": around("Dr "),
            "me": around("Me "),
            "av jc,av. j.-c.,avjc,-jc": constant("av. J.-C."),
            "ap jc,ap. j.-c.,apjc": constant("apr. J.-C."),
            "heure": hour,
            "tiret": constant(" – "),
            "e": constant("e"),
            "er": constant("er"),
            "re": constant("re"),
            "ère": constant("ère"),
            "à": constant("à"),
        }
    ),
    "de": _table(
        {
            '",zitat,zitat-de': around("„", "“"),
            "nowrap,polytonisch,zh": first,
            "§": lambda given: "§ " + " ".join(filter(None, given.values[:2])),
            "höhe": around("", " m"),
            "bruch": fraction,
            "nr.": around("Nr. "),
            "s.": around("S. "),
            "eur": around("", " Euro"),
            "chf": around("", " Schweizer Franken"),
        }
    ),
    "es": _table(
        {
            "esd,espacio duro,nowrap": lambda given: " ".join(given.values) or " ",
            "unidad,unidades": quantity,
            "fecha": written_date,
            "versalita,versalitas": first,
            'cita,",cita en línea': around("«", "»"),
            "convertir": converted,
            "siglo": spanish_century,
            "ac,a. c.,a.c.": constant("a. C."),
            "dc,d. c.,d.c.": constant("d. C."),
        }
    ),
    "it": _table(
        {
            "m": measure,
            "unità": quantity,
            'citazione,"': around("«", "»"),
            "tutto attaccato,ta,senza fonte,maiuscoletto,nowrap": first,
            "data": written_date,
            "a.c.,a.c": constant("a.C."),
            "d.c.": constant("d.C."),
        }
    ),
    "pt": _table(
        {
            "fmtn,unidade": quantity,
            "séc,século": around("século "),
            "dtext": written_date,
            "br$": around("R$ "),
            "ac,a.c.": constant("a.C."),
            "dc,d.c.": constant("d.C."),
        }
    ),
    "ru": _table(
        {
            "число,num,formatnum": quantity,
            "s,нет разрыва,nobr,comment,подсказка": first,
            "до н. э.,до н.э.": constant("до н. э."),
        }
    ),
    "ja": _table(
        {
            "ルビ,ruby,jis2004フォント,補助漢字フォント,cp932フォント,要出典範囲": first,
            "読み仮名": with_reading,
        }
    ),
    "zh": _table(
        {
            "le,link-en,link-ja,tsl,internal link helper/en,kai,僻字,ruby,zy": first,
            "noteta": constant(""),
            "jpn": last,
        }
    ),
}

SHIPS = frozenset("uss hms hmas hmcs ss rms ms mv sms usns uscgc".split())
#: The beginnings of the names of templates that show nothing but a mark or a note beside the text.
UNSEEN = re.compile(
    r"(sfn|efn|refn|r|rp|cn|fact|citation needed|cite|note|notetag|who|which|when|where|clarify|clarification needed|"
    r"dubious|failed verification|verify|page needed|by whom|according to whom|pov|better source|update after|"
    r"update inline|anchor|cbignore|dead link|webarchive|defaultsort|use [a-z]+ (dates|english)|pp-\w+|good article|"
    r"featured article|flagicon|clear|harvnb)\b|citation$"
)
OWN_UNSEEN: Dict[str, Sequence[str]] = {
    "fr": (
        "quoi",
        "qui",
        "quand",
        "où",
        "combien",
        "pourquoi",
        "lesquels",
        "ancre",
        "référence à confirmer",
        "source insuffisante",
        "page h'",
    ),
    "de": ("anker", "anm.", "belege fehlen", "fn", "fnz"),
    "es": ("cita requerida", "quién", "cuándo", "ancla", "aclaración requerida"),
    "it": ("chiarire", "quando", "ancora", "nota disambigua", "vedi anche"),
    "pt": ("carece de fontes", "quem", "quando", "âncora", "nota de rodapé"),
    "ru": ("источник", "нет аи", "нет в источнике", "якорь", "уточнить", "переход", "когда", "кто"),
    "ja": ("要出典", "いつ", "誰", "要検証", "anchors"),
    "zh": ("来源请求", "來源請求", "誰", "谁", "何时"),
}
