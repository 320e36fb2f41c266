"""Readers of pairs from files as people have them: any layout, compression and naming of columns.

The way of a record through the files:

- `sources`: names, patterns and addresses become files, and files become decompressed bytes;
- `delimited`, `fasta`: bytes become batches of columns, under the names that the file has (`pairs` itself
  reads Parquet, and batches from the Hub);
- `column_names`, `columns`: the caller's names and the aliases of the schema say which column is which field;
- `cells`: tables with one chain in a row become pairs, by cell or by clone;
- `annotate`: fields get the letters, numbers and masks of the schema;
- `pairs`: recognises a file by its content and sends it through these steps.

Neither cleaning nor dropping of duplicates is done here, but in `curr_ab.data.preparing`.
"""
