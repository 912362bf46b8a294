"""Error rates and accuracies, all in per cent."""

from collections import Counter
from collections.abc import Hashable, Sequence

import editdistance

__all__ = ["accuracy", "edit_errors", "error_rate", "majority_accuracy", "rate", "unweighted_accuracy"]


def edit_errors(hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]) -> list[int]:
    """Return the edit errors of each utterance: substitutions, deletions and insertions.

    Raises:
        ValueError: the two lists differ in length.
    """
    return [editdistance.eval(list(h), list(r)) for h, r in zip(hypotheses, references, strict=True)]


def error_rate(hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]) -> float:
    """Return the edit errors of all utterances over the tokens of all references, in per cent.

    With words as tokens this is the WER, with characters the UER. Without any reference token it is 100, as in S3PRL
    (downstream/asr/expert.py:182).

    Raises:
        ValueError: the two lists differ in length.
    """
    return rate(edit_errors(hypotheses, references), [len(reference) for reference in references])


def rate(errors: Sequence[int], tokens: Sequence[int]) -> float:
    """Return all errors over all tokens, in per cent; 100 without any token."""
    return 100.0 * sum(errors) / sum(tokens) if sum(tokens) else 100.0


def accuracy(predictions: Sequence[Hashable], truths: Sequence[Hashable]) -> float:
    """Return the share of correct items in per cent (the literature's weighted accuracy); nan for no items."""
    right = sum(p == t for p, t in zip(predictions, truths, strict=True))
    return 100.0 * right / len(truths) if truths else float("nan")


def unweighted_accuracy(predictions: Sequence[Hashable], truths: Sequence[Hashable]) -> float:
    """Return the mean recall of the classes that occur in ``truths``, in per cent; nan for no items."""
    total: Counter = Counter(truths)
    right: Counter = Counter(t for p, t in zip(predictions, truths, strict=True) if p == t)
    if not total:
        return float("nan")
    return 100.0 * sum(right[label] / count for label, count in total.items()) / len(total)


def majority_accuracy(train_labels: Sequence[Hashable], truths: Sequence[Hashable]) -> float:
    """Return the accuracy of always answering the most common *training* label, in per cent; the first wins ties."""
    if not train_labels or not truths:
        return float("nan")
    label = Counter(train_labels).most_common(1)[0][0]
    return accuracy([label] * len(truths), truths)
