"""The character set of the ASR task and the two ways of writing a transcript as labels."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from upstream_elp.base.errors import ElpError
from upstream_elp.base.texts import lines, read_text

SPECIALS = {
    "fairseq": ("<s>", "<pad>", "</s>", "<unk>"),
    "wav2vec2": ("<pad>", "<s>", "</s>", "<unk>"),
}
"""The special symbols by the order that ``datarc.symbols`` names; the first one serves as the CTC blank.

With the packaged characters, ``wav2vec2`` gives the 32 symbols of Hugging Face's ``wav2vec2-base-960h`` in their
order.
"""
SPECIAL = SPECIALS["fairseq"]
WORD_END = "|"
PACKAGED = Path(__file__).with_name("characters.txt")


class Characters:
    """Maps characters to indices and back.

    Args:
        path: text file with one symbol per line; a count after a space, as in S3PRL's ``char.dict``, is ignored.
        order: key of ``SPECIALS``.

    Raises:
        ElpError: the file is missing, or a symbol occurs twice.
    """

    blank, pad, end, unknown = range(4)

    def __init__(self, path: str | Path | None = None, *, order: str = "fairseq") -> None:
        path = Path(path) if path else PACKAGED
        if not path.is_file():
            raise ElpError(
                f"character dictionary {path} does not exist; remove datarc.dict_path to use the packaged one"
            )
        found = lines(read_text(path, name=f"character dictionary {path}"))
        self._number([*SPECIALS[order], *(line.split()[0] for line in found if line.strip())], where=str(path))

    @classmethod
    def of(cls, symbols: Sequence[str], *, where: str) -> "Characters":
        """Make the dictionary of these symbols, including the four special ones.

        Raises:
            ElpError: not a list of texts, a symbol occurs twice, or the special symbols do not come first.
        """
        if not isinstance(symbols, list) or not all(isinstance(symbol, str) and symbol for symbol in symbols):
            raise ElpError(f"character dictionary {where} must be a list of texts")
        if tuple(symbols[: len(SPECIAL)]) not in SPECIALS.values():
            raise ElpError(f"character dictionary {where} must begin with {', '.join(SPECIAL)}")
        characters = cls.__new__(cls)
        characters._number(symbols, where=where)
        return characters

    def _number(self, symbols: list[str], *, where: str) -> None:
        self.symbols = symbols
        self.index = {symbol: index for index, symbol in enumerate(symbols)}
        if len(self.index) != len(symbols):
            raise ElpError(f"character dictionary {where} names a symbol twice")

    def __len__(self) -> int:
        return len(self.symbols)

    def spelling(self, text: str) -> str:
        """Return a transcript as it is spelled with these characters: in upper case."""
        return text.upper()

    def number(self, character: str) -> int:
        """Return the index of a character."""
        return self.index[character]

    def unknown_characters(self, text: str) -> str:
        """Return the characters of ``text``, as it is spelled here, that have no index."""
        return "".join(sorted({c for c in self.spelling(text) if not c.isspace()} - self.index.keys()))

    def encode(self, text: str, *, superb: bool) -> list[int]:
        """Return the labels of a transcript.

        Args:
            text: words; case does not matter, except for gathered characters.
            superb: encode as S3PRL does, with a word end after the last word and ``</s>`` as the last label
                (downstream/asr/dataset.py:119, fairseq_dictionary.py:encode_line). Otherwise there are word ends only
                between words, as in the L-E reference.
        """
        spelled = WORD_END.join(self.spelling(text).split())
        labels = [self.number(character) for character in spelled]
        return [*labels, self.index[WORD_END], self.end] if superb else labels

    def tokens(self, indices: Iterable[int]) -> list[str]:
        """Return the symbols of ``indices`` without blanks and ``</s>``."""
        return [self.symbols[index] for index in indices if index not in (self.blank, self.end)]


class Gathered(Characters):
    """The characters of transcripts in any script, spelled as they are written there; others become ``<unk>``.

    Args:
        transcripts: those of the training set.
        order: key of ``SPECIALS``.
    """

    def __init__(self, transcripts: Iterable[str], *, order: str = "fairseq") -> None:
        found = {character for text in transcripts for character in text if not character.isspace()}
        self._number([*SPECIALS[order], WORD_END, *sorted(found - {WORD_END})], where="of the transcripts")

    def spelling(self, text: str) -> str:
        """Return the transcript unchanged."""
        return text

    def number(self, character: str) -> int:
        """Return the index of a character; the model never outputs that of an unknown one, so it counts as an error."""
        return self.index.get(character, self.unknown)


def words(tokens: Sequence[str]) -> list[str]:
    """Return the words of a sequence of symbols."""
    return "".join(tokens).replace(WORD_END, " ").split()


def collapse(path: Iterable[int], blank: int) -> list[int]:
    """Return the labels of a CTC path: merge repetitions, then drop blanks (greedy decoding, Graves 2006, eq. 2)."""
    labels, previous = [], None
    for index in path:
        if index not in (previous, blank):
            labels.append(index)
        previous = index
    return labels


def frames_needed(labels: Sequence[int]) -> int:
    """Return the fewest frames in which CTC can express ``labels``: one each, and a blank between equal neighbours."""
    return len(labels) + sum(a == b for a, b in pairwise(labels))
