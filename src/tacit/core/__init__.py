"""What everything else stands on: errors, files, keyed randomness, types, processes."""
