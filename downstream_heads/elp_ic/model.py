"""The two IC heads are those of ``downstream_heads.common.heads``.

Both are projector 256 -> mean over frames -> linear layer to 24 outputs (6 actions, 14 objects, 4 locations), trained
with the sum of three cross-entropies and without a non-linearity anywhere, so they compute the same function;
``superb`` carries S3PRL's state-dict keys and rounding. What differs between SUPERB and the L-E reference is the
protocol: 200,000 steps of batch 32 and the best of the valid set here; 7 epochs of batch 16 with a learning rate set
by epoch, the last epoch and the label numbers of a published checkpoint there.
"""

from downstream_heads.common.heads import UTTERANCE_HEADS

__all__ = ["UTTERANCE_HEADS"]
