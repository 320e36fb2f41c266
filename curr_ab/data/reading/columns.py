"""Layout of a table by the names of its columns: their words matter, their case and signs do not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from curr_ab.data.reading.column_names import ColumnNames
from curr_ab.data.schema import FIELDS, Field
from curr_ab.options import OptionError
from curr_ab.words import CHAINS, REGIONS

REGION_PIECES = tuple(f"{region.lower()}_aa" for region in REGIONS)

# Words that say which chain a column of a table with both chains is about.
_CHAIN_WORDS = {
    "heavy": {"heavy", "h", "vh", "hc", "hv", "vhh", "fvh", "igh", "hchain", "heavychain", "hseq", "vhseq"},
    "light": {
        *("light", "l", "vl", "lc", "lv", "vk", "fvl", "igk", "igl", "kappa", "lambda", "vkappa", "vlambda"),
        *("lchain", "lightchain", "lseq", "vlseq"),
    },
}
_V_DOMAIN = {"v", "vh", "vl", "vk", "vhh", "hv", "lv", "fv", "fvh", "fvl", "variable", "domain", "vdj", "vj"}
_V_DOMAIN |= {"vhseq", "vlseq", "vkappa", "vlambda"}
_RESIDUES = {"aa", "protein", "prot", "amino", "acid", "acids"}
_RESIDUES |= {"residues", "peptide", "translation", "translated"}
_NUCLEOTIDES = {"nt", "nts", "nuc", "nucl", "nucleotide", "nucleotides"}
_NUCLEOTIDES |= {"dna", "cdna", "rna", "mrna", "codons"}
_WHOLE_CHAIN = {"hc", "lc", "full", "whole", "igg"}
_ALIGNED = {"aligned", "alignment", "aho", "imgt", "kabat", "chothia", "martin", "gapped", "numbered", "msa"}
_CHANGED = {"mut", "mutant", "mutated", "variant", "design", "designed"}  # rather than the chain it is of
_SEQUENCE = {"sequence", "sequences", "seq", "seqs", "chain", "region", "input", "fasta", "antibody", "ab"}
_SEQUENCE |= {"mab", "or", "of", "the", "trimmed", "ungapped", "imputed"}

# How surely a column holds a V domain in residues, the lowest first: beside names that are used for one thing
# alone there are words, see `_rank`. Some names stand for residues or nucleotides, and their content decides.
_RANKS: dict[str, float] = {
    **dict.fromkeys(("sequence_vdj_aa", "vdj_aa", "vdj_sequence_aa", "vdj_translation_trimmed"), 1),
    **dict.fromkeys(("aa_seq_imputed_vdj_region", "aa_seq_vdj_region"), 1),
    "sequence_alignment_aa": 2,
    **dict.fromkeys(("sequence_aa", "aa_sequence", "aa", "aa_seq", "protein_sequence", "vdj_translation"), 5),
    **dict.fromkeys(("sequence_vdj", "vdj_sequence", "sequence_alignment", "sequence_imgt"), 10),
    **dict.fromkeys(("n_seq_imputed_vdj_region", "n_seq_vdj_region", "vdj_nucleotide_trimmed"), 10),
    **dict.fromkeys(("sequence", "seq", "sequence_trimmed", "sequence_input", "contig"), 12),
    **dict.fromkeys(("vdj_nucleotide", "nucleotide_sequence", "target_sequences"), 12),
}
_OF_ANARCI = {"id", "domain_no", "chain_type"}
_OF_ABSTAR = {"nongermline_mask", "gene_segment_mask", "cdr_mask", "v_mutation_count_aa"}
_POSITION = re.compile(r"\d+[a-z]?")  # of a numbered V domain
_REGIONS_RANK, _NUCLEOTIDE_REGIONS_RANK, _CONTIG_RANK = 3, 11, 12
# Names of the seven regions, framework and CDR; `{}` is the number.
_REGION_NAMES = (
    ("fwr{}_aa", "cdr{}_aa"),
    ("fr{}_aa", "cdr{}_aa"),
    ("aa_seq_fr{}", "aa_seq_cdr{}"),
    ("fwr{}", "cdr{}"),
    ("fr{}", "cdr{}"),
    ("fwr{}_nt", "cdr{}_nt"),
    ("n_seq_fr{}", "n_seq_cdr{}"),
)
_CDR3_BASES = ("cdr3_aa", "junction_aa", "aa_seq_cdr3", "cdr3_translation", "cdr3", "junction")
_CDR3_OF = {
    f"{form.format(letter)}{end}": chain
    for chain, letter in (("heavy", "h"), ("light", "l"))
    for form in ("cdr{}3", "{}cdr3", "cdr3{}", "cdr_{}3", "v{}_cdr3", "cdr_3_{}")
    for end in ("", "_aa", "_sequence", "_seq")
}
# Names of other tools that are used for one field in tables with one chain in a row.
_SINGLE_CHAIN_NAMES: dict[str, tuple[str, ...]] = {
    "cell": ("cell_id", "barcode", "cell", "cell_index", "cell_barcode", "tag_value_cell"),
    "clone": ("clone_id", "clonotype_id", "raw_clonotype_id", "clone"),
    "locus": ("locus", "chain", "chain_type", "top_chains"),
    "v_call": ("v_call", "v_gene", "all_v_hits_with_score", "best_v_hit", "best_v_gene", "v_hit"),
    "d_call": ("d_call", "d_gene", "all_d_hits_with_score", "best_d_hit", "best_d_gene", "d_hit"),
    "j_call": ("j_call", "j_gene", "all_j_hits_with_score", "best_j_hit", "best_j_gene", "j_hit"),
    "isotype": ("c_call", "c_gene", "isotype", "all_c_hits_with_score", "best_c_hit", "best_c_gene", "c_hit"),
    "id": (
        "id",
        "sequence_id",
        "contig_id",
        "name",
        "read_id",
        "cell_index",
        "cell_id",
        "barcode",
        "cell",
        "tag_value_cell",
    ),
    "productive": ("productive", "functional"),
    "is_cell": ("is_cell",),
    "high_confidence": ("high_confidence",),
    "rev_comp": ("rev_comp",),
    "umis": (
        *("umis", "umi_count", "umicount", "duplicate_count", "dupcount", "molecule_count"),
        *("unique_molecule_count", "consensus_count", "conscount", "reads", "read_count"),
    ),
    "contig": ("contig_id",),
}
# A column of these words alone names the records of a table that has no better name for them.
_NAMES = {"id", "name", "identifier", "accession"}
_NAMED = {"antibody", "antibodies", "ab", "mab", "mabs", "entry", "therapeutic", "scfv", "nanobody", "nb"}
_MAY_BE_NAMED = _NAMES | _NAMED | {"sequence", "seq", "pair", "record"}
# A barcode tells a cell within a sample. All of these that a table has are its sample, the last only where no
# other is there: it may differ between the chains of a cell.
_SAMPLE_NAMES: tuple[str, ...] = (
    "repertoire_id",
    "sample_id",
    "sample",
    "sample_name",
    "library",
    "library_id",
    "orig_ident",
)
_SAMPLE_NAMES += ("origin", "tag_value_sample")
_LAST_SAMPLE_NAME = "data_processing_id"


@dataclass(frozen=True)
class Rule:
    """Columns whose texts, joined in this order, are a chain; nucleotides of a contig reach beyond it."""

    columns: tuple[str, ...]
    is_contig: bool = True


Rules = dict[str, tuple[Rule, ...]]


@dataclass(frozen=True)
class Layout:
    """Kind of a table, and where each field comes from.

    `wide` has a pair in a row, `joined` has both chains in one column, `cells` and `single` have one chain in
    a row, with its cell and without.
    """

    kind: str
    columns: Mapping[str, str]  # field, with the chain's suffix where it has one → column of the table
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)  # the first that gives a value
    samples: tuple[str, ...] = ()  # columns that name the sample of a cell
    separator: str = ""  # pattern between the chains of one column; none in an scFv
    cell_in_id: bool = False  # the id begins with the barcode of the cell

    @property
    def columns_read(self) -> list[str]:
        ruled = (column for rules in self.rules.values() for rule in rules for column in rule.columns)
        return list(dict.fromkeys([*self.columns.values(), *ruled, *self.samples]))


def words_of(name: str) -> tuple[str, ...]:
    """Words of a column's name: `vhProteinSeq`, `VH protein-seq` and `vh_protein_seq` are the same."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name.strip().replace("mAb", "mab"))
    return tuple(re.findall(r"[a-z0-9]+", text.lower()))


@dataclass(frozen=True)
class _ChainColumn:
    """A column about one chain: its name without the words for the chain, and those."""

    column: str
    rest: tuple[str, ...]
    own: frozenset[str]

    @property
    def base(self) -> str:
        rest = self.rest[:-1] if self.rest[-1:] == ("x",) else self.rest  # pandas' suffix of a merged column
        rest = rest[1:] if rest[:1] == ("chain",) and len(rest) > 1 else rest
        return "_".join(rest)


def _chain_columns(columns: Sequence[str]) -> dict[str, list[_ChainColumn]]:
    out: dict[str, list[_ChainColumn]] = {chain: [] for chain in CHAINS}
    for column in columns:
        words = words_of(column)
        own = {chain: frozenset(words) & _CHAIN_WORDS[chain] for chain in CHAINS}
        rest = tuple(word for word in words if word not in own["heavy"] | own["light"])
        if bool(own["heavy"]) != bool(own["light"]):
            chain = "heavy" if own["heavy"] else "light"
            out[chain].append(_ChainColumn(column, rest, own[chain]))
        elif not own["heavy"] and len(words) > 1 and words[-1] in ("0", "1"):  # abstar counts the chains
            out[CHAINS[int(words[-1])]].append(_ChainColumn(column, words[:-1], frozenset()))
    return out


def _rank(column: _ChainColumn) -> float | None:
    """Rank of a column of a table with both chains, the lowest for a sure V domain; None for another."""
    base, rest = column.base, set(column.rest)
    changed = 0.5 if rest & _CHANGED else 0.0
    if base in _RANKS and not rest <= _RESIDUES | _SEQUENCE:  # of those the words for the chain say more
        return _RANKS[base]
    known = _V_DOMAIN | _RESIDUES | _NUCLEOTIDES | _WHOLE_CHAIN | _ALIGNED | _CHANGED | _SEQUENCE
    if not rest <= known or not (rest or column.own):
        return None
    words = rest | column.own
    is_domain = bool(words & _V_DOMAIN)
    ranks = (
        (rest & _NUCLEOTIDES, 12 if is_domain else 13),
        (rest & _ALIGNED, 9),
        (words & _WHOLE_CHAIN, 8),
        (rest & _RESIDUES, 4 if is_domain else 5),
        (is_domain, 6),
        (not rest and words & set(CHAINS), 0),
    )
    return next((rank for holds, rank in ranks if holds), 7) - changed


def _region_rules(present: Mapping[str, str]) -> list[tuple[float, Rule]]:
    """Rules that join the regions. 10x writes residues in fwr1 beside fwr1_nt, AIRR nucleotides in fwr1."""
    rules = []
    for framework, cdr in _REGION_NAMES:
        names = [form.format(number) for number in (1, 2, 3) for form in (framework, cdr)]
        names.append(framework.format(4))
        if all(name in present for name in names):
            are_residues = "aa" in framework or f"{names[0]}_nt" in present
            rank = _REGIONS_RANK if are_residues else _NUCLEOTIDE_REGIONS_RANK
            rules.append((float(rank), Rule(tuple(present[name] for name in names), is_contig=False)))
    return rules


def _numbered_rules(present: Mapping[str, str]) -> list[tuple[float, Rule]]:
    """The rule that joins a column for each position, as ANARCI writes them, in their order."""
    if not present.keys() >= _OF_ANARCI:  # of another table they may be features
        return []
    positions = tuple(column for base, column in present.items() if _POSITION.fullmatch(base))
    return [(float(_REGIONS_RANK), Rule(positions, is_contig=False))] if positions else []


def _sequence_rules(
    ranked: Iterable[tuple[float | None, str, str]], present: Mapping[str, str]
) -> tuple[Rule, ...]:
    """Rules for the residues of a chain, the surest first; `ranked` are rank, base and column."""
    rules = _region_rules(present) + _numbered_rules(present)
    for rank, base, column in ranked:
        if rank is not None:
            if base == "sequence_aa" and _OF_ABSTAR & present.keys():
                rank = 0.5  # abstar's is the V domain, and it writes an alignment beside it
            rules.append((rank, Rule((column,), is_contig=_RANKS.get(base) != 10)))
    return tuple(rule for _, rule in sorted(rules, key=lambda ranked_rule: ranked_rule[0]))


def _first(names: Iterable[str], present: Mapping[str, str]) -> str | None:
    return next((present[name] for name in names if name in present), None)


def _auxiliary(chain: str) -> list[Field]:
    """Fields of a chain that are read for cleaning and masks, and not kept."""
    names = ("productive", "cdr_mask", *REGION_PIECES)
    return [Field(f"{name}_{chain}", pa.string(), "", (name,), chain) for name in names]


def _is_name(column: str) -> bool:
    words = set(words_of(column))
    says = words & _NAMES or (words & _NAMED and not words & {"sequence", "seq"})
    return bool(says) and words <= _MAY_BE_NAMED


def _cdr3_rules(present: Mapping[str, str]) -> tuple[Rule, ...]:
    return tuple(Rule((present[base],), is_contig=False) for base in _CDR3_BASES if base in present)


def _wide(columns: Sequence[str], whole: Mapping[str, str]) -> tuple[dict[str, str], Rules]:
    """Fields and rules of a table with both chains in a row."""
    fields: dict[str, str] = {}
    rules: Rules = {}
    for item in FIELDS:
        if not item.chain and (
            column := _first(("_".join(words_of(n)) for n in (item.name, *item.bases)), whole)
        ):
            fields[item.name] = column
    if "id" not in fields and (column := next(filter(_is_name, columns), None)):
        fields["id"] = column
    for chain, of_chain in _chain_columns(columns).items():
        present = {column.base: column.column for column in reversed(of_chain)}
        for item in (*FIELDS, *_auxiliary(chain)):
            is_field = item.chain == chain and item.name not in (chain, f"cdr3_{chain}")
            if is_field and (column := _first(item.bases, present)):
                fields[item.name] = column
        cdr3 = _cdr3_rules(present)
        cdr3 += tuple(Rule((whole[n],), False) for n, of in _CDR3_OF.items() if of == chain and n in whole)
        if cdr3:
            rules[f"cdr3_{chain}"] = cdr3
        ranked = [(_rank(column), column.base, column.column) for column in of_chain]
        if sequence := _sequence_rules(ranked, present):
            rules[chain] = sequence
            fields[chain] = sequence[0].columns[0]
    return fields, rules


def fields_of_pairs(columns: Sequence[str]) -> dict[str, str]:
    """Fields of a table by the names of its columns that are not of one chain."""
    fields, _ = _wide(columns, {"_".join(words_of(column)): column for column in reversed(columns)})
    return {name: column for name, column in fields.items() if not name.endswith(CHAINS)}


def _single(whole: Mapping[str, str]) -> tuple[dict[str, str], Rules]:
    """Fields and rules of a table with one chain in a row."""
    fields: dict[str, str] = {}
    for item in (*FIELDS, *_auxiliary("heavy")):
        name = item.name.removesuffix("_heavy")
        if item.name in ("id", *CHAINS) or item.chain == "light" or name == "cdr3":
            continue
        names = item.bases if item.chain else (item.name, *item.bases)
        if column := _first((*_SINGLE_CHAIN_NAMES.get(name, ()), *names), whole):
            fields[name] = column
    for name, names in _SINGLE_CHAIN_NAMES.items():
        if name not in fields and (column := _first(names, whole)):
            fields[name] = column
    if whole.keys() >= _OF_ANARCI:  # of ANARCI: each chain of a pair has its file
        fields["cell"] = whole["id"]
    rules = {}
    if cdr3 := _cdr3_rules(whole):
        rules["cdr3"] = cdr3
    ranked = [(_RANKS.get(base), base, column) for base, column in whole.items()]
    if sequence := _sequence_rules(ranked, whole):
        rules["sequence"] = sequence
        fields["sequence"] = sequence[0].columns[0]
    return fields, rules


def _samples(whole: Mapping[str, str], fields: Mapping[str, str]) -> tuple[str, ...]:
    columns = [whole[name] for name in _SAMPLE_NAMES if name in whole]
    columns += [fields["donor"]] if "donor" in fields else []
    if not columns and _LAST_SAMPLE_NAME in whole:
        columns = [whole[_LAST_SAMPLE_NAME]]
    return tuple(columns)


def _check_names(columns: Sequence[str], names: ColumnNames) -> None:
    named = names.named()
    missing = [column for column in (*named.values(), *names.extra) if column not in columns]
    if missing:
        fields = [f"{name}_column" for name, column in named.items() if column == missing[0]]
        raise OptionError(f"there is no column {missing[0]!r}; the columns are {', '.join(columns)}", *fields)


def find_layout(columns: Sequence[str], names: ColumnNames) -> Layout | None:
    """Find the layout by the column names; None where no sequence column is known."""
    _check_names(columns, names)
    whole = {"_".join(words_of(column)): column for column in reversed(columns)}
    whole = dict(reversed(whole.items()))  # the first of like names, in the order of the table
    named = names.named()
    extra = {column: column for column in names.extra}
    wide, wide_rules = _wide(columns, whole)
    for name in {*CHAINS, "id"} & named.keys():
        wide[name] = named[name]
        if name in CHAINS:
            wide_rules[name] = (Rule((named[name],)),)
    as_wide = Layout("wide", wide | extra, wide_rules)
    has_both = "heavy" in wide and "light" in wide and wide["heavy"] != wide["light"]
    if set(CHAINS) & named.keys() or (has_both and not {"sequence", "cell"} & named.keys()):
        return as_wide
    single, single_rules = _single(whole)
    single |= {name: named[name] for name in ("id", "sequence", "cell") if name in named}
    if "sequence" in named:
        single_rules["sequence"] = (Rule((named["sequence"],)),)
    is_known = {"locus", "v_call"} & single.keys() or {"sequence", "cell"} & named.keys()
    if ("sequence" in single or {"contig", "cell"} <= single.keys()) and is_known:
        samples = (named["sample"],) if "sample" in named else _samples(whole, single)
        return Layout("cells" if "cell" in single else "single", single | extra, single_rules, samples)
    if set(CHAINS) & wide.keys():
        return as_wide
    return None
