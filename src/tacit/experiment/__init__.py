"""One run: open, split, pretrain, validate, publish, and its folder."""
