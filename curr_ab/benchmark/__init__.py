"""Models beside others, on public data sets: peers, tasks, and what their differences are worth."""
