"""Preparation of token shards: clean → order → cluster → split → write shards.

Five words mean some rows, from a user's file to the trainer's:

- part: the cleaned rows of one source, in one file (`parts`);
- block: rows that are in memory at once; a part is sorted by hash block by block;
- bucket: the rows of a block whose hashes begin with the same bits; buckets are read one at a time;
- partition: the rows of all parts whose hashes begin with the same bits, in order and without duplicates
  (`order`); clusters and splits are arrays over the rows of all partitions (`clusters`, `splits`);
- shard: consecutive rows of one split, as the trainer reads them (`splits`).

`prepare` runs the stages. Each leaves its result in the folder `.work`, where a killed run is taken up.
"""
