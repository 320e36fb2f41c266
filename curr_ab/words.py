"""Words of the domain that every floor shares: chains, regions, residues, modes, targets. Imports nothing."""

from __future__ import annotations

from typing import Literal, get_args

CHAINS = ("heavy", "light")
REGIONS = ("FWR1", "CDR1", "FWR2", "CDR2", "FWR3", "CDR3", "FWR4")
# The same with the chain's letter inside, as in CDRH3.
CHAIN_REGIONS = tuple(f"{region[:3]}{chain}{region[3]}" for chain in "HL" for region in REGIONS)
CDR3_CODE = REGIONS.index("CDR3") + 1  # of a residue in a region mask

STANDARD_RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
# ESM-2's vocabulary in its order: the place of a token is its id. A copy of the tokenizer's, which a test
# compares: importing that one would load transformers in every data worker.
VOCABULARY = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO",
    *(".", "-", "<null_1>", "<mask>"),
)

# How the residues of a pair are predicted: each masked alone, every seventh at once, or none.
Mode = Literal["exact", "group", "unmasked"]
MODES: tuple[Mode, ...] = get_args(Mode)

# Of the residues that a masked model predicts, the shares that it sees as <mask> and as a random residue; the
# rest it sees as they are.
MASK_TOKEN_SHARE, RANDOM_TOKEN_SHARE = 0.8, 0.1

# What fine-tuning predicts: a class of the pair, a class of each residue, or a number.
Target = Literal["classes", "residues", "number"]
UNKNOWN_LABEL = -100  # of residues of which nothing is known: torch's cross entropy leaves it out

# The pair of all examples and probes: the variable domains of trastuzumab.
EXAMPLE_NAME = "trastuzumab"
EXAMPLE_PAIR = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRY"
    "ADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS",
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPS"
    "RFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFGQGTKVEIK",
)
