"""The name under which S3PRL finds this task (as s3prl.downstream.elp_er.expert); the task itself is in task.py."""

from downstream_heads.elp_er.task import DownstreamExpert

__all__ = ["DownstreamExpert"]
