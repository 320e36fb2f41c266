"""Small files in the shapes that people have, each with the pairs that it must give.

Everything is made from the built-in corpus: its V domains lie in contigs with an untranslated stretch, a
leader and the beginning of a constant region, written as the field's programs and databases write them.
Each shape is drawn in two variants. The first has the columns as the program orders them; the second has
other antibodies, samples and codons, the columns in another order, and some of those that nobody needs
left out, so that no reader can be made for one file.

- `molecules`: chains, contigs and their parts;
- `writing`: tables as text, Excel sheets, compressed files;
- `cells`: contigs of cells, and the pairs among them;
- `cell_ranger`, `airr`, `oas`, `pair_tables`, `sheets`, `one_column`, `fasta_files`, `objects`: shapes,
  by the kind of source;
- `damaged`: files that end in an error, and the place that it must name.
"""

from support.shapes import airr, cell_ranger, fasta_files, oas, objects, one_column, pair_tables, sheets

__all__ = ["airr", "cell_ranger", "fasta_files", "oas", "objects", "one_column", "pair_tables", "sheets"]
