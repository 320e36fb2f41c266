"""From the pairs of many files to token shards: cleaned, ordered, split."""
