"""Files, tables and shards, decoded in supervised workers and kept; no modality is known here."""
