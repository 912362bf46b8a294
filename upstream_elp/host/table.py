"""The table of what is mended so that S3PRL 0.4.18 runs on today's stack; :mod:`upstream_elp.host.compat` applies it.

torch 2.8 or newer, torchaudio 2.8 to 2.11, transformers 4.57 to 5.x, huggingface_hub 0.36 to 2.x.
``elp doctor`` prints the table.
"""

from collections.abc import Callable
from dataclasses import dataclass

from upstream_elp.host import extension, features, literal, loading, mend, stack
from upstream_elp.host.edits import Edit, after, edit

_HELPER = "s3prl.utility.helper"
RUNNER = "s3prl.downstream.runner"
MAIN = "s3prl.run_downstream"
_SV = "s3prl.downstream.sv_voxceleb1"


@dataclass(frozen=True)
class Item:
    """One thing that has to be mended.

    Args:
        name: what is mended.
        why: what happens without it.
        until: what makes it unnecessary.
        apply: mends it, now or when the module in question is imported.
        needed: whether this process needs it.
        found: what was seen in this process, in words; empty where there is nothing to add.
    """

    name: str
    why: str
    until: str
    apply: Callable[[], None]
    needed: Callable[[], bool] = lambda: True
    found: Callable[[], str] = str


def edit_module(module: str, *edits: Edit) -> Callable[[], None]:
    """What registers edits of a module's source, to be made when it is imported."""
    return lambda: edit(module, *edits)


def after_import(module: str, hook: Callable) -> Callable[[], None]:
    """What registers a hook that gets a module once it is imported."""
    return lambda: after(module, hook)


def _map_checkpoints() -> None:
    for family in ("wavlm", "unispeech_sat"):
        mapped = Edit("torch.load(ckpt)", 'torch.load(ckpt, map_location="cpu")', required=False)
        edit(f"s3prl.upstream.{family}.expert", mapped)


ITEMS = (
    Item(
        "torchaudio's compiled extension",
        "it loads only beside the torch, and the CUDA build, that it was made for; S3PRL needs nothing of it, so that "
        "torchaudio is imported without it where it does not load",
        "a torchaudio made for the installed torch",
        extension.stand_in,
        extension.does_not_load,
        extension.reason,
    ),
    Item(
        "torchaudio.set_audio_backend",
        "removed in torchaudio 2.9, without effect on 2.8; s3prl.hub and run_downstream call it",
        "s3prl without the call",
        stack.add_set_audio_backend,
    ),
    Item(
        "torchaudio.sox_effects",
        "removed in torchaudio 2.9, needs libsox.so on 2.8; s3prl.hub and the SV recipe import it",
        "torchaudio 2.8 with libsox.so",
        stack.replace_sox_effects,
        stack.lacks_sox_effects,
    ),
    Item(
        "torchaudio.load and info",
        "need torchcodec and FFmpeg from torchaudio 2.9, and on 2.8 a SoX that reads flac if there is a SoX at all; "
        "soundfile gives the same float32 samples, and one sentence for a broken file",
        "torchaudio that reads wav and flac by itself",
        stack.replace_load,
    ),
    Item(
        "transformers at every start",
        "s3prl.hub imports two of its models, which takes longer than all the rest; they are imported when used",
        "s3prl that imports them when they are used",
        stack.import_transformers_later,
    ),
    Item(
        "huggingface_hub.HfFolder and Repository",
        "removed in huggingface_hub 1.0; run_downstream imports the names for uploads",
        "huggingface_hub 0.36",
        stack.add_hub_names,
        stack.lacks_hub_names,
    ),
    Item(
        "argparse.Namespace in checkpoints",
        "torch.load refuses the class since torch 2.6; it is allowed, weights_only stays on",
        "s3prl that saves plain dicts",
        stack.allow_namespace,
        stack.refuses_namespace,
    ),
    Item(
        "catalyst.data.sampler",
        "speech_commands imports one class of a package that is no longer maintained",
        "catalyst installed",
        stack.add_catalyst,
        stack.lacks_catalyst,
    ),
    Item(
        "notices of deprecation",
        "S3PRL calls deprecated names of torch, torch.cuda.amp and torchaudio on every step",
        "s3prl that calls torch.amp",
        stack.quiet_noise,
    ),
    Item(
        "overloads of add_ and addcmul_",
        "S3PRL's BertAdam and Lamb put the number before the tensor, which torch deprecates and will remove",
        "s3prl that writes alpha= and value=",
        edit_module(
            "s3prl.optimizers",
            Edit("add_(1 - beta1, grad)", "add_(grad, alpha=1 - beta1)", required=False),
            Edit("addcmul_(1 - beta2, grad, grad)", "addcmul_(grad, grad, value=1 - beta2)", required=False),
            Edit("add_(group['weight_decay'], p.data)", "add_(p.data, alpha=group['weight_decay'])", required=False),
            Edit(
                "add_(-lr_scheduled * trust_ratio, adam_step)",
                "add_(adam_step, alpha=-lr_scheduled * trust_ratio)",
                required=False,
            ),
        ),
    ),
    Item(
        "hack_isinstance",
        "replaces builtins.isinstance in the whole process, for torch below 1.8",
        "s3prl without the call",
        after_import(_HELPER, mend.keep_isinstance),
    ),
    Item(
        "-o override",
        "S3PRL evaluates the values as Python, splits at every = and ignores unknown names",
        "s3prl that parses literals",
        after_import(_HELPER, mend.replace_override),
    ),
    Item(
        "unknown -s or -l",
        "the featurizer falls back to hidden_states silently",
        "s3prl that refuses them",
        after_import(RUNNER, features.check_featurizer),
    ),
    Item(
        "checkpoints that do not fit",
        "a backbone of another family, or -i with another task's checkpoint, ends in a traceback",
        "s3prl that names the file",
        after_import(RUNNER, loading.name_checkpoints),
    ),
    Item(
        "ranks above 0 never finish",
        "they skip the step counter and train on until rank 0 is gone",
        "s3prl that counts their steps",
        edit_module(
            RUNNER, Edit("if not is_leader_process():", "if _elp_follows(pbar):", {"_elp_follows": mend.is_follower})
        ),
    ),
    Item(
        "DistributedDataParallel",
        "device_ids must be None on a CPU and copy the records on a GPU; rank 0 evaluates alone, so buffers must not "
        "be broadcast",
        "s3prl that does so",
        after_import(RUNNER, mend.wrap_ddp),
    ),
    Item(
        "--device cpu beside a GPU",
        "runner enters torch.cuda.device(args.device) whatever the device is",
        "s3prl that asks for the device's type",
        edit_module(
            RUNNER,
            Edit(
                "torch.cuda.device(self.args.device)",
                "_elp_cuda_scope(self.args.device)",
                {"_elp_cuda_scope": mend.cuda_scope},
                required=False,
            ),
        ),
    ),
    Item(
        "whole checkpoints",
        "runner writes in place, so that a killed job leaves a broken file which -a then picks",
        "s3prl that renames",
        edit_module(
            RUNNER,
            Edit(
                "torch.save(all_states, path)",
                "_elp_save(all_states, path)",
                {"_elp_save": mend.save_atomically},
                False,
            ),
        ),
    ),
    Item(
        "torch.cuda.set_device without CUDA",
        "run_downstream selects a GPU for every rank, also on machines without one",
        "s3prl that asks first",
        edit_module(
            MAIN,
            Edit(
                "torch.cuda.set_device(args.local_rank)",
                "_elp_set_device(args.local_rank)",
                {"_elp_set_device": mend.set_device},
                required=False,
            ),
        ),
    ),
    Item(
        "names of folders",
        "checkpoints and VoxCeleb's audio are looked for with glob, for which run[12] stands for run1 and run2: -a "
        "starts anew, or goes on in another experiment",
        "s3prl that escapes them",
        literal.mend,
    ),
    Item(
        "time limit between ranks",
        "rank 0 evaluates alone while the others wait, longer than the default 10 minutes of NCCL",
        "s3prl that sets a limit",
        edit_module(
            MAIN,
            Edit(
                "init_process_group(args.backend)",
                "init_process_group(args.backend, timeout=_elp_timeout())",
                {"_elp_timeout": mend.group_timeout},
                required=False,
            ),
        ),
    ),
    Item(
        "CUDA checkpoints of WavLM and UniSpeech-SAT",
        "torch.load without map_location cannot read them on a machine without CUDA",
        "s3prl that passes map_location",
        _map_checkpoints,
        stack.no_cuda,
    ),
    Item(
        "sv_voxceleb1 .cuda()",
        "the mask goes to the default GPU, whatever --device says",
        "s3prl that uses the features' device",
        edit_module(
            f"{_SV}.expert",
            Edit("attention_mask_pad.cuda()", "attention_mask_pad.to(features_pad.device)", required=False),
        ),
    ),
    Item(
        "sv_voxceleb1 cache of lengths",
        "one file inside the installed package for every corpus; kept per corpus in ELP_CACHE or ~/.cache/s3prl-elp",
        "s3prl that keys the cache",
        edit_module(
            f"{_SV}.dataset",
            Edit(
                "Path(os.path.dirname(__file__)) / '.wav_lengths' / f'{self.root_key[index]}_length.pt'",
                "_elp_length_cache(self.roots[index], self.root_key[index])",
                {"_elp_length_cache": mend.length_cache},
            ),
            Edit(
                "torch.save([wav_tags, wav_lengths], str(cache_path))",
                "_elp_save([wav_tags, wav_lengths], cache_path)",
                {"_elp_save": mend.save_atomically},
            ),
        ),
    ),
    Item(
        "sv_voxceleb1 processes and sox",
        "always 12 processes, and an unused import that prints 'SoX could not be found!'",
        "s3prl that asks for the cores",
        edit_module(
            f"{_SV}.dataset",
            Edit(
                "Parallel(n_jobs=n_jobs)",
                "Parallel(n_jobs=_elp_jobs(n_jobs, wav_paths))",
                {"_elp_jobs": mend.jobs},
                False,
            ),
            Edit("from sox import Transformer", "", required=False),
        ),
    ),
)
