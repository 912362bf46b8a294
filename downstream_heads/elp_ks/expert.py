"""The name under which S3PRL finds this task (as s3prl.downstream.elp_ks.expert); the task itself is in task.py."""

from downstream_heads.elp_ks.task import DownstreamExpert

__all__ = ["DownstreamExpert"]
