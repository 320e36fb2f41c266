"""Tasks of the benchmark: a reader for each public data set, in the form in which its owners publish it."""
