"""VoxCeleb1 as this task uses it: training speakers, held-out speakers, and the trials of dev and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from downstream_heads.common.size import limited
from downstream_heads.elp_sv.cohort import draw_cohort
from downstream_heads.elp_sv.data import EFFECTS, TrainUtterances, TrialUtterances
from downstream_heads.elp_sv.lengths import trimmed_lengths
from downstream_heads.elp_sv.options import DATA, TOLERATED
from downstream_heads.elp_sv.trials import (
    Trial,
    choose_speakers,
    drawing,
    make_trials,
    read_trials,
    speaker_of,
    trials_path,
    utterances,
)
from upstream_elp.audio.reading import audio_length
from upstream_elp.audio.skips import Skips
from upstream_elp.base.errors import AudioError, ElpError, counted
from upstream_elp.base.problems import AUDIO_KINDS, refuse
from upstream_elp.base.values import problem_list
from upstream_elp.corpora.voxceleb1 import read_part


class VoxCeleb:
    """The corpus under a protocol.

    Args:
        root: VoxCeleb1's folder.
        options: the checked data block.
        least: samples of an utterance that backbone and head need.
        skips: list of skipped files; if None, unusable files are an error.

    Attributes:
        speakers: the training speakers, sorted; a speaker's index is its class.
        held_out: the speakers of the dev set, sorted; empty with the protocol `superb`.
    """

    def __init__(self, root: Path, options: Mapping[str, Any], *, least: int, skips: Skips | None = None) -> None:
        self.skips = skips
        self.root, self.options, self.least = root, options, least
        self.passed = TOLERATED if skips is None else TOLERATED | AUDIO_KINDS
        self._long: dict[str, int] | None = None
        """The training and held-out utterances that are long enough, and their samples after trimming."""
        self._read()

    def _read(self) -> None:
        """Find the utterances and speakers."""
        self.train_folder, self.test_folder = self.root / "dev" / "wav", self.root / "test" / "wav"
        dev = read_part(self.root, "dev")
        dev.refuse(self.root, passed=self.passed)
        names, everyone = dev.names, sorted(dev.speakers)
        self.held_out = choose_speakers(everyone, self.options, folder=self.train_folder)
        apart = set(self.held_out)
        self.speakers = [speaker for speaker in everyone if speaker not in apart]
        training = [name for name in names if speaker_of(name) not in apart]
        kept = {*limited(self.root, training, self.options, path=lambda name: f"dev/wav/{name}")}
        self._everything = [name for name in names if name in kept or speaker_of(name) in apart]
        self._of: dict[str, str] | None = None

    def speaker_of(self, name: str) -> str:
        """Return the speaker of an utterance."""
        return speaker_of(name)

    def names(self, *, held_out: bool) -> list[str]:
        """Return the held-out or training speakers' utterances that are longer than `min_samples` after trimming."""
        least = self.options["min_samples"]
        if self._long is None:
            names = self._everything
            skip = self.skips.of("train") if self.skips else None
            jobs = self.options["n_jobs"]
            chain = EFFECTS[self.options["effects"]]
            lengths = trimmed_lengths(self.train_folder, names, effects=chain, n_jobs=jobs, skip=skip).tolist()
            self._refuse_empty([name for name, length in zip(names, lengths, strict=True) if not length])
            self._long = {name: length for name, length in zip(names, lengths, strict=True) if length > least}
            if self._long and len(self._long) < len(names):
                tqdm.write(
                    f"[elp_sv] {len(names) - len(self._long)} of {len(names)} utterances below {self.train_folder} are "
                    f"skipped: {self._after}they have at most {least} samples ({DATA}.min_samples)"
                )
        apart = set(self.held_out)
        found = [name for name in self._long if (self.speaker_of(name) in apart) == held_out]
        if not found and not held_out:
            raise ElpError(
                f"no training utterance below {self.train_folder} is longer than {least} samples"
                f"{' after trimming silence' if self._after else ''}; lower {DATA}.min_samples or check the audio"
            )
        return found

    @property
    def _after(self) -> str:
        """The beginning of sentences about lengths."""
        return "after trimming silence, " if self.options["effects"] == "superb" else ""

    def _refuse_empty(self, names: Sequence[str]) -> None:
        """Report files without any samples: unlike files that trimming made empty, they are damaged."""
        empty = [name for name in names if not audio_length(self.train_folder / name)]
        if empty and self.skips is None:
            raise ElpError(
                f"{counted(len(empty), 'file has', 'files have')} 0 samples below {self.train_folder}: "
                f"{problem_list(empty)}; unpack or convert the audio again, or remove it"
            )
        for name in empty:
            file = self.train_folder / name
            self.skips.add("train", AudioError(f"{file} has 0 samples", file), lasting=True)

    def train(self) -> TrainUtterances:
        """Return crops of the training speakers' utterances."""
        names = self.names(held_out=False)
        options = {key: self.options[key] for key in ("crop_from", "crop_at", "effects")}
        options |= {"crop": self.options["max_timestep"], "lengths": [self._long[name] for name in names]}
        options |= {"of": self._of}
        return TrainUtterances(self.train_folder, names, self.speakers, **options)

    def trials(self, split: str) -> list[Trial]:
        """Return the trials of `dev` (made here) or `test` (read from the list)."""
        options = self.options
        if split == "test":
            part = read_part(self.root, "test")
            trials, problems = read_trials(trials_path(self.root, options["trials"]), self.root, there=part.names)
            refuse([*part.problems, *problems], self.root, passed=self.passed, audio=len(part.rows))
            return trials
        self.need_dev()
        return make_trials(self.names(held_out=True), **drawing(options))

    def need_dev(self) -> None:
        """Refuse dev trials if the protocol has no dev set.

        Raises:
            ElpError: it has none.
        """
        if not self.held_out:
            raise ElpError(
                f"{DATA}.protocol superb has no dev set, as SUPERB chooses the best checkpoint on test; evaluate test "
                "(-t test), or train with protocol: dev"
            )

    def evaluation(self, split: str, trials: Sequence[Trial]) -> TrialUtterances:
        """Return the utterances of the trials, and the cohort for s-norm."""
        folder = self.train_folder if split == "dev" else self.test_folder
        names, options = utterances(trials), self.options
        untrimmed = options["too_short"] == "untrimmed" and options["effects"] == "superb"
        # dev trials are made from utterances that are long enough
        if split == "test" and not untrimmed and self.skips is None:
            self._check_lengths(folder, names)
        cohort: list[Path] = []
        if options["snorm"] and options["snorm_cohort"] == "drawn":
            drawn = draw_cohort(self.names(held_out=False), options["snorm"], seed=options["split_seed"])
            cohort = [self.train_folder / name for name in drawn]
        return TrialUtterances(
            folder,
            names,
            root=self.root,
            least=self.least,
            untrimmed=untrimmed,
            effects=options["effects"],
            cohort=cohort,
            cohort_crop=options["max_timestep"],
        )

    def _check_lengths(self, folder: Path, names: Sequence[str]) -> None:
        """Report, before the first step, utterances that would fail in the middle of an evaluation."""
        chain = EFFECTS[self.options["effects"]]
        lengths = trimmed_lengths(folder, names, effects=chain, n_jobs=self.options["n_jobs"]).tolist()
        short = [f"{n} ({length})" for n, length in zip(names, lengths, strict=True) if length < self.least]
        if short:
            what = counted(len(short), "utterance has", "utterances have")
            cure = f"set {DATA}.too_short: untrimmed to keep their pauses, or remove these trials"
            raise ElpError(
                f"{'after trimming silence ' if self._after else ''}{what} fewer samples than the {self.least} that "
                f"backbone and head need, in the trials below {folder}: {problem_list(short, shown=5)}; "
                f"{cure if self._after else 'remove these trials'}"
            )
