"""Files, tables and shards, decoded by supervised workers and cached. Nothing here knows a modality."""
