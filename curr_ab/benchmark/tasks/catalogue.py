"""The catalogue of tasks: what each is made of, who publishes it, and the reader of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curr_ab.benchmark.tasks.options import TaskOptions
from curr_ab.options import OptionError, check_names

if TYPE_CHECKING:
    from curr_ab.benchmark.tasks.task import Kind, Task


@dataclass(frozen=True, kw_only=True)
class TaskReader:
    """One entry: its reader makes one or several tasks of the files that the user has downloaded."""

    title: str
    kind: Kind
    read: str  # module of its reader and the name in it: the command line lists tasks without numpy
    files: tuple[str, ...]  # in their order; the last with … where there may be several of it
    required: int | None = None  # the fewest, where not all of them
    owner: str
    address: str
    licence: str
    rows: str
    columns: str
    folds: str
    metric: str
    notes: str = ""

    @property
    def way_out(self) -> str:
        """Where to get the files."""
        return "name your own" if self.owner == "yours" else f"download them from {self.address}"

    def takes(self, count: int) -> bool:
        """True where it can be given so many files."""
        fewest = self.required or len(self.files)
        return count >= fewest and (count <= len(self.files) or self.files[-1].endswith("…"))


_GDPA1 = "https://github.com/ginkgobioworks/abdev-benchmark"
_VARIANTS = "ranking without examples; few-shot: random training sets of 8, 32, 128"
TASKS: Mapping[str, TaskReader] = {
    "developability": TaskReader(
        title="Developability of therapeutic antibodies (GDPa1)",
        kind="number",
        read="developability:read_developability",
        files=("GDPa1_v1.2_20250814.csv",),
        owner="Ginkgo Datapoints",
        address=_GDPA1,
        licence="MIT",
        rows="246, of which 193 to 242 are measured in each assay",
        columns="antibody_name, vh_protein_sequence, vl_protein_sequence, AC-SINS_pH7.4, HIC, PR_CHO, Titer, "
        "Tm2, hierarchical_cluster_IgG_isotype_stratified_fold",
        folds="five, given",
        metric="Spearman, mean over folds",
        notes="a task for each assay; antibodies without a value are left out of its task",
    ),
    "polyreactivity": TaskReader(
        title="Polyreactivity by ELISA",
        kind="classes",
        read="polyreactivity:read_polyreactivity",
        files=("boughter.csv", "jain.csv or shehata.csv …"),
        required=1,
        owner="Boughter et al. 2020; Jain et al. 2017; Shehata et al. 2019",
        address="https://doi.org/10.7554/eLife.61393",
        licence="that of each article",
        rows="1,117 (948 in training); 137; 398",
        columns="id, heavy_seq, light_seq, label, include_in_training (the first file alone)",
        folds="by clone; for each further file one: trained on the first, tested on it",
        metric="AUROC",
        notes="rows with one to three flags are left out, as include_in_training says",
    ),
    "paratope": TaskReader(
        title="Paratope residues of single chains",
        kind="residues",
        read="paratope:read_paratope",
        files=("sabdab_train.parquet", "sabdab_val.parquet", "sabdab_test.parquet"),
        owner="Leem et al. 2022 (AntiBERTa), from SAbDab",
        address="https://github.com/alchemab/antiberta",
        licence="see the repository; SAbDab CC BY 4.0",
        rows="720, 90, 90 chains",
        columns="sequence, paratope_labels; pdb where there",
        folds="one, given: fitted on the first two files, tested on the third",
        metric="AUPR of residues",
        notes="structures are shared between the parts; training chains near a test chain are left out",
    ),
    "epitope": TaskReader(
        title="Epitope within coronavirus binders",
        kind="classes",
        read="specificity:read_epitopes",
        files=("CoV-AbDab_040322.csv",),
        owner="Oxford Protein Informatics Group (CoV-AbDab); nicwulab's supplement has the same column",
        address="https://opig.stats.ox.ac.uk/webapps/covabdab/",
        licence="CC BY 4.0",
        rows="5,210, of which 4,137 are pairs",
        columns="VH or VHH (or VHorVHH), VL, Protein + Epitope, Sources",
        folds="by clone, or by study (group_by)",
        metric="AUROC; macro F1 of three sites",
        notes="two tasks: RBD or another epitope; RBD, NTD or S2. Unclear epitopes are left out",
    ),
    "specificity": TaskReader(
        title="Healthy donors, influenza, coronavirus",
        kind="classes",
        read="specificity:read_specificity",
        files=("healthy pairs", "influenza or coronavirus pairs", "coronavirus pairs …"),
        required=2,
        owner="OAS (healthy); Wang et al. 2022 and 2024 (nicwulab: SARS-CoV-2, influenza HA)",
        address="https://opig.stats.ox.ac.uk/webapps/oas/ and https://github.com/nicwulab",
        licence="CC BY 4.0 (OAS); see the repositories",
        rows="8,410; 1,586; 6,070, cut to the smallest",
        columns="any that hold pairs; a file for each class",
        folds="by clone",
        metric="AUROC; macro F1 of three classes",
        notes="the class equals the study: compare with the V-gene baseline",
    ),
    "affinity-magma": TaskReader(
        title="Affinity of variants, MAGMA-seq",
        kind="ranking",
        read="affinity:read_magma",
        files=("Kirby_PNAS2025_FLAB_filtered.csv or MAGMAseq_anchor_FLAB.csv …",),
        owner="Petersen et al. 2024; Kirby et al. 2025",
        address="https://github.com/matsengrp/dasm-experiments",
        licence="MIT (repository)",
        rows="868 and 1,039; 1,155 different pairs of five parents",
        columns="VH, VL, KD",
        folds=_VARIANTS,
        metric="Spearman",
        notes="KD in nM, lower is better; its logarithm is learnt; a task for each parent",
    ),
    "affinity-alphaseq": TaskReader(
        title="Affinity of variants, AlphaSeq",
        kind="ranking",
        read="affinity:read_alphaseq",
        files=("trastuzumab-scfv-cdr_validation_alphaseq.csv or trastuzumab-scfv-full_… …",),
        owner="A-Alpha Bio (AlphaBind)",
        address="https://github.com/A-Alpha-Bio/alphabind",
        licence="MIT (repository)",
        rows="3,681 and 7,540 of trastuzumab",
        columns="mata_description, mata_sequence (an scFv), alphaseq_affinity",
        folds=_VARIANTS,
        metric="Spearman",
        notes="log10 KD in nM, lower is better",
    ),
    "affinity-flab": TaskReader(
        title="Fitness of variants, FLAb",
        kind="ranking",
        read="affinity:read_flab",
        files=("one of data/binding/*.csv …",),
        owner="Chungyoun et al. 2023 (FLAb)",
        address="https://github.com/Graylab/FLAb",
        licence="that of each study; see the repository",
        rows="by file",
        columns="heavy, light, fitness",
        folds=_VARIANTS,
        metric="Spearman",
        notes="direction must be given, but for files whose fitness is their neg_log_Kd",
    ),
    "affinity-abbibench": TaskReader(
        title="Affinity of variants, AbBiBench",
        kind="ranking",
        read="affinity:read_abbibench",
        files=("NAME_benchmarking_data.csv …",),
        owner="Zhao et al. 2025 (AbBiBench)",
        address="https://huggingface.co/datasets/AbBibench/Antibody_Binding_Benchmark_Dataset",
        licence="CC BY 4.0",
        rows="by file",
        columns="mut_heavy_chain_seq, binding_score",
        folds=_VARIANTS,
        metric="Spearman",
        notes="heavy chains alone: light_chain is the parent's; higher is better in the files of its "
        "leaderboard; direction must be given for others",
    ),
    "pairing": TaskReader(
        title="Native or exchanged light chain",
        kind="pairing",
        read="own_pairs:read_pairing",
        files=("any table of pairs …",),
        owner="yours",
        address="any table of pairs",
        licence="yours",
        rows="40 pairs or more of a kind of light chain",
        columns="any that hold pairs",
        folds="by clone and light chain; partners are exchanged within a fold",
        metric="AUROC",
        notes="kappa and lambda chains apart",
    ),
    "loss": TaskReader(
        title="Loss on masked residues by region",
        kind="loss",
        read="own_pairs:read_loss",
        files=("any table of pairs …",),
        owner="yours",
        address="any table of pairs",
        licence="yours",
        rows="any",
        columns="any that hold pairs",
        folds="none",
        metric="mean loss in nats, lower is better",
        notes="regions by IMGT numbering; all models are asked for the same residues",
    ),
}


def read_task(
    name: str, files: Sequence[str | Path], options: TaskOptions | None = None, **fields: Any
) -> tuple[Task, ...]:
    """The tasks of one entry of the catalogue, out of its files; `fields` are those of the options."""
    check_names(fields, TaskOptions, "option of a task")
    options = replace(options or TaskOptions(), **fields)
    if name not in TASKS:
        raise OptionError(f"task must be one of {', '.join(TASKS)}; got {name!r}", "task")
    reader, paths = TASKS[name], [Path(file) for file in files]
    if not reader.takes(len(paths)):
        raise OptionError(
            f"{name} must be given its files ({', '.join(reader.files)}); got {len(paths)}; {reader.way_out}",
            "data",
        )
    if missing := [path for path in paths if not path.is_file()]:
        raise OptionError(f"{missing[0]} is not there; {reader.way_out}", "data")
    module, _, function = reader.read.partition(":")
    read = getattr(import_module(f"{__package__}.{module}"), function)
    tasks: tuple[Task, ...] = read(paths, options)
    return tasks
