"""Modules go to folders and to the hub and come back as they were, and no licence is lost on the way."""

import json
import os
import sys
import types
from pathlib import Path

import pytest
import torch

import codeprior as cp
from codeprior import hub
from codeprior.codebooks import Codebook
from codeprior.prior import CodePrior
from codeprior.recipes.daefr import SingleEncoder
from codeprior.recipes.daefr.restore import EMBEDDED
from codeprior.weights import origin_of, published_as, read_metadata, remember_origin
from tests.export.models import single

_FACES = torch.zeros(1, 3, 16, 16)


@pytest.fixture
def no_hub(monkeypatch):
    """The package of the hub cannot be imported."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    """The hub as a folder: what is pushed lies in it, and is fetched from it."""
    calls, store = [], tmp_path / "hub"

    class Api:
        def __init__(self, library_name):
            assert library_name == "codeprior"

        def create_repo(self, name, *, private, exist_ok):
            calls.append(("create", name, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            import shutil

            shutil.copytree(folder_path, store / repo_id)
            calls.append(("upload", repo_id, commit_message))
            return f"https://huggingface.co/{repo_id}/commit/0"

    def fetch(name, *, revision, allow_patterns):
        calls.append(("fetch", name, revision, tuple(allow_patterns)))
        return str(store / name)

    http = types.SimpleNamespace(default_client_factory=None, set_client_factory=lambda factory: None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(HfApi=Api, snapshot_download=fetch))
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils._http", http)
    return calls


def test_a_module_comes_back_from_its_folder_without_network_or_hub(tmp_path, no_hub):
    model = single()
    hub.save_pretrained(model, tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    found = hub.from_pretrained(tmp_path / "model")
    assert found.config == model.config and not found.training
    assert torch.equal(found.restore(_FACES), model.restore(_FACES))


def test_every_configured_class_has_the_three_methods(tmp_path, no_hub):
    table = Codebook(8, 4)
    table.save_pretrained(tmp_path / "table")
    assert torch.equal(Codebook.from_pretrained(tmp_path / "table").weight, table.weight)
    with pytest.raises(ValueError, match="SingleEncoder.from_pretrained: .* holds a Codebook"):
        SingleEncoder.from_pretrained(tmp_path / "table")
    with pytest.raises(ImportError, match=r"push_to_hub needs the package huggingface-hub.*codeprior\[hub\]"):
        table.push_to_hub("me/table")


def test_a_restorer_comes_back_from_its_folder(tmp_path, no_hub):
    restorer = cp.Restorer(single())
    restorer.save_pretrained(tmp_path / "model", licence="CC0", figures={"PSNR (dB)": 25.5})
    found = cp.Restorer.from_pretrained(tmp_path / "model", batch=2)
    assert found.size == 16 and found.batch == 2
    assert torch.equal(found.model.restore(_FACES), restorer.model.restore(_FACES))
    assert cp.load_restorer(tmp_path / "model" / "model.safetensors").size == 16


def test_the_configuration_is_the_recorded_arguments(tmp_path):
    model = single()
    hub.save_pretrained(model, tmp_path, licence="CC0")
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["config"] == json.loads(json.dumps(model.config))
    assert (said["family"], said["licence"], said["library_name"]) == ("daefr", "CC0", "codeprior")


def test_the_card_says_family_licence_data_and_figures(tmp_path):
    hub.save_pretrained(single(), tmp_path, licence="CC BY 4.0", data="portraits | studio", figures={"LPIPS": 0.21})
    card = (tmp_path / "README.md").read_text()
    index = card.split("---")[1]
    assert "license: cc-by-4.0\n" in index and "- face-restoration\n" in index and "library_name: codeprior\n" in index
    for line in (
        "| class | SingleEncoder |", "| faces | 16 px a side |", "| licence of the weights | CC BY 4.0 |",
        "| trained with | portraits \\| studio |", "| LPIPS | 0.21 |",
    ):  # fmt: skip
        assert line in card
    assert "| family | daefr: two encoders see the degraded face" in card


def test_a_licence_that_the_index_does_not_know_is_named_whole(tmp_path):
    hub.save_pretrained(single(), tmp_path, licence="S-Lab 1.0, non-commercial")
    assert 'license: other\nlicense_name: "S-Lab 1.0, non-commercial"\n' in (tmp_path / "README.md").read_text()


def test_a_card_says_where_no_licence_is_known(tmp_path):
    hub.save_pretrained(single(), tmp_path)
    assert "| licence of the weights | not stated by the file" in (tmp_path / "README.md").read_text()


def test_the_licence_of_a_checkpoint_is_never_lost(tmp_path):
    theirs = read_metadata(EMBEDDED["small"])["licence"]
    model = cp.load(EMBEDDED["small"])
    hub.save_pretrained(model, tmp_path / "a")
    again = hub.from_pretrained(tmp_path / "a")
    cp.save(tmp_path / "b.safetensors", again)
    assert read_metadata(tmp_path / "b.safetensors")["licence"] == theirs
    # another licence of the copy stands beside it, not instead of it
    hub.save_pretrained(again, tmp_path / "c", licence="mine")
    kept = read_metadata(tmp_path / "c" / "model.safetensors")
    assert kept["licence"] == "mine" and kept["licence_of_origin"] == theirs
    assert theirs in (tmp_path / "c" / "README.md").read_text()


def test_a_model_built_on_a_loaded_prior_keeps_the_prior_s_licence(tmp_path):
    prior = cp.load(EMBEDDED["small"]).prior
    assert origin_of(CodePrior(prior.codebook, prior.decoder))["licence"].startswith("CC-BY-4.0")
    other = Codebook(4, 4)
    remember_origin(other, {"licence": "CC0"})
    both = torch.nn.ModuleList([prior, other, Codebook(4, 4)])
    assert origin_of(both) == {"licence": f"{origin_of(prior)['licence']} AND CC0"}
    assert origin_of(Codebook(4, 4)) == {}


def test_a_published_file_is_known_by_its_checksum():
    sha256 = "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7"
    published = published_as(sha256.upper())
    assert published is not None and published.name == "codeformer"
    assert published_as("0" * 64) is None
    module = Codebook(4, 4)
    remember_origin(module, {"source_sha256": sha256, "codeprior.class": "Codebook"})
    assert origin_of(module) == {
        "source_sha256": sha256, "licence": "S-Lab 1.0, non-commercial", "published": "codeformer",
    }  # fmt: skip


def test_files_that_describe_different_modules_are_refused(tmp_path):
    hub.save_pretrained(Codebook(8, 4), tmp_path)
    (tmp_path / "config.json").write_text('{"config": {"class": "Codebook", "size": 9, "dim": 4}}')
    with pytest.raises(ValueError, match=r"config\.json and model\.safetensors beside it describe different modules"):
        hub.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="no configuration that save_pretrained wrote"):
        hub.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="holds no model.safetensors"):
        hub.from_pretrained(tmp_path)


def test_a_module_is_pushed_and_fetched(fake_hub):
    model = single()
    address = model.push_to_hub("me/faces", private=True, licence="CC0")
    assert address == "https://huggingface.co/me/faces/commit/0"
    assert fake_hub[0] == ("create", "me/faces", True, True) and fake_hub[1][:2] == ("upload", "me/faces")
    found = SingleEncoder.from_pretrained("me/faces", revision="v1")
    assert fake_hub[2] == ("fetch", "me/faces", "v1", ("model.safetensors", "config.json", "README.md"))
    assert torch.equal(found.restore(_FACES), model.restore(_FACES))
    assert origin_of(found)["licence"] == "CC0"


def test_a_folder_that_is_not_there_is_no_repository(no_hub):
    for name in ("nowhere", "./nowhere", "a/b/c", "a" * 300, "a/\x1b[31m"):
        with pytest.raises(FileNotFoundError, match="there is no folder") as caught:
            hub.from_pretrained(name)
        assert str(caught.value).isprintable()
    with pytest.raises(ImportError, match="from_pretrained needs the package huggingface-hub"):
        hub.from_pretrained("me/faces")


@pytest.mark.parametrize("name", ["../faces", "me/..", "/etc/faces", "me/a/b", "me/a\n", "faces", "me/a..b"])
def test_nothing_is_pushed_under_an_odd_name(fake_hub, name):
    with pytest.raises(ValueError, match="push_to_hub: expected a repository owner/name, got '") as caught:
        Codebook(4, 2).push_to_hub(name)
    assert str(caught.value).isprintable() and not fake_hub


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name exist on POSIX alone")
def test_a_snapshot_of_links_and_pipes_is_read_or_refused_and_never_waited_for(tmp_path):
    hub.save_pretrained(Codebook(4, 2), tmp_path / "blobs")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    # as the hub's cache has it
    (snapshot / "model.safetensors").symlink_to(Path("..", "blobs", "model.safetensors"))
    (snapshot / "config.json").symlink_to(Path("..", "blobs", "config.json"))
    assert isinstance(hub.from_pretrained(snapshot), Codebook)
    for target, error, reason in (
        (tmp_path, FileNotFoundError, "holds no model.safetensors"),
        (Path("model.safetensors"), FileNotFoundError, "holds no model.safetensors"),
        (Path("/dev/zero"), FileNotFoundError, "holds no model.safetensors"),
        (Path(__file__), ValueError, "is not a whole safetensors file"),
    ):
        (snapshot / "model.safetensors").unlink()
        (snapshot / "model.safetensors").symlink_to(target)
        with pytest.raises(error, match=reason):
            hub.from_pretrained(snapshot)
    (snapshot / "model.safetensors").unlink()
    os.mkfifo(snapshot / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="holds no model.safetensors"):
        hub.from_pretrained(snapshot)
    os.mkfifo(tmp_path / "blobs" / "pipe")
    (tmp_path / "blobs" / "config.json").unlink()
    os.rename(tmp_path / "blobs" / "pipe", tmp_path / "blobs" / "config.json")
    assert isinstance(hub.from_pretrained(tmp_path / "blobs"), Codebook), "the tensors' file says all"
    with pytest.raises(FileExistsError, match="that codeprior did not write"):
        hub.save_pretrained(Codebook(4, 2), tmp_path / "blobs")


def test_saving_replaces_links_of_a_folder_and_never_what_they_point_to(tmp_path):
    hub.save_pretrained(Codebook(4, 2), tmp_path / "ours")
    (tmp_path / "theirs").write_text("kept")
    (tmp_path / "ours" / "README.md").unlink()
    (tmp_path / "ours" / "README.md").symlink_to(tmp_path / "theirs")
    hub.save_pretrained(Codebook(4, 2), tmp_path / "ours")
    assert (tmp_path / "theirs").read_text() == "kept" and not (tmp_path / "ours" / "README.md").is_symlink()


@pytest.mark.parametrize("named", ["os.system", "../Codebook", "Codebook; import os", "", "Linear", 7])
def test_a_config_that_names_another_class_is_refused(tmp_path, named):
    hub.save_pretrained(Codebook(4, 2), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"config": {"class": named, "size": 4, "dim": 2}}))
    with pytest.raises(ValueError, match="describe different modules"):
        hub.from_pretrained(tmp_path)


@pytest.mark.parametrize(("name", "content"), [
    ("README.md", "# mine"), ("config.json", '{"library_name": "other"}'), ("config.json", "[" * 100_000),
    ("model.safetensors", "x"),
])  # fmt: skip
def test_a_folder_of_somebody_elses_is_kept(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(FileExistsError, match=rf"holds a {name} that codeprior did not write, and it is kept"):
        hub.save_pretrained(Codebook(4, 2), tmp_path)
    assert (tmp_path / name).read_text() == content and len(list(tmp_path.iterdir())) == 1


def test_what_was_saved_before_is_replaced(tmp_path):
    hub.save_pretrained(Codebook(4, 2), tmp_path)
    hub.save_pretrained(second := Codebook(8, 2), tmp_path)
    assert torch.equal(hub.from_pretrained(tmp_path).weight, second.weight)


@pytest.mark.parametrize(("content", "reason"), [
    ("[" * 100_000, "nested too deeply"), (" " * (1 << 20) + "{}", "more than the 1048576 bytes that are read"),
])  # fmt: skip
def test_a_config_without_end_is_refused(tmp_path, content, reason):
    hub.save_pretrained(Codebook(4, 2), tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=rf"is no configuration that save_pretrained wrote: .*{reason}"):
        hub.from_pretrained(tmp_path)


def test_what_a_file_says_is_no_markup_on_the_card():
    said = {
        "codeprior.class": "A\n# B <script>alert(1)</script>", "codeprior.family": "f\n- tag\n---",
        "licence": "x\n---\nlicense: mit", "source": "![a](https://example.org/a.png) `b` \x1b[31m|c",
        "figures": json.dumps({"<img src=x>": "[d](javascript:e)"}),
    }  # fmt: skip
    text = hub.card(said, size=16)
    index, body = text.split("\n---\n", 1)
    assert index.split("\n") == [
        "---", "library_name: codeprior", "pipeline_tag: image-to-image", "license: other",
        'license_name: "x\\n---\\nlicense: mit"', "tags:", "- codeprior", "- face-restoration",
    ]  # fmt: skip
    assert "# A # B \\<script\\>" in body and r"\x1b" in body and "\x1b" not in body
    bare = body.replace("\\<", "").replace("\\[", "").split("```")[0]
    assert "<" not in bare and "[" not in bare
