"""What is fitted on frozen features, and training on labels."""
