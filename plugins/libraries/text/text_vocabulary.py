"""A vocabulary: the tokenizer files of a folder, as datasets, checkpoints and commands name them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Optional

from pipeloom.core.contract.tokenizer import TokenizerSource
from pipeloom.plugins.libraries.text.tokenizer_files import BERT, TokenizerFiles

if TYPE_CHECKING:  # who only reads records should not wait for what reads text
    from pipeloom.plugins.libraries.text.text_tokenizer import TextTokenizer


@dataclass(frozen=True)
class Vocabulary(TokenizerSource):
    """What turns text into token ids: a folder with tokenizer files as HuggingFace has them, or one of these, a
    vocab.txt, a tokenizer.json, or a vocab.json with its merges.txt beside it.

    ``lowercase``: whether text is turned into small letters first; ``None``: as the files say. The methods raise
    ``UsageError`` for files that are not there or cannot be followed.
    """

    path: Path
    lowercase: Optional[bool] = None

    @classmethod
    def beside(cls, folder: Path, lowercase: Optional[bool] = None) -> Optional[Vocabulary]:
        """Return that of the records in ``folder``, or ``None``. Of a vocab.txt alone ``lowercase`` says the rest."""
        if any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json")):
            return cls(folder)
        return cls(folder / "vocab.txt", lowercase) if (folder / "vocab.txt").is_file() else None

    def read(self) -> TokenizerFiles:
        """Read its files, changed to say ``lowercase``."""
        return TokenizerFiles.read(self.path, self.lowercase)

    def files(self) -> Dict[str, bytes]:
        """Return the files by name, changed to say ``lowercase``."""
        return self.read().content()

    def beside_records(self) -> Dict[str, bytes]:
        """Return the files to put beside records that were made with it, from which ``beside`` makes it again."""
        content = self.files()
        alone = self.path.is_file() and "vocab.txt" in content
        return {"vocab.txt": content["vocab.txt"]} if alone else content

    def lowercases(self) -> Optional[bool]:
        """Return whether text is turned into small letters; ``None`` for a tokenizer that puts it in other words."""
        files = self.read()
        return True if files.lowercase is None and files.kind == BERT else files.lowercase

    def digest(self) -> str:
        """Return the sha256, in hex, of what decides the tokens, but for ``lowercase``; that of a vocab.txt alone."""
        from pipeloom.plugins.libraries.text.tokenizer_building import digest

        return digest(self.read())

    def size(self) -> int:
        """Return one more than the largest id."""
        files = self.read()
        content = files.content()
        return max(files.lines().values(), default=-1) + 1 if list(content) == ["vocab.txt"] else len(self.load())

    def load(self, special_in_text: bool = False) -> TextTokenizer:
        """Build the tokenizer, of the class that its files ask for; see ``TextTokenizer``."""
        from pipeloom.plugins.libraries.text.text_tokenizer import BPETokenizer
        from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer
        from pipeloom.plugins.libraries.text.tokenizer_building import build

        files = self.read()
        built = build(files)
        kind = BPETokenizer if built.continuing is None else WordPieceTokenizer
        return kind(built, files.source, special_in_text)
