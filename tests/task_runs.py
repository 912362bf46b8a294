"""Short runs of our tasks with ``elp run`` on the toy corpora."""

from downstream_heads import registry

DEV = {name: task.split("dev") for name, task in registry.tasks().items()}
SMALL = {
    "elp_asr": {"modelrc.RNNs.dim": "[8,8]"},
    "elp_sv": {
        "modelrc.superb.input_dim": 8,
        "modelrc.superb.agg_dim": 8,
        "modelrc.linear.projector_dim": 8,
        "datarc.max_timestep": 8000,
        "datarc.min_samples": 16000,
        "datarc.train_batch_size": 4,
    },
}
SHORT = {"total_steps": 4, "eval_step": 2, "save_step": 2, "log_step": 2, "gradient_accumulate_steps": 1}


def options(task, head, **runner):
    """The ``-o`` flag of a short run without worker processes and with a narrow head."""
    values = {f"config.runner.{key}": value for key, value in {**SHORT, **runner}.items()}
    values["config.downstream_expert.datarc.num_workers"] = 0
    values["config.downstream_expert.modelrc.head"] = head
    values.update({f"config.downstream_expert.{key}": value for key, value in SMALL.get(task, {}).items()})
    return ["-o", ",,".join(f"{key}={value}" for key, value in values.items())]


def flags(task, data, expdir):
    """The flags for the task, its folders and its variant."""
    return ["-d", task, "-p", str(expdir), "--data", str(data), "--device", "cpu", *variant_of(task)]


def variant_of(task):
    """The ``-v`` flag for the second variant of a task, since the first is the default; empty without variants."""
    variants = registry.find(registry.whole_name(task)).variants
    return ["-v", variants[1]] if variants else []
