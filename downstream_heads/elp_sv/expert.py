"""The name under which S3PRL finds this task (as s3prl.downstream.elp_sv.expert); the task itself is in task.py."""

from downstream_heads.elp_sv.task import DownstreamExpert

__all__ = ["DownstreamExpert"]
