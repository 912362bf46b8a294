"""The patches that make S3PRL 0.4.18 run with current packages; :mod:`upstream_elp.host.compat` applies them.

The packages are torch 2.8 or newer, torchaudio 2.8 to 2.11, transformers 4.57 to 5.x, and huggingface_hub 0.36 to 2.x.
``elp doctor`` prints the table.
"""

from upstream_elp.host import extension, features, later, literal, loading, mend, stack
from upstream_elp.host.edits import Edit, edit
from upstream_elp.host.item import Item, after_import, edit_module

_HELPER = "s3prl.utility.helper"
RUNNER = "s3prl.downstream.runner"
MAIN = "s3prl.run_downstream"
_SV = "s3prl.downstream.sv_voxceleb1"


def _map_checkpoints() -> None:
    for family in ("wavlm", "unispeech_sat"):
        mapped = Edit("torch.load(ckpt)", 'torch.load(ckpt, map_location="cpu")', required=False)
        edit(f"s3prl.upstream.{family}.expert", mapped)


ITEMS = (
    Item(
        "torchaudio's compiled extension",
        "it loads only with the torch version and CUDA build that it was compiled for; S3PRL does not need it, so "
        "torchaudio is imported without it if it does not load",
        "a torchaudio built for the installed torch",
        extension.stand_in,
        extension.does_not_load,
        extension.reason,
    ),
    Item(
        "torchaudio.set_audio_backend",
        "it was removed in torchaudio 2.9 and has no effect in 2.8; s3prl.hub and run_downstream call it",
        "an s3prl that does not call it",
        stack.add_set_audio_backend,
    ),
    Item(
        "torchaudio.sox_effects",
        "it was removed in torchaudio 2.9 and needs libsox.so in 2.8; s3prl.hub and the SV recipe import it",
        "torchaudio 2.8 with libsox.so",
        stack.replace_sox_effects,
        stack.lacks_sox_effects,
    ),
    Item(
        "torchaudio.load and info",
        "they need torchcodec and FFmpeg since torchaudio 2.9, and in 2.8 a SoX that reads flac if SoX is installed; "
        "soundfile returns the same float32 samples, and a broken file gives one sentence",
        "a torchaudio that reads wav and flac by itself",
        stack.replace_load,
    ),
    *later.ITEMS,
    Item(
        "huggingface_hub.HfFolder and Repository",
        "they were removed in huggingface_hub 1.0; run_downstream imports them for uploads",
        "huggingface_hub 0.36",
        stack.add_hub_names,
        stack.lacks_hub_names,
    ),
    Item(
        "argparse.Namespace in checkpoints",
        "torch.load refuses the class since torch 2.6; it is allowed, and weights_only stays on",
        "an s3prl that saves plain dicts",
        stack.allow_namespace,
        stack.refuses_namespace,
    ),
    Item(
        "catalyst.data.sampler",
        "speech_commands imports one class from a package that is no longer maintained",
        "catalyst installed",
        stack.add_catalyst,
        stack.lacks_catalyst,
    ),
    Item(
        "notices of deprecation",
        "S3PRL uses deprecated names of torch, torch.cuda.amp and torchaudio on every step",
        "an s3prl that uses torch.amp",
        stack.quiet_noise,
    ),
    Item(
        "overloads of add_ and addcmul_",
        "S3PRL's BertAdam and Lamb pass the number before the tensor, which torch deprecates and will remove",
        "an s3prl that passes alpha= and value=",
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
        "it replaces builtins.isinstance in the whole process, for torch below 1.8",
        "an s3prl that does not call it",
        after_import(_HELPER, mend.keep_isinstance),
    ),
    Item(
        "-o override",
        "S3PRL evaluates the values as Python, splits at every = and ignores unknown names",
        "an s3prl that parses literals",
        after_import(_HELPER, mend.replace_override),
    ),
    Item(
        "unknown -s or -l",
        "the featurizer silently falls back to hidden_states",
        "an s3prl that refuses them",
        after_import(RUNNER, features.check_featurizer),
    ),
    Item(
        "checkpoints that do not fit",
        "a backbone of another family, or -i with another task's checkpoint, ends in a traceback",
        "an s3prl that names the file",
        after_import(RUNNER, loading.name_checkpoints),
    ),
    Item(
        "ranks above 0 never finish",
        "they skip the step counter and keep training until rank 0 is gone",
        "an s3prl that counts their steps",
        edit_module(
            RUNNER, Edit("if not is_leader_process():", "if _elp_follows(pbar):", {"_elp_follows": mend.is_follower})
        ),
    ),
    Item(
        "DistributedDataParallel",
        "device_ids must be None on a CPU and copy the records on a GPU; only rank 0 evaluates, so buffers must not "
        "be broadcast",
        "an s3prl that does both",
        after_import(RUNNER, mend.wrap_ddp),
    ),
    Item(
        "--device cpu on a machine with a GPU",
        "the runner enters torch.cuda.device(args.device) whatever the device is",
        "an s3prl that checks the type of the device",
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
        "the runner writes in place, so a killed job leaves a broken file, which -a then chooses",
        "an s3prl that writes to a temporary file and renames it",
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
        "run_downstream selects a GPU for every rank, even on machines without one",
        "an s3prl that checks first",
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
        "S3PRL searches for checkpoints and VoxCeleb's audio with glob, in which run[12] means run1 and run2: -a "
        "starts again, or resumes another experiment",
        "an s3prl that escapes them",
        literal.apply,
    ),
    Item(
        "time limit between ranks",
        "the other ranks wait while rank 0 evaluates, possibly longer than NCCL's default of 10 minutes",
        "an s3prl that sets a limit",
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
        "an s3prl that passes map_location",
        _map_checkpoints,
        stack.no_cuda,
    ),
    Item(
        "sv_voxceleb1 .cuda()",
        "the mask goes to the default GPU, whatever --device says",
        "an s3prl that uses the features' device",
        edit_module(
            f"{_SV}.expert",
            Edit("attention_mask_pad.cuda()", "attention_mask_pad.to(features_pad.device)", required=False),
        ),
    ),
    Item(
        "sv_voxceleb1 cache of lengths",
        "S3PRL keeps one file for all corpora in the installed package; here it is one per corpus, in ELP_CACHE or "
        "~/.cache/s3prl-elp",
        "an s3prl with one cache per corpus",
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
        "S3PRL always starts 12 processes, and an unused import prints 'SoX could not be found!'",
        "an s3prl that counts the cores",
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
    Item(
        "voxceleb1 lists of files",
        "S3PRL keeps the list of each split in the installed package and never looks again, whatever the corpus; here "
        "there is one per corpus and table, in ELP_CACHE or ~/.cache/s3prl-elp",
        "an s3prl with one list per corpus",
        edit_module(
            "s3prl.downstream.voxceleb1.dataset",
            Edit(
                "os.path.join(CACHE_PATH, f'{mode}.pkl')",
                "_elp_list_cache(file_path, meta_data, mode)",
                {"_elp_list_cache": mend.list_cache},
            ),
        ),
    ),
)
