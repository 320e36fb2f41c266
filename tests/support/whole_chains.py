"""Variable domains as parts of longer chains: with leaders, constant parts and tags, and as scFvs."""

from __future__ import annotations

import random
from typing import NamedTuple

LEADERS = (
    *("MEFGLSWLFLVAILKGVQC", "MDWTWRFLFVVAAATGVQS", "MKHLWFFLLLVAAPRWVLS", "MDMRVPAQLLGLLLLWLRGARC"),
    *("MEAPAQLLFLLLLWLPDTTG", "MAWSPLLLTLLAHCTGSWA", "MGWSCIILFLVATATGVHS", "MKYLLPTAAAGLLLLAAQPAMA"),
)
CONSTANT = {
    "heavy": "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEPVTVSWNSGALTSGVHTFPAVLQSSGLYSLSSVV"
    "TVPSSSLGTQTYICNVNHKPSNTKVDKKV",
    "kappa": "RTVAAPSVFIFPPSDEQLKSGTASVVCLLNNFYPREAKVQWKVDNALQSGNSQESVTEQDSKDSTYSLSS"
    "TLTLSKADYEKHKVYACEVTHQGLSSPVTKSFNRGEC",
    "lambda": "GQPKAAPSVTLFPPSSEELQANKATLVCLISDFYPGAVTVAWKADSSPVKAGVETTTPSKQSNNKYAASSY"
    "LSLTPEQWKSHRSYSCQVTHEGSTVEKTVAPTECS",
}
TAGS = ("HHHHHH", "GSGSHHHHHH", "AAAEQKLISEEDL", "LEHHHHHH")
LINKERS = (*("GGGGS" * number for number in range(1, 6)), "GSTSGSGKPGSGEGSTKG", "ASGGGGSGGGGSGGGGT")
# The alpha chain of a T-cell receptor, A6 (PDB 1AO7).
RECEPTOR = (
    "KEVEQNSGPLSVPEGAIASLNCTYSDRGSQSFFWYRQYSGKSPELIMSIYSNGDKEDGRFTAQLNKASQYVSLLIRDSQPSDSATYLCAVTTDSWGKLQF"
    "GAGTQVVVTP"
)


def whole_chain(domain: str, kind: str, draw: random.Random) -> str:
    """The domain behind a leader and before a constant part or a tag; `kind` is heavy, kappa or lambda."""
    tail = draw.choice((CONSTANT[kind], *TAGS))
    return draw.choice(LEADERS) + domain + tail[: draw.randint(min(5, len(tail)), len(tail))]


class SingleChain(NamedTuple):
    """Both domains of a pair in one chain."""

    text: str
    heavy: str
    light: str


def single_chain(heavy: str, light: str, draw: random.Random) -> SingleChain:
    """The pair as an scFv, in either order, with a linker and perhaps a leader and a tag."""
    linker = draw.choice((*LINKERS, "".join(draw.choices("GSTEKPA", k=draw.randint(5, 25)))))
    first, second = draw.sample((heavy, light), 2)
    before, after = draw.choice(("", "M", *LEADERS)), draw.choice(("", *TAGS))
    return SingleChain(before + first + linker + second + after, heavy, light)
