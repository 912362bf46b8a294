"""IEMOCAP: labels of four emotions, and the metadata of the five folds (each holds out one session)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from upstream_elp.audio.formats import absent_problems
from upstream_elp.audio.headers import Options
from upstream_elp.base import texts
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_json
from upstream_elp.base.folders import Tree, look
from upstream_elp.base.problems import AUDIO, Problem
from upstream_elp.corpora import checks
from upstream_elp.corpora.description import Corpus, PrepareCommand
from upstream_elp.corpora.preparation import Report, begin, summarise
from upstream_elp.corpora.reading import Reading, stem

SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
# the four classes with stock S3PRL's indices; excited counts as happy (downstream/emotion/IEMOCAP_preprocess.py:43-53)
CLASSES = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
MERGED = {"exc": "hap"}
# the other labels of the corpus, which are known but not used
OTHERS = frozenset({"fru", "fea", "sur", "dis", "oth", "xxx"})
# kinds of problems of an incomplete copy, which a task can be set to ignore
PARTLY = ("missing-label", "missing-audio")
PEOPLE = "speakers.csv"
"""Who speaks, if a session has more than two people: ``utterance,speaker``. The real corpus has no such file."""
# test utterances of SUPERB's folds 1 to 5, 5,531 in total
OFFICIAL = dict(zip(SESSIONS, (1085, 1023, 1151, 1031, 1241), strict=True))
CORPUS = Corpus(
    name="IEMOCAP",
    folder="IEMOCAP",
    source="https://sail.usc.edu/iemocap (on request, IEMOCAP_full_release)",
    layout="Session{1..5}/sentences/wav/<dialog>/<utterance>.wav and Session<n>/dialog/EmoEvaluation/<dialog>.txt",
    signs=("Session[1-5]",),
    holds=SESSIONS,
    command=PrepareCommand(
        name="iemocap",
        summary="Metadata of IEMOCAP's five folds.",
        text="""Check IEMOCAP in ROOT (with Session1 to Session5) and write
        OUT/meta_data/SessionN/{train,test}_meta_data.json.

        The labels are neutral, happy (with excited), angry and sad; each fold tests on one session.
        """,
        skips=True,
    ),
)


@dataclass(frozen=True)
class Utterance:
    """A labelled utterance: its path below the corpus root, its class, and the dialog tag that S3PRL calls speaker."""

    path: str
    label: str
    speaker: str

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return stem(self.path)


def speaker_of(utterance: str) -> str:
    """Return the speaker: the session and the letter of the last part (``Ses01F_impro01_M000`` is ``Ses01M``).

    The letter after the session number says who wore the markers; stock metadata uses it as the speaker.
    """
    return utterance[:5] + utterance.rsplit("_", 1)[-1][:1]


def people(root: Path) -> dict[str, str]:
    """Return the speakers by utterance that :data:`PEOPLE` lists; empty if there is no such file.

    Raises:
        ElpError: the file cannot be read as such a table.
    """
    path = root / PEOPLE
    if not path.is_file():
        return {}
    lines = texts.read_text(path, name=str(path)).splitlines()
    rows = [line.split(",") for line in lines]
    if not rows or rows[0] != ["utterance", "speaker"] or any(len(row) != 2 for row in rows):
        raise ElpError(f"{path} must be a table with the columns utterance,speaker; correct it or remove it")
    return dict(rows[1:])


def read_labels(path: Path) -> tuple[list[tuple[str, str]], list[str], str]:
    """Read an ``EmoEvaluation/<dialog>.txt``: lines of ``[start - end]``, utterance, label and ``[...]`` with tabs.

    Returns:
        (utterance, label) of each such line, the lines in brackets that do not have this form, and what is wrong with
        the file's encoding, or an empty string; the evaluators' remarks may have any encoding.
    """
    labels, bad = [], []
    content, fault = texts.read(path)
    lines = [line for line in texts.lines(content) if line.startswith("[")]
    for line in lines:
        fields = [part.strip() for part in line.split("\t") if part.strip()]
        if len(fields) >= 3:
            labels.append((fields[1], fields[2]))
        else:
            bad.append(line)
    elsewhere = "\ufffd" in content and not any("\ufffd" in line for line in lines)
    return labels, bad, "" if elsewhere else fault


def read_session(root: Path, session: str) -> Reading[Utterance]:
    """Read a session's audio and labels: the only reader of this corpus, for all commands and tasks.

    Args:
        root: the corpus.
        session: ``Session1`` to ``Session5``.

    Returns:
        The utterances of the four classes, sorted by path; those without audio have their expected path.
    """
    found: Reading[Utterance] = Reading()
    top = root / session
    audio = look(top / "sentences" / "wav", root=root, suffix=".wav")
    evaluations = look(top / "dialog" / "EmoEvaluation", root=root, suffix=".txt")
    found.problems += checks.closed_problems({**audio.closed, **evaluations.closed})
    found.problems += checks.duplicate_problems(audio.files)
    found.remarks += checks.again_remarks([*audio.again, *evaluations.again])
    wavs = {stem(file): file for file in reversed(audio.files)}
    depth = f"{session}/dialog/EmoEvaluation/".count("/")
    tables = [file for file in evaluations.files if file.count("/") == depth]  # deeper files have another form
    labels = _read_tables(found, root, tables)
    for name, (label, _) in labels.items():
        if label in CLASSES:
            place = f"{session}/sentences/wav/{name.rpartition('_')[0]}/{name}.wav"
            found.rows.append(Utterance(wavs.get(name, place), label, name.split("_")[0]))
    absent = [row for row in found.rows if row.name not in wavs]
    found.gone = {row.path for row in absent}
    without = _absent(root, absent, labels)
    # if there is nothing at all, one sentence says so, not one for every utterance
    others = [problem for problem in without if problem.kind == "format"]
    found.problems += without if wavs else others or _empty(f"{session}/sentences/wav", audio, ".wav")
    if tables:
        found.problems += [_unlabelled(wavs[name], session) for name in sorted(wavs.keys() - labels.keys())]
    else:
        found.problems += _empty(f"{session}/dialog/EmoEvaluation", evaluations, ".txt")
    if not found.rows and not {"layout", "closed-folder", "format"} & {problem.kind for problem in found.problems}:
        sentence = f"{session} has no utterance labelled {', '.join((*CLASSES, *MERGED))}."
        found.problems.append(Problem("layout", session, sentence, False))
    found.rows.sort(key=lambda row: row.path)
    return found


def _empty(folder: str, tree: Tree, ending: str) -> list[Problem]:
    if tree.closed:
        return []
    return [Problem("layout", folder, f"{folder} is missing or contains no {ending} files.", False)]


def _read_tables(found: Reading, root: Path, tables: list[str]) -> dict[str, tuple[str, str]]:
    """Return the label of every utterance, merged into the four classes, and its table; add problems to ``found``."""
    seen: dict[str, tuple[str, str]] = {}
    for where in tables:
        labels, bad, fault = read_labels(root / where)
        if fault:
            found.problems.append(Problem("encoding", where, f"{where} {fault}.", False))
        for line in bad:
            sentence = f"{where} has a line without an utterance and a label: {line[:60]!r}."
            found.problems.append(Problem("label-line", where, sentence, False, "lines lack an utterance and a label"))
        for name, word in labels:
            label = MERGED.get(word, word)
            if label not in CLASSES and label not in OTHERS:
                every = ", ".join(sorted({*CLASSES, *MERGED, *OTHERS}))
                sentence = f"{where} gives {name} the unknown label {word!r}; the labels are {every}."
                found.problems.append(
                    Problem("label", where, sentence, False, f"labels are unknown; the labels are {every}")
                )
            elif name in seen:
                sentence = f"{where} labels {name}, which {seen[name][1]} already labels."
                found.problems.append(Problem("duplicate", where, sentence, False, "utterances are labelled twice"))
            seen.setdefault(name, (label, where))
    return seen


def _absent(root: Path, rows: Sequence[Utterance], labels: dict[str, tuple[str, str]]) -> list[Problem]:
    absent = {}
    for row in rows:
        where = labels[row.name][1]
        sentence = f"{where} labels {row.name}, but the session has no {row.name}.wav."
        cause = "labelled utterances have no .wav file; unpack the corpus again"
        absent[row.path] = Problem("missing-audio", where, sentence, False, cause)
    return absent_problems(root, absent)


def _unlabelled(file: str, session: str) -> Problem:
    sentence = f"{file} has no label in {session}/dialog/EmoEvaluation."
    return Problem("missing-label", file, sentence, cause=f"{AUDIO} have no label")


def fold_metadata(utterances: dict[str, list[Utterance]], *, test: str) -> tuple[dict, dict]:
    """Return the training and test metadata of the fold that tests on one session, in stock S3PRL's form.

    Args:
        utterances: the utterances of each session.
        test: the session held out from training.
    """
    train = [item for session, items in utterances.items() if session != test for item in items]
    return _metadata(train), _metadata(utterances[test])


def _metadata(items: list[Utterance]) -> dict:
    rows = [{"path": item.path, "label": item.label, "speaker": item.speaker} for item in items]
    return {"labels": CLASSES, "meta_data": sorted(rows, key=lambda row: row["path"])}


def prepare(root: Path, out: Path, *, options: Options | None = None) -> Report:
    """Check IEMOCAP and write ``meta_data/Session<n>/{train,test}_meta_data.json`` for the five folds.

    Args:
        root: folder that contains ``Session1`` to ``Session5``.
        out: folder for the metadata.
        options: how to read.

    Raises:
        ElpError: ``root`` is not IEMOCAP.
    """
    options = options or Options()
    report = begin(CORPUS, root, out)
    sessions = {session: read_session(root, session) for session in SESSIONS}
    report.problems += [problem for found in sessions.values() for problem in found.problems]
    report.warnings += [remark for found in sessions.values() for remark in found.remarks]
    utterances = {session: found.present for session, found in sessions.items()}
    every = [item.path for items in utterances.values() for item in items]
    headers = report.read(every, options)
    report.check_audio(headers)
    broken = report.skipped(skip_broken=options.skip_broken)
    kept = {session: [item for item in items if item.path not in broken] for session, items in utterances.items()}
    for session, items in kept.items():
        paths = [item.path for item in items]
        report.splits.append(summarise(session, paths, headers, (speaker_of(stem(path)) for path in paths)))
        counts = Counter(item.label for item in items)
        report.details.setdefault("classes", {})[session] = {label: counts[label] for label in CLASSES}
    counts = [(f"utterances of {session}", len(items), OFFICIAL[session]) for session, items in kept.items()]
    report.warnings += checks.count_warnings(counts)
    for session in SESSIONS:
        train = [item for other, items in kept.items() if other != session for item in items]
        report.problems += class_problems(session, train)
    if not report.blocked(skip_broken=options.skip_broken):
        _write(report, kept)
    return report


def class_problems(session: str, train: Iterable[Utterance], *, classes: Iterable[str] = CLASSES) -> list[Problem]:
    """Report a fold whose training part lacks a class, which could then never be predicted.

    Args:
        session: the session that the fold tests on.
        train: the utterances of the other sessions.
        classes: the required classes.
    """
    known = {item.label for item in train}
    lacking = [label for label in classes if label not in known]
    if not lacking:
        return []
    fold = SESSIONS.index(session) + 1
    sentence = f"{session}: the training part of fold {fold} has no utterance labelled {', '.join(lacking)}."
    return [Problem("classes", session, sentence, False)]


def _write(report: Report, utterances: dict[str, list[Utterance]]) -> None:
    for session in SESSIONS:
        train, test = fold_metadata(utterances, test=session)
        folder = report.out / "meta_data" / session
        report.tables.append(write_json(folder / "train_meta_data.json", train))
        report.tables.append(write_json(folder / "test_meta_data.json", test))
