"""One run: open, split, pretrain, validate, publish, and the folder that it is kept in."""
