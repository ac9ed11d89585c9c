"""What the server of test processes imports before it copies itself."""

import torch

import tacit.engine
import tacit.recipes.image
import tacit.train  # noqa: F401
import tests.tiny  # noqa: F401

torch.set_num_threads(1)
