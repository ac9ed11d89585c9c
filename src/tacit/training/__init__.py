"""The loop, its steps, its optimisers, its checkpoints."""
