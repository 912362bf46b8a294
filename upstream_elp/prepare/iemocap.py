"""IEMOCAP: labels of four emotions and the metadata of the five folds (leave one session out)."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from upstream_elp.prepare import checks, files
from upstream_elp.prepare.headers import Options, read_headers
from upstream_elp.prepare.librispeech import stem
from upstream_elp.prepare.report import Problem, Report, summarise

SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
# the four classes with stock S3PRL's indices; excited counts as happy (downstream/emotion/IEMOCAP_preprocess.py:43-53)
CLASSES = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
MERGED = {"exc": "hap"}
# the other labels of the corpus; they are known, and not used
OTHERS = frozenset({"fru", "fea", "sur", "dis", "oth", "xxx"})
# test utterances of SUPERB's folds 1 to 5, 5,531 in all
OFFICIAL = dict(zip(SESSIONS, (1085, 1023, 1151, 1031, 1241), strict=True))


@dataclass(frozen=True)
class Utterance:
    """A labelled utterance: path below the corpus, class, and the dialog's tag that stock S3PRL calls speaker."""

    path: str
    label: str
    speaker: str


def speaker_of(utterance: str) -> str:
    """Return who speaks: the session and the last part's letter (``Ses01F_impro01_M000`` is ``Ses01M``).

    The letter after the session number only says who wore the markers; stock metadata takes it for the speaker.
    """
    return utterance[:5] + utterance.rsplit("_", 1)[-1][:1]


def read_labels(path: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Read an ``EmoEvaluation/<dialog>.txt``: lines of ``[start - end]``, utterance, label, ``[...]`` between tabs.

    Returns:
        (utterance, label) of each such line, and the lines in brackets that are not of this form.
    """
    labels, bad = [], []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("["):
            continue
        fields = [part.strip() for part in line.split("\t") if part.strip()]
        if len(fields) >= 3:
            labels.append((fields[1], fields[2]))
        else:
            bad.append(line)
    return labels, bad


def scan_session(report: Report, session: str) -> list[Utterance]:
    """Return a session's utterances of the four classes, sorted by path; problems go to the report."""
    root = report.root
    wavs = {stem(file): file for file in _list(report, root / session / "sentences" / "wav", ".wav")}
    tables = [root / file for file in _list(report, root / session / "dialog" / "EmoEvaluation", ".txt", deep=False)]
    seen: dict[str, str] = {}
    found = []
    for table in tables:
        where = files.relative(table, root)
        labels, bad = read_labels(table)
        report.problems += [
            Problem("label-line", where, f"{where} has a line without utterance and label: {line[:60]!r}.", False)
            for line in bad
        ]
        for name, label in labels:
            problem = _label_problem(name, label, where=where, seen=seen, wavs=wavs)
            if problem:
                report.problems.append(problem)
            elif MERGED.get(label, label) in CLASSES:
                found.append(Utterance(wavs[name], MERGED.get(label, label), name.split("_")[0]))
            seen.setdefault(name, where)
    unlabelled = sorted(set(wavs) - set(seen))
    if unlabelled:
        report.problems += [
            Problem("missing-label", wavs[name], f"{wavs[name]} has no label in {session}/dialog/EmoEvaluation.")
            for name in unlabelled
        ]
    return sorted(found, key=lambda utterance: utterance.path)


def _list(report: Report, folder: Path, suffix: str, *, deep: bool = True) -> list[str]:
    listed = [path for path in files.walk_files(folder, suffix=suffix) if deep or path.parent == folder]
    if not listed:
        name = files.relative(folder, report.root)
        sentence = f"{name} is missing or holds no {suffix} file."
        report.problems.append(Problem("layout", name, sentence, False))
    return [files.relative(path, report.root) for path in listed]


def _label_problem(name: str, label: str, *, where: str, seen: dict[str, str], wavs: dict[str, str]) -> Problem | None:
    """Check one label: a known word, once per utterance, and its audio there where the task uses it."""
    used = MERGED.get(label, label) in CLASSES
    if not used and label not in OTHERS:
        known = ", ".join(sorted({*CLASSES, *MERGED, *OTHERS}))
        return Problem("label", where, f"{where} gives {name} the unknown label {label!r}; known are {known}.", False)
    if name in seen:
        return Problem("duplicate", where, f"{where} labels {name}, which {seen[name]} labels already.", False)
    if used and name not in wavs:
        return Problem(
            "missing-audio", where, f"{where} labels {name}, but there is no {name}.wav in its session.", False
        )
    return None


def fold_metadata(utterances: dict[str, list[Utterance]], *, test: str) -> tuple[dict, dict]:
    """Return the training and test metadata of the fold that tests on one session, in stock S3PRL's form.

    Args:
        utterances: the utterances of each session.
        test: the session left out of training.
    """
    train = [item for session, items in utterances.items() if session != test for item in items]
    return _metadata(train), _metadata(utterances[test])


def _metadata(items: list[Utterance]) -> dict:
    rows = [{"path": item.path, "label": item.label, "speaker": item.speaker} for item in items]
    return {"labels": CLASSES, "meta_data": sorted(rows, key=lambda row: row["path"])}


def prepare(root: Path, out: Path, *, options: Options | None = None) -> Report:
    """Check IEMOCAP and write ``meta_data/Session<n>/{train,test}_meta_data.json`` for the five folds.

    Args:
        root: folder that holds ``Session1`` to ``Session5``.
        out: folder for the metadata.
        options: how to read.

    Raises:
        ElpError: where ``root`` is not IEMOCAP.
    """
    options = options or Options()
    files.check_root(root, holds=SESSIONS, unpacked="IEMOCAP")
    report = Report("iemocap", root, files.open_out(out))
    utterances = {session: scan_session(report, session) for session in SESSIONS}
    every = [item.path for items in utterances.values() for item in items]
    headers = read_headers(root, every, cache=out / ".iemocap-headers.jsonl", options=options)
    report.problems += [problem for file in every for problem in checks.audio_problems(file, headers[file])]
    broken = report.left_out(skip_broken=options.skip_broken)
    kept = {session: [item for item in items if item.path not in broken] for session, items in utterances.items()}
    for session, items in kept.items():
        paths = [item.path for item in items]
        report.splits.append(summarise(session, paths, headers, (speaker_of(stem(path)) for path in paths)))
        counts = Counter(item.label for item in items)
        report.details.setdefault("classes", {})[session] = {label: counts[label] for label in CLASSES}
    counts = [(f"utterances of {session}", len(items), OFFICIAL[session]) for session, items in kept.items()]
    report.warnings += checks.count_warnings(counts)
    report.problems += _class_problems(kept)
    if not report.blocked(skip_broken=options.skip_broken):
        _write(report, kept)
    return report


def _class_problems(utterances: dict[str, list[Utterance]]) -> list[Problem]:
    """Report folds whose training part lacks a class: it could never be predicted."""
    problems = []
    for fold, session in enumerate(SESSIONS, start=1):
        train = {item.label for other, items in utterances.items() if other != session for item in items}
        lacking = [label for label in CLASSES if label not in train]
        if lacking:
            sentence = f"{session}: the training part of fold {fold} has no utterance labelled {', '.join(lacking)}."
            problems.append(Problem("classes", session, sentence, False))
    return problems


def _write(report: Report, utterances: dict[str, list[Utterance]]) -> None:
    for session in SESSIONS:
        train, test = fold_metadata(utterances, test=session)
        folder = report.out / "meta_data" / session
        report.tables.append(files.write_json(folder / "train_meta_data.json", train))
        report.tables.append(files.write_json(folder / "test_meta_data.json", test))
