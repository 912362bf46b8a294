"""The name under which S3PRL finds this task (as s3prl.downstream.elp_ic.expert); the task itself is in task.py."""

from downstream_heads.elp_ic.task import DownstreamExpert

__all__ = ["DownstreamExpert"]
