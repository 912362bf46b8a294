"""Every kind of wrong file is refused with one sentence, and every right one is taken; files are generated."""

import string
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from upstream_elp.base.errors import ElpError
from upstream_elp.submission.archive import collect, open_archive, pack
from upstream_elp.submission.layout import BY_NAME, FOLDS, PARTS
from upstream_elp.submission.lines import checked, read_predictions
from upstream_elp.submission.scoring import score
from upstream_elp.submission.truth import Truth, from_names

EVERY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
WORDS = st.lists(st.text(string.ascii_uppercase + "'", min_size=1, max_size=5), max_size=4).map(" ".join)
NUMBERS = st.floats(-1, 1, width=32).map(str)
SLOTS = st.tuples(*[st.sampled_from(["none", "change language", "kitchen", "up"])] * 3).map(",".join)
ANSWERS = {
    "asr": WORDS,
    "asr_lm": WORDS,
    "sv": NUMBERS,
    "er": st.sampled_from(["neu", "hap", "ang", "sad"]),
    "ic": SLOTS,
}


def keys_of(part, count):
    if part.task == "sv":
        return [f"id10{n % 3:03d}-vi_d-{n:05d}_id10{n % 2:03d}-o-t-{n:05d}" for n in range(count)]
    return [f"{part.name}-{n:04d}" for n in range(count)]


@st.composite
def files(draw):
    """A part, and the keys and answers of a right file."""
    part = draw(st.sampled_from(PARTS))
    keys = keys_of(part, draw(st.integers(2, 12)))
    return part, {key: draw(ANSWERS[part.task]) for key in draw(st.permutations(keys))}


def lines_of(part, answers):
    return [f"{key}{part.separator}{answer}" for key, answer in answers.items()]


def text_of(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def check(part, content, keys):
    return checked({part: content}, {part: dict.fromkeys(keys, "")}, names={part: "FILE"})[part]


@EVERY
@given(files())
def test_right_files_are_taken_as_they_are(made):
    part, answers = made
    assert check(part, text_of(lines_of(part, answers)), answers) == answers


def drop(draw, lines, part):
    lines.pop(draw(st.integers(0, len(lines) - 1)))
    return "must answer the whole test set"


def double(draw, lines, part):
    line = draw(st.sampled_from(lines))
    lines.insert(draw(st.integers(0, len(lines))), line)
    return "must appear once, but appears again"


def unknown(draw, lines, part):
    _, _, answer = draw(st.sampled_from(lines)).partition(part.separator)
    lines.insert(draw(st.integers(0, len(lines))), f"unheard-of{part.separator}{answer}")
    return "must contain only keys of the test set"


def rename(draw, lines, part):
    at = draw(st.integers(0, len(lines) - 1))
    lines[at] = f"x{lines[at]}"
    return "must contain only keys of the test set"


def blank(draw, lines, part):
    lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(["", " ", "  "])))
    return "must begin with the name of an utterance"


def indent(draw, lines, part):
    at = draw(st.integers(0, len(lines) - 1))
    lines[at] = f" {lines[at]}"
    return "must begin with the name of an utterance"


def odd_byte(draw, lines, part):
    at = draw(st.integers(0, len(lines) - 1))
    place = draw(st.integers(0, len(lines[at])))
    odd = draw(st.sampled_from("\t\r\0\x1b\x7f\u00e9\u4e2d\ufeff\u2028\x0b"))
    lines[at] = lines[at][:place] + odd + lines[at][place:]
    return "must be printable ASCII"


def odd_answer(draw, lines, part):
    at = draw(st.integers(0, len(lines) - 1))
    key = lines[at].partition(part.separator)[0]
    wrong = {
        "asr": ["A  B", "A B ", "lower case"],
        "asr_lm": ["A  B", "A B "],
        "sv": ["", "nan", "inf", "0.5 0.5", "tensor(0.5)", "1_0", "none"],
        "er": ["", "happy", "neu ", "0", "exc"],
        "ic": ["", "a,b", "a,b,c,d", "a,,c", "a, b,c"],
    }
    lines[at] = f"{key}{part.separator}{draw(st.sampled_from(wrong[part.task]))}"
    return "the answer for "


FAULTS = (drop, double, unknown, rename, blank, indent, odd_byte, odd_answer)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@EVERY
@given(files(), st.data())
def test_every_kind_of_fault_is_refused(fault, made, data):
    part, answers = made
    lines = lines_of(part, answers)
    message = fault(data.draw, lines, part)
    with pytest.raises(ElpError, match=message) as caught:
        check(part, text_of(lines), answers)
    assert str(caught.value).startswith("FILE") and "; " in str(caught.value)


@EVERY
@given(files(), st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "utf-7"]))
def test_other_encodings_are_refused(made, coding):
    part, answers = made
    content = text_of(lines_of(part, answers)).decode().replace("0", "é").encode(coding)
    assume(content.decode(coding))
    with pytest.raises(ElpError, match=r"printable ASCII|must begin|the answer for|only keys"):
        check(part, content, answers)


@EVERY
@given(files(), st.integers(1, 3))
def test_a_cut_file_is_refused(made, cut):
    part, answers = made
    with pytest.raises(ElpError, match=r"must end with a newline"):
        check(part, text_of(lines_of(part, answers))[:-cut].rstrip(b"\n"), answers)
    with pytest.raises(ElpError, match="is empty"):
        check(part, b"", answers)


@EVERY
@given(st.lists(st.sampled_from(FOLDS), min_size=5, max_size=5))
def test_er_needs_five_different_folds(tmp_path_factory, folds):
    top = tmp_path_factory.mktemp("er")
    for number, fold in enumerate(folds):
        (top / str(number)).mkdir()
        (top / str(number) / f"test_{fold}_predict.txt").write_text("a neu\n")
    folders = [top / str(number) for number in range(5)]
    if sorted(folds) == list(FOLDS):
        assert {part.name: path.parent.name for part, path in collect({"er": folders}).items()} == {
            f"er_{fold}_public": str(number) for number, fold in enumerate(folds)
        }
        return
    with pytest.raises(ElpError, match="must name five different folds"):
        collect({"er": folders})


@EVERY
@given(st.integers(1, 4), st.randoms())
def test_fewer_folds_are_not_scored(count, random):
    parts = [BY_NAME[f"er_{fold}_public"] for fold in random.sample(FOLDS, count)]
    truths = {part: Truth({f"{part.name}-1": "neu"}, "made up") for part in parts}
    contents = {part: f"{part.name}-1 neu\n".encode() for part in parts}
    with pytest.raises(ElpError, match="must contain five folds, but has only"):
        score(contents, truths)


@EVERY
@given(st.lists(files(), min_size=1, max_size=3))
def test_packing_keeps_every_byte_and_does_not_depend_on_the_time(tmp_path_factory, made):
    top = tmp_path_factory.mktemp("zip")
    contents = {part: text_of(lines_of(part, answers)) for part, answers in made}
    assert pack(top / "a.zip", contents) == (top / "a.zip").stat().st_size
    pack(top / "b.zip", dict(reversed(contents.items())))
    assert (top / "a.zip").read_bytes() == (top / "b.zip").read_bytes()
    assert open_archive(top / "a.zip").parts == contents
    assert sorted(path.name for path in top.iterdir()) == ["a.zip", "b.zip"]


def test_a_zip_of_50_mib_is_refused_and_not_left_behind(tmp_path):
    noise = np.random.default_rng(0).bytes(51 * 2**20)
    with pytest.raises(ElpError, match="must be smaller than 50 MiB, but would have 51"):
        pack(tmp_path / "out.zip", {PARTS[0]: noise})
    assert not list(tmp_path.iterdir())


def test_what_is_not_a_submission_is_refused(tmp_path):
    path = tmp_path / "out.zip"
    with pytest.raises(ElpError, match="there is no such file"):
        open_archive(path)
    path.write_bytes(b"PK nonsense")
    with pytest.raises(ElpError, match="cannot be read"):
        open_archive(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("predict/asr/predict.ark", "A B\n")
    with pytest.raises(ElpError, match="must contain a file such as"):
        open_archive(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("predict/asr_public/predict.ark", b"0" * 201 * 2**20)
    with pytest.raises(ElpError, match="must unpack to less than 200 MiB"):
        open_archive(path)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as archive:
        for text in ("a 1\n", "a 2\n"):
            archive.writestr("predict/sv_public/predict.txt", text)
    with pytest.raises(ElpError, match="once, but contains it again"):
        open_archive(path)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("predict/sv_public/predict.txt", "a 1\n" * 99)
        content = bytearray(path.read_bytes())
        content[60] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(ElpError, match="cannot be read"):
            open_archive(path)


def superb_list():
    """As many trials as SUPERB has, with the same names as there: half of them of one speaker."""
    pairs = []
    for number in range(37_720):
        one, other = f"id{10_270 + number % 40}", f"id{10_270 + (number + number % 2) % 40}"
        pairs.append(f"{one}-8jEAj_6S-gY-{number % 100_000:05d}_{other}-x6uYqmx31kE-00001")
    return pairs


def test_sv_can_be_scored_from_the_names():
    part, pairs = BY_NAME["sv_public"], superb_list()
    truth = from_names(pairs, part, where="FILE")
    assert sum(answer == "1" for answer in truth.answers.values()) == 18_860
    right = "".join(f"{pair} {float(truth.answers[pair])}\n" for pair in pairs).encode()
    (result,) = score({part: right}, {part: truth})
    assert (result.name, result.value, len(result.items)) == ("SV_eer", 0.0, 37_720)
    with pytest.raises(ElpError, match=r"must contain 37,720 trials, but has 37,719"):
        from_names(pairs[1:], part, where="FILE")
    with pytest.raises(ElpError, match="a key must be id00000-video-00000_id00000"):
        from_names([*pairs[1:], "one_two"], part, where="FILE")


def test_lines_say_where_they_are():
    with pytest.raises(ElpError, match=r"FILE line 2: the answer for b must be one of neu, hap, ang, sad, but is 'x'"):
        read_predictions(b"a neu\nb x\n", BY_NAME["er_fold1_public"], where="FILE")
