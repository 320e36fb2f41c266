"""Nucleotides as residues: the reading frame of each text, and its translation."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curr_ab.data.tokens import flat_text

_CODES = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"  # of TTT, TTC, … GGG
_SHORTEST_CONTIG = 480  # nucleotides: no V domain alone is as long
_FEWEST_RESIDUES = 30  # of an open part that is worth reading
_FEWEST_LETTERS = 10  # different ones: fewer are no protein
_COMPLEMENT = str.maketrans("ACGTURYKM", "TGCAAYRMK")
Positions = npt.NDArray[np.int64]


def _tables() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Number of each nucleotide, 4 for those that are uncertain, and the residue of each three numbers."""
    numbers = np.full(256, 4, np.int64)
    for number, letters in enumerate((b"TtUu", b"Cc", b"Aa", b"Gg")):
        numbers[list(letters)] = number
    residues = np.full(125, ord("X"), np.uint8)
    for first, second, third in product(range(4), range(4), range(5)):
        # The third nucleotide often does not matter: GGN is a glycine.
        meanings = {_CODES[first * 16 + second * 4 + one] for one in (range(4) if third == 4 else (third,))}
        if len(meanings) == 1:
            residues[first * 25 + second * 5 + third] = ord(meanings.pop())
    return numbers, residues


_NUMBERS, _RESIDUES = _tables()
Letters = npt.NDArray[np.uint8]


def residues_of_codons(first: Letters, second: Letters, third: Letters) -> Letters:
    """Residues of codons, from their nucleotides."""
    return np.asarray(_RESIDUES[_NUMBERS[first] * 25 + _NUMBERS[second] * 5 + _NUMBERS[third]])


def translate(nucleotides: pa.Array, starts: Positions | int = 0) -> pa.Array:
    """Residues from codon to codon after `starts` nucleotides; an incomplete codon at the end is left out."""
    text = pc.fill_null(nucleotides.cast(pa.string()), "")
    letters, offsets = flat_text(text)
    begins = np.minimum(offsets[:-1] + starts, offsets[1:])
    counts = (offsets[1:] - begins) // 3
    ends = np.cumsum(counts)
    rows = np.repeat(np.arange(len(text)), counts)
    places = begins[rows] + 3 * (np.arange(len(rows)) - (ends - counts)[rows])
    residues = residues_of_codons(letters[places], letters[places + 1], letters[places + 2])
    out = np.concatenate([[0], ends]).astype(np.int32)
    buffers = (pa.py_buffer(values.tobytes()) for values in (out, residues))
    return pc.if_else(nucleotides.is_valid(), pa.StringArray.from_buffers(len(text), *buffers), None)


def reverse_complement(text: str) -> str:
    return text.translate(_COMPLEMENT)[::-1]


def _choose(frames: tuple[str, str, str], cdr3: str | None) -> tuple[int, str]:
    """The frame that holds the CDR3, else the one with the longest part without a stop; and that part.

    In a V domain of 120 codons a wrong frame lacks a stop once in 300 times, and then is hardly longer.
    """
    parts = [(frame, part) for frame, residues in enumerate(frames) for part in residues.split("*")]
    if cdr3:
        holding = [(frame, part) for frame, part in parts if cdr3 in part]
        # With a stop inside of the CDR3 no part holds it.
        first = next((frame for frame, residues in enumerate(frames) if cdr3 in residues), None)
        parts = holding or [(frame, part) for frame, part in parts if first in (frame, None)]
    return max(parts, key=lambda one: (len(one[1]), -one[0], one[1]))


def read_nucleotides(text: pa.Array, *, gapped: pa.Array, cdr3: pa.Array | None, contig: bool) -> pa.Array:
    """Residues of nucleotides in the frame that their gaps, their CDR3 or their stops tell; null where none.

    `gapped` is the text before its gaps were taken out: IMGT writes a gap of three for each position that
    is not there, so that a text with dots is in frame from its beginning. Of a contig, and of any text that
    is longer than a V domain, the longest part without a stop is taken; else stops stay.
    """
    lead = pc.binary_length(pc.struct_field(pc.extract_regex(gapped, r"^\s*(?P<lead>[.\-]*)"), ["lead"]))
    lead = pc.fill_null(lead, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    is_imgt = pc.fill_null(pc.match_substring(gapped, "..."), False).to_numpy(zero_copy_only=False)
    frames = [translate(text, frame).to_pylist() for frame in range(3)]
    known = cdr3.to_pylist() if cdr3 is not None else [None] * len(text)
    lengths = pc.fill_null(pc.binary_length(text), 0).to_pylist()
    out: list[str | None] = []
    for row, length in enumerate(lengths):
        three = (frames[0][row], frames[1][row], frames[2][row])
        if three[0] is None:
            out.append(None)
            continue
        part_only = contig or length > _SHORTEST_CONTIG
        frame, part = _choose(three, known[row])
        if is_imgt[row] and not part_only and not (known[row] and known[row] in three[frame]):
            frame = int(-lead[row] % 3)
        residues = part if part_only else three[frame]
        is_protein = len(residues) >= _FEWEST_RESIDUES and len(set(residues)) >= _FEWEST_LETTERS
        out.append(residues if is_protein else None)
    return pa.array(out, pa.string())
