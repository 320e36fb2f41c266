"""Counts of what a split holds on both sides, and of repeated ids, from the written Parquet files alone.

Nothing here is shared with the code that makes clusters and splits: it would share its faults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Pairs that share one of these belong together.
_UNITS = {"clusters": "cluster", "donors": "donor", "heavy_chains": "heavy"}
_MEMORY = "1GB"  # more than this is kept on disk; a check of 5 million pairs takes less
# The order of the joins below is the better one: the held-out side, which is small, is the one in memory.
_AS_WRITTEN = "SET disabled_optimizers = 'join_order,build_side_probe_side'"
_CROSSING = """
SELECT count(*) FROM (
    SELECT {unit} FROM pairs SEMI JOIN (SELECT DISTINCT {unit} FROM pairs WHERE part <> 'train')
    USING ({unit}) GROUP BY {unit} HAVING count(DISTINCT part) > 1
)
"""
# Records with the id of an earlier one, which are kept: they differ in source and record.
_REPEATED_IDS = "SELECT coalesce(sum(num - 1), 0) FROM (SELECT count(*) AS num FROM pairs GROUP BY id)"
# The CDRH3 is that of the source where the chain has it, else the residues of the region mask. Where the V
# gene is not known, the residues before the CDRH3 stand for it.
_CLONOTYPES = r"""
CREATE MACRO gene(call) AS coalesce(regexp_extract(call, '^(Homsap )?([^*,; |]*)', 2), '');
CREATE MACRO place_of_last(chain, piece) AS
    length(chain) - instr(reverse(chain), reverse(piece)) - length(piece) + 2;
CREATE VIEW clonotypes AS SELECT
    part, v, j, cdr3, if(v = '', right(left(heavy, place_of_last(heavy, cdr3) - 1), 96), '') AS before
FROM (
    SELECT part, heavy, gene(v_call_heavy) AS v, gene(j_call_heavy) AS j, CASE
        WHEN cdr3_heavy <> '' AND contains(heavy, upper(cdr3_heavy)) THEN upper(cdr3_heavy)
        WHEN contains(mask, '6') THEN heavy[instr(mask, '6') : place_of_last(mask, '6')]
    END AS cdr3
    FROM (SELECT *, region_mask_heavy AS mask FROM pairs)
) WHERE cdr3 <> '';
CREATE TABLE test AS SELECT
    v, j, cdr3, before, row_number() OVER () AS number, count(*) AS num_pairs
FROM clonotypes WHERE part = 'test' GROUP BY v, j, cdr3, before;
CREATE VIEW train AS SELECT * FROM clonotypes WHERE part = 'train';
"""
# Of two CDRH3s that differ in one residue at most, three quarters at least are equal: a row for each quarter
# that may differ makes mates equal in `rest`, and the work grows with the number of rows.
_QUARTERED = """
SELECT *, left(cdr3, quarter * length(cdr3) // 4) || '-'
    || substr(cdr3, (quarter + 1) * length(cdr3) // 4 + 1) AS rest
FROM (SELECT *, unnest(range(4)) AS quarter FROM {table})
"""
_MATES = f"""
SELECT coalesce(sum(num_pairs), 0) FROM test WHERE number IN (
    SELECT number FROM (
        SELECT number, one.before AS one, other.before AS other,
            least(length(one.before), length(other.before)) AS num_before
        FROM ({_QUARTERED.format(table="train")}) AS one JOIN ({_QUARTERED.format(table="test")}) AS other
        ON one.v = other.v AND one.j = other.j AND length(one.cdr3) = length(other.cdr3)
            AND one.rest = other.rest
        WHERE hamming(one.cdr3, other.cdr3) <= 1
    )
    WHERE num_before = 0
        OR num_before - hamming(right(one, num_before), right(other, num_before)) > 0.8 * num_before
)
"""


def check_splits(
    folder: Path, shards: Mapping[str, Sequence[str]], *, scratch: Path, threads: int = 1
) -> dict[str, Any]:
    """Units with pairs in more than one split, and test pairs with a clone-mate in the training set.

    A clone-mate has the same V gene, J gene and length of the CDRH3, and at most one residue of it differs;
    where both V genes are unknown, more than 80 % of the residues before the CDRH3 are equal. Compared are
    the test pairs whose CDRH3 the files know, by its column or by the region mask.
    """
    import duckdb

    settings: dict[str, Any] = {"threads": threads, "memory_limit": _MEMORY, "temp_directory": str(scratch)}
    with duckdb.connect(config=settings | {"preserve_insertion_order": False}) as database:

        def number(query: str) -> int:
            return int(database.execute(query).fetchall()[0][0])

        try:
            database.execute(_AS_WRITTEN)
            # A bar in the output of a command; in a notebook without ipywidgets it is an error to switch off
            # what is off.
            if database.execute("SELECT current_setting('enable_progress_bar')").fetchall() == [(True,)]:
                database.execute("SET enable_progress_bar = false")
            of_splits = []
            for split, names in shards.items():
                if names:
                    files = [str(folder / f"{name}.parquet") for name in names]
                    database.read_parquet(files, hive_partitioning=False).create_view(f"of_{split}")
                    of_splits.append(f"SELECT '{split}' AS part, * FROM of_{split}")
            database.execute("CREATE VIEW pairs AS " + " UNION ALL ".join(of_splits))
            crossing = {unit: number(_CROSSING.format(unit=column)) for unit, column in _UNITS.items()}
            database.execute(_CLONOTYPES)
            return {
                **{f"{unit}_in_several_splits": count for unit, count in crossing.items()},
                "repeated_ids": number(_REPEATED_IDS),
                "test_pairs_compared": number("SELECT coalesce(sum(num_pairs), 0) FROM test"),
                "test_pairs_with_clone_mates_in_training": number(_MATES),
            }
        except duckdb.IOException as error:  # such as that of a full disk
            raise OSError(str(error)) from error


def check_rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and counts of what is in more than one split, for people."""
    rows = [("clusters in more than one split", f"{report['clusters_in_several_splits']:,}")]
    if "test_pairs_compared" not in report:  # a folder that was made earlier lacks the other counts
        return rows
    if "donor" in report["annotated_before_duplicates"]:
        without = report.get("pairs_without_donor", 0)
        known = f" ({without:,} pairs have no donor)" if without else ""
        rows.append(("donors in more than one split", f"{report['donors_in_several_splits']:,}{known}"))
    rows.append(
        ("equal heavy chains in more than one split", f"{report['heavy_chains_in_several_splits']:,}")
    )
    mates, compared = report["test_pairs_with_clone_mates_in_training"], report["test_pairs_compared"]
    rows.append(
        ("test pairs with a clone-mate in training", f"{mates:,} of {compared:,} whose CDRH3 is written")
    )
    if counts := report.get("clonotypes"):
        names = {"cdr3": "from the source", "region_mask": "from region masks", "alignment": "by alignment"}
        names |= {
            "without_cdr3": "unknown",
            "v_genes_by_alignment": "with the nearest V gene of the file",
            "without_v_gene": "without V gene, linked by CDRH3 and framework",
            "without_framework": "of these by CDRH3 alone",
            "without_j_gene": "without J gene",
        }
        found = [f"{counts[name]:,} {words}" for name, words in names.items() if counts.get(name)]
        rows.append(("CDRH3s for clonotypes", ", ".join(found) or "none"))
    return rows
