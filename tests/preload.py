"""What the server of test processes imports before it copies itself."""

import torch

import tacit.commands.embed
import tacit.commands.pretrain
import tacit.commands.run
import tacit.modalities.image.recipes
import tacit.training.engine
import tacit.training.loop  # noqa: F401
import tests.tiny  # noqa: F401
from tacit.evaluation.probes import finetune, linear  # noqa: F401
from tacit.report import page  # noqa: F401

torch.set_num_threads(1)
