"""The two ER heads are those of ``downstream_heads.common.heads``.

Both are projector 256 -> mean over frames -> linear layer to the classes, without a non-linearity anywhere, so they
compute the same function; ``superb`` carries S3PRL's state-dict keys and rounding. What really differs between SUPERB
and the L-E reference is the protocol:

========== ==================================== =======================================================
.          SUPERB (what this task does)         L-E reference (train.py)
========== ==================================== =======================================================
folds      one session held out, speakers new   random fifths of all utterances, speakers seen
training   30,000 steps of 4 x 8 utterances     20 epochs of batch 32, learning rate x 0.1 after 10
audio      whole                                first 200,000 samples in training (``datarc.crop``)
choice     best dev accuracy                    last epoch
========== ==================================== =======================================================
"""

from downstream_heads.common.heads import UTTERANCE_HEADS

__all__ = ["UTTERANCE_HEADS"]
