"""From a reference to files: the hub's protocol, other programs' stores, offline mode."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from llmstack.errors import BadInput, MissingPart, NotSo
from llmstack.fetch import locate, models_dir, resolve
from llmstack.fetch.foreign_caches import FileQuery, find, on_this_machine
from llmstack.fetch.progress import TransferProgress
from llmstack.paths import Home
from support.hub import COMMIT, HubServer
from support.model_bytes import model_bytes

CATALOG = """
[models.tiny]
repo = "maker/tiny"
quant = "Q4_K_M"
mmproj = "mmproj-F16.gguf"

[models.tiny.quants.Q4_K_M]
file = "Tiny-Q4_K_M.gguf"
sha256 = "{sha}"

[models.tiny.quants.Q8_0]
file = "Tiny-Q8_0.gguf"

[models.tiny.quants.BF16]
files = ["split/Tiny-BF16-00001-of-00002.gguf", "split/Tiny-BF16-00002-of-00002.gguf"]
"""


@pytest.fixture
def tiny(home: Home, hub: HubServer) -> Home:
    home.catalog.write_text(CATALOG.format(sha=hub.digest("Tiny-Q4_K_M.gguf")))
    return home


def test_a_catalog_name_is_pulled_with_its_image_encoder(tiny: Home, hub: HubServer) -> None:
    found = resolve(tiny, "tiny")
    assert found.path == tiny.models / "maker/tiny/Tiny-Q4_K_M.gguf"
    assert found.path.read_bytes() == hub.files["Tiny-Q4_K_M.gguf"]
    assert found.mmproj == tiny.models / "maker/tiny/mmproj-F16.gguf"
    assert (found.name, found.quant, found.store) == ("tiny", "Q4_K_M", "own")


def test_a_second_pull_asks_nothing_of_the_network(tiny: Home, hub: HubServer) -> None:
    resolve(tiny, "tiny")
    hub.requests.clear()
    assert resolve(tiny, "tiny").path is not None
    assert hub.requests == []


def test_the_bytes_come_from_the_commit_the_hub_named(tiny: Home, hub: HubServer) -> None:
    resolve(tiny, "tiny:Q8_0", projector=False)
    gets = [path for method, path, _ in hub.requests if method == "GET" and not path.startswith("/api/")]
    assert gets[0] == f"/maker/tiny/resolve/{COMMIT}/Tiny-Q8_0.gguf"


def test_a_size_can_be_named_and_one_that_is_here_is_preferred(tiny: Home) -> None:
    assert resolve(tiny, "tiny:q8_0").quant == "Q8_0"
    assert locate(tiny, "tiny").quant == "Q8_0"
    assert locate(tiny, "tiny:Q4_K_M").path is None


def test_a_split_model_is_whole_or_not_here(tiny: Home, hub: HubServer) -> None:
    found = resolve(tiny, "tiny:BF16")
    assert [path.name for path in found.paths] == ["Tiny-BF16-00001-of-00002.gguf", "Tiny-BF16-00002-of-00002.gguf"]
    found.paths[1].unlink()
    again = locate(tiny, "tiny:BF16")
    assert again.path is None
    assert [source.name for source in again.missing] == ["Tiny-BF16-00002-of-00002.gguf"]
    hub.requests.clear()
    assert resolve(tiny, "tiny:BF16").path is not None
    assert not any("00001" in path for _, path, _ in hub.requests), "only the missing shard is fetched"


def test_one_shard_stands_for_all(tiny: Home) -> None:
    found = resolve(tiny, "hf:maker/tiny/split/Tiny-BF16-00002-of-00002.gguf")
    assert len(found.paths) == 2
    local = locate(tiny, str(found.paths[1]))
    assert local.path == found.paths[0]


@pytest.mark.parametrize("text", ["hf:maker/tiny", "maker/tiny:Q4_K_M", "hf:maker/tiny:q4_k_m"])
def test_a_repository_is_enough_to_find_a_size(tiny: Home, text: str) -> None:
    assert resolve(tiny, text, projector=False).path == tiny.models / "maker/tiny/Tiny-Q4_K_M.gguf"


def test_a_repository_of_the_catalog_is_known_without_the_network(tiny: Home, hub: HubServer) -> None:
    found = locate(tiny, "hf:maker/tiny:Q8_0")
    assert (found.name, found.quant, found.entry is not None) == ("tiny", "Q8_0", True)
    assert locate(tiny, "maker/tiny").quant == "Q4_K_M"
    assert hub.requests == []


def test_a_repository_of_ones_own_is_asked_which_files_it_has(home: Home, hub: HubServer) -> None:
    assert resolve(home, "maker/tiny:Q8_0").path == home.models / "maker/tiny/Tiny-Q8_0.gguf"
    assert resolve(home, "maker/tiny:Q8_0", offline=True).path is not None
    assert resolve(home, "hf:maker/tiny:BF16").paths[1].name == "Tiny-BF16-00002-of-00002.gguf"


def test_a_repository_without_that_size_lists_what_it_has(tiny: Home) -> None:
    with pytest.raises(NotSo, match="has no Q2_K") as caught:
        resolve(tiny, "maker/tiny:Q2_K")
    assert "Q4_K_M" in caught.value.why


def test_a_plain_url_is_pulled_too(home: Home, hub: HubServer) -> None:
    found = resolve(home, f"{hub.url}/plain/Tiny-Q4_K_M.gguf")
    assert found.path is not None
    assert found.path.read_bytes() == hub.files["Tiny-Q4_K_M.gguf"]
    assert found.path.is_relative_to(home.models / "url")


def test_a_digest_that_changed_at_the_source_is_said_before_the_download(tiny: Home, hub: HubServer) -> None:
    hub.files["Tiny-Q4_K_M.gguf"] = model_bytes(300_000, 77)
    with pytest.raises(MissingPart, match="was replaced at its source"):
        resolve(tiny, "tiny")
    assert hub.contents == 0


def test_a_file_that_is_no_model_is_refused(tiny: Home, hub: HubServer) -> None:
    hub.files["Tiny-Q8_0.gguf"] = b"<html>please log in</html>"
    with pytest.raises(BadInput, match="a web page"):
        resolve(tiny, "tiny:Q8_0", projector=False)
    assert locate(tiny, "tiny:Q8_0").path is None


def test_a_repository_that_is_not_there_is_named(home: Home, hub: HubServer) -> None:
    with pytest.raises(NotSo, match=r"has no Nothing\.gguf"):
        resolve(home, "hf:maker/tiny/Nothing.gguf")


def test_a_hub_that_cannot_be_reached_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingPart, match="cannot be reached"):
        resolve(home, "hf:maker/tiny/Tiny-Q4_K_M.gguf")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "LLMSTACK_OFFLINE"])
def test_offline_is_a_mode(tiny: Home, hub: HubServer, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    resolve(tiny, "tiny", projector=False)
    hub.requests.clear()
    monkeypatch.setenv(variable, "1")
    assert resolve(tiny, "tiny").path is not None
    with pytest.raises(MissingPart, match="this is offline mode"):
        resolve(tiny, "tiny:Q8_0")
    assert hub.requests == []


def test_the_offline_flag_works_like_the_setting(tiny: Home, hub: HubServer) -> None:
    with pytest.raises(MissingPart, match="this is offline mode"):
        resolve(tiny, "tiny", offline=True)
    assert hub.requests == []


def test_room_for_all_files_is_asked_for_first(tiny: Home, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("U", (), {"free": 1000})())
    with pytest.raises(MissingPart, match="on this disk"):
        resolve(tiny, "tiny:BF16")
    assert hub.contents == 0


def test_an_unknown_name_suggests_a_near_one(tiny: Home) -> None:
    with pytest.raises(BadInput, match="no model named tinny") as caught:
        locate(tiny, "tinny")
    assert "tiny" in caught.value.why


def test_verify_finds_a_changed_byte_and_remove_leaves_nothing(tiny: Home) -> None:
    found = resolve(tiny, "tiny")
    assert found.path is not None
    assert models_dir.verify(found.path).ok is True
    data = bytearray(found.path.read_bytes())
    data[-1] ^= 1
    found.path.write_bytes(data)
    assert models_dir.verify(found.path).ok is False
    freed = models_dir.remove(tiny, tuple(item.path for item in models_dir.contents(tiny)))
    assert freed > 300_000
    assert list(tiny.models.iterdir()) == []


def test_files_outside_the_store_are_never_removed(tiny: Home, tmp_path: Path) -> None:
    other = tmp_path / "mine.gguf"
    other.write_bytes(b"GGUF")
    with pytest.raises(NotSo, match="left alone"):
        models_dir.remove(tiny, (other,))
    assert other.exists()


def user(home: Home) -> Path:
    return home.data.parent.parent / "user"


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_file_in_the_hugging_face_cache_is_used_in_place(tiny: Home, hub: HubServer) -> None:
    data = hub.files["Tiny-Q4_K_M.gguf"]
    repo = user(tiny) / "hf/hub/models--maker--tiny"
    blob = put(repo / "blobs" / hub.digest("Tiny-Q4_K_M.gguf"), data)
    put(repo / "refs/main", COMMIT.encode())
    link = repo / "snapshots" / COMMIT / "Tiny-Q4_K_M.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    found = resolve(tiny, "tiny", offline=True)
    assert found.path == link
    assert found.store == "Hugging Face cache"


def test_a_file_that_is_still_being_downloaded_elsewhere_does_not_count(tiny: Home, hub: HubServer) -> None:
    wanted = FileQuery("maker/tiny", "Tiny-Q4_K_M.gguf", size=len(hub.files["Tiny-Q4_K_M.gguf"]))
    repo = user(tiny) / "hf/hub/models--maker--tiny"
    put(repo / "snapshots" / COMMIT / "Tiny-Q4_K_M.gguf", hub.files["Tiny-Q4_K_M.gguf"][:1000])
    assert find(wanted, on_this_machine()) is None


def test_lm_studio_and_llama_cpp_folders_are_looked_at(tiny: Home, hub: HubServer) -> None:
    data = hub.files["Tiny-Q8_0.gguf"]
    place = put(user(tiny) / ".lmstudio/models/maker/tiny/Tiny-Q8_0.gguf", data)
    assert locate(tiny, "tiny:Q8_0").path == place
    assert locate(tiny, "tiny:Q8_0").store == "LM Studio"
    place.unlink()
    place = put(user(tiny) / ".cache/llama.cpp/maker_tiny_Tiny-Q8_0.gguf", data)
    assert locate(tiny, "tiny:Q8_0").path == place


def test_ollamas_store_is_found_by_digest_and_by_its_manifest(tiny: Home, hub: HubServer) -> None:
    digest = hub.digest("Tiny-Q4_K_M.gguf")
    store = user(tiny) / ".ollama/models"
    blob = put(store / "blobs" / f"sha256-{digest}", hub.files["Tiny-Q4_K_M.gguf"])
    assert locate(tiny, "tiny:Q4_K_M").path == blob
    other = hub.digest("Tiny-Q8_0.gguf")
    named = put(store / "blobs" / f"sha256-{other}", hub.files["Tiny-Q8_0.gguf"])
    layer = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{other}",
        "size": named.stat().st_size,
    }
    put(store / "manifests/hf.co/maker/tiny/Q8_0", json.dumps({"layers": [layer]}).encode())
    assert locate(tiny, "tiny:Q8_0").path == named
    assert locate(tiny, "tiny:Q8_0").store == "Ollama"


def test_two_pulls_of_one_model_at_once_download_it_once(tiny: Home, hub: HubServer) -> None:
    hub.faults.gate = threading.Event()
    done: list[Path | None] = []
    notes: list[str] = []

    def report(progress: TransferProgress) -> None:
        notes.append(progress.note)
        if "another download" in progress.note and hub.faults.gate is not None:
            hub.faults.gate.set()

    threads = [
        threading.Thread(
            target=lambda: done.append(resolve(tiny, "tiny:Q8_0", projector=False, on_progress=report).path)
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) == 2 and done[0] == done[1]
    assert hub.contents == 1
    assert any("another download" in note for note in notes)
