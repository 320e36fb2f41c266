"""The engine under both trainers: processes, stop signal, saved state, packed rows, log, costs."""
