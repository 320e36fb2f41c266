"""Readers of pairs from files as people have them: any layout, compression and naming of columns.

The way of a record through the files:

- `sources`, `remote`, `streams`: names, patterns and addresses become files, and files bytes or UTF-8;
- `formats` recognises a file by its content; `delimited` (with `records`), `fasta`, `json_records`, `excel`,
  `columnar` and `objects` make it a `table`: columns under the names that the file has;
- `column_names`, `columns`: the caller's names and the aliases of the schema say which column is which field;
- `cells`: tables with one chain in a row become pairs, by cell or by clone;
- `annotate`: fields get the letters, numbers and masks of the schema;
- `pairs`: sends a source through these steps.

Neither cleaning nor dropping of duplicates is done here, but in `curr_ab.data.preparing`.
"""
