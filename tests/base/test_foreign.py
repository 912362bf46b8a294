"""Files that are not what their names say: wherever they are read, one sentence says what they are and what to do."""

import bz2
import gzip
import json
import lzma
import shutil

import pytest
import torch

from tests import toy_corpora
from tests.toys import tiny_backbone
from upstream_elp.audio.headers import read_header
from upstream_elp.audio.reading import audio_length, load_audio
from upstream_elp.audio.sox_samples import read_int32
from upstream_elp.backbones.backbone_file import read_backbone
from upstream_elp.backbones.huggingface import HuggingFaceExpert
from upstream_elp.base.errors import ElpError
from upstream_elp.base.foreign import recognised, recognised_in
from upstream_elp.base.safe_load import load_safely
from upstream_elp.base.yaml_files import read_yaml
from upstream_elp.host import sound
from upstream_elp.upstream.adapter_folder import TENSOR_FILE, adapter_sha256, read_adapter_folder, write_adapter_folder
from upstream_elp.upstream.build import build_upstream
from upstream_elp.upstream.transfer import adapter_folder_of

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a2146' * 8}\nsize 12345\n".encode()
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"
#: content, what it is, what to do
KINDS = {
    "Git LFS": (POINTER, "it is a Git LFS pointer", "run `git lfs pull`"),
    "old Git LFS": (POINTER.replace(b"git-lfs", b"hawser"), "it is a Git LFS pointer", "run `git lfs pull`"),
    "git-annex": (b"/annex/objects/SHA256E-s12--ab.wav\n", "it is a git-annex pointer", "run `git annex get`"),
    "HTML": (PAGE, "it is an HTML page", "download the file again"),
    "HTML with a mark": (b"\xef\xbb\xbf<html>", "it is an HTML page", "download the file again"),
    "XML": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "it is an XML", "download the file"),
    "gzip": (gzip.compress(b"RIFF" * 99), "it is compressed with gzip", "unpack it with gunzip"),
    "bzip2": (bz2.compress(b"RIFF" * 99), "it is compressed with bzip2", "unpack it with bunzip2"),
    "xz": (lzma.compress(b"RIFF" * 99), "it is compressed with xz", "unpack it with unxz"),
}
READERS = {
    "a.wav": [load_audio, audio_length, read_int32, sound.load, sound.info],
    "a.flac": [load_audio, audio_length, read_int32, sound.load, sound.info],
    "a.mp3": [load_audio, audio_length, read_int32, sound.load, sound.info],
    "a.pt": [load_safely, read_backbone],
    "a.ckpt": [load_safely],
    "a.yaml": [read_yaml],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_each_reader_says_what_the_file_is(tmp_path, name, kind):
    content, what, advice = KINDS[kind]
    path = tmp_path / name
    path.write_bytes(content)
    for read in READERS[name]:
        with pytest.raises(ElpError) as caught:
            read(path)
        said = str(caught.value)
        assert str(path) in said and what in said and said.count(advice) == 1 and "\n" not in said
        assert "replace" not in said and "give a" not in said, "one thing to do"


@pytest.mark.parametrize("kind", KINDS)
def test_a_look_at_a_corpus_says_it_too(tmp_path, kind):
    content, what, advice = KINDS[kind]
    (tmp_path / "a.wav").write_bytes(content)
    for decode in (False, True):
        header = read_header(tmp_path / "a.wav", decode=decode)
        assert what in header.error and advice in header.error and not header.passing


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    place = tmp_path_factory.mktemp("adapter") / "adapter"
    write_adapter_folder(place, adapter_folder_of(build_upstream(None, ckpt=tiny_backbone(), model_config="lora_qv8")))
    return place


@pytest.mark.parametrize("read", [read_adapter_folder, adapter_sha256])
def test_a_pointer_in_place_of_an_adapters_tensors(adapter, tmp_path, read):
    shutil.copytree(adapter, tmp_path / "adapter")
    (tmp_path / "adapter" / TENSOR_FILE).write_bytes(POINTER)
    with pytest.raises(ElpError, match=rf"{TENSOR_FILE} is not a readable safetensors file: it is a Git LFS pointer"):
        read(tmp_path / "adapter")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_pointer_in_a_folder_of_hugging_face(tmp_path, name):
    shutil.copytree(tiny_backbone(None, "hf_wavlm"), tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(POINTER)
    with pytest.raises(ElpError, match=rf"{name}.*it is a Git LFS pointer instead of the file; run `git lfs pull`"):
        HuggingFaceExpert(tmp_path / "model")


def test_good_files_are_nothing_else(tmp_path, adapter):
    toy_corpora.write_wav(tmp_path / "a.wav", toy_corpora.tone())
    torch.save({"version": torch.zeros(3)}, tmp_path / "a.pt")
    (tmp_path / "a.yaml").write_text("version: https://example.org\nbase: elp\n")
    (tmp_path / "a.json").write_text(json.dumps({"version": 1}))
    (tmp_path / "empty").write_bytes(b"")
    assert [recognised(path) for path in tmp_path.iterdir()] == [None] * 5
    assert recognised(tmp_path / "absent") is None and recognised_in(adapter, ".safetensors") == ""
