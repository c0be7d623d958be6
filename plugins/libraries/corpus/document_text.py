"""Documents as running text, as causal language models and RoBERTa read them: paragraphs whole, not split into
sentences."""

from __future__ import annotations

from collections import Counter

from pipeloom.core.base.characters import whole
from pipeloom.plugins.libraries.corpus.documents import Document, ExtractedPage, SentenceDocument
from pipeloom.plugins.libraries.corpus.sentences import SentenceSplitter
from pipeloom.plugins.libraries.corpus.wiki_dump import WikiPage


class DocumentText:
    """Turns a document that is to be kept into its text, another one into "".

    Of a page its paragraphs with a blank line between them, without the sentences that have a hole (a formula, an
    unknown template); known sentences with a space between them; other text as it was read. ``counts`` says why a
    document was left out. Arguments as of ``TextSettings``.
    """

    def __init__(self, language: str, min_characters: int) -> None:
        self._sentences = SentenceSplitter(language, min_characters)

    def __call__(self, document: Document, counts: Counter) -> str:
        if isinstance(document, (WikiPage, ExtractedPage)):
            article = self._sentences.article(document, counts)
            if article is None:
                return ""
            paragraphs = [" ".join(kept) for kept in self._sentences.without_holes(*article, as_they_are=True)]
            text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
        elif isinstance(document, SentenceDocument):
            text = " ".join(document.sentences)
        else:
            text = "\n\n".join(document.paragraphs)
        # What is blank at the ends of a document says nothing.
        text = whole(text).strip("\n")
        return text if self._sentences.is_kept(len(text.strip()), counts) else ""
