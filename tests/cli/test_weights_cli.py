"""`bahu models import` and `export`, with tiny models that OpenCLIP and transformers made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from bahumukha import cli
from bahumukha.zoo.onnx import OnnxClip
from bahumukha.zoo.pytorch import TorchClip
from tests import public_models as public

TEXTS = ["a photo of a cat", "It’s RED", "the sea " * 60]
NAME = "Tiny-quickgelu/random"


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (5, 7, 3), np.uint8)).resize((70, 50))


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """OpenCLIP knows the architectures Tiny and Tiny-quickgelu, whose tag `random` needs QuickGELU."""
    folder = tmp_path_factory.mktemp("architectures")
    for name, quick_gelu in (("Tiny", False), ("Tiny-quickgelu", True)):
        config = public.open_clip_config(quick_gelu=quick_gelu, vocabulary=public.WORDS, context=77)
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    from open_clip.pretrained import _PRETRAINED, _pcfg

    tag = _pcfg(hf_hub="tests/tiny-clip/", quick_gelu=True, mean=(0.4, 0.5, 0.6))
    _PRETRAINED["Tiny"] = _PRETRAINED["Tiny-quickgelu"] = {"random": tag}
    yield folder
    del _PRETRAINED["Tiny"], _PRETRAINED["Tiny-quickgelu"]


@pytest.fixture(scope="module")
def theirs(registered: Path) -> Any:
    torch.manual_seed(0)
    return public.build_open_clip(open_clip.get_model_config("Tiny-quickgelu"))


@pytest.fixture(scope="module")
def home(registered: Path, theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder into which the command has imported NAME from a checkpoint of PyTorch."""
    home = tmp_path_factory.mktemp("home")
    weights = public.save_weights(theirs, home / "epoch_1.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAHUMUKHA_HOME", str(home))
        with pytest.raises(SystemExit) as leaving:
            cli.main(["models", "import", NAME, "--weights", str(weights), "--precision", "float32", "--json"])
    assert not leaving.value.code
    return home


@pytest.fixture
def imported(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAHUMUKHA_HOME", str(home))
    return home / "models" / NAME


# --- what was imported


def test_features_are_open_clips(imported: Path, theirs: Any) -> None:
    encoder = OnnxClip(imported)
    pixels = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    tokens = open_clip.get_tokenizer("Tiny-quickgelu")(TEXTS)
    with torch.inference_mode():
        images = theirs.encode_image(torch.from_numpy(pixels), normalize=True).numpy()
        texts = theirs.encode_text(tokens, normalize=True).numpy()
    assert np.abs(encoder.encode_pixels(pixels) - images).max() < 1e-4
    assert np.abs(encoder.encode_texts(TEXTS) - texts).max() < 1e-4
    assert encoder.logit_scale == pytest.approx(float(theirs.logit_scale.detach().exp()), rel=1e-4)


def test_pictures_are_fed_as_open_clip_feeds_them(imported: Path, theirs: Any) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    settings = PreprocessCfg(size=32, mean=(0.4, 0.5, 0.6))
    transform = image_transform_v2(settings, is_train=False)
    pictures = [picture(seed) for seed in range(3)]
    with torch.inference_mode():
        expected = theirs.encode_image(torch.stack([transform(each) for each in pictures]), normalize=True).numpy()
    assert (OnnxClip(imported).encode_images(pictures) * expected).sum(1).min() > 0.9999


def test_open_clips_names_on_the_pytorch_twin(imported: Path, theirs: Any) -> None:
    clip = TorchClip(NAME)
    tokens = open_clip.get_tokenizer("Tiny-quickgelu")(TEXTS)
    with torch.inference_mode():
        expected = theirs.encode_text(tokens)
        assert (clip.encode_text(clip.tokenizer(TEXTS)) - expected).abs().max() < 1e-4
        assert (clip.encode_text(tokens) - expected).abs().max() < 1e-4, "padded with zeros to 77"
        pixels = clip.preprocess(picture(0))[None]
        assert (clip.encode_image(pixels) - theirs.encode_image(pixels)).abs().max() < 1e-4


def test_classify_takes_it_by_name_without_pytorch(imported: Path, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "one.png")
    script = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'safetensors', 'transformers', 'open_clip', 'timm', 'onnx'):\n"
        "    sys.modules[name] = None\n"  # importing it raises ImportError
        "from bahumukha.cli import main\n"
        "main(sys.argv[1:])"
    )
    command = ["classify", str(tmp_path / "one.png"), "--label", "a cat", "--label", "a dog", "--model", NAME, "--json"]
    ran = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    labels = json.loads(ran.stdout)["labels"]
    expected = OnnxClip(imported)
    from bahumukha.classify import classify

    (best,) = classify([picture(1)], ["a cat", "a dog"], model=expected)
    assert [each["label"] for each in labels] == [each.label for each in best]
    assert labels[0]["probability"] == pytest.approx(best[0].probability, abs=1e-4)


def test_it_is_listed_and_nothing_is_left_beside_it(bahu: Any, imported: Path, home: Path) -> None:
    names = [each["name"] for each in bahu("models", "list", "--json").objects]
    assert NAME in names
    assert [path.name for path in imported.parent.iterdir()] == [imported.name]
    assert "OpenCLIP Tiny-quickgelu/random" in bahu("models", "show", NAME).out


def test_it_is_not_imported_twice_unasked(bahu: Any, imported: Path, home: Path) -> None:
    ran = bahu("models", "import", NAME, "--weights", home / "epoch_1.pt")
    assert ran.code == 1 and "--replace puts another in its place" in ran.err and ran.err.count("\n") == 1


# --- what is refused


def test_a_name_not_imported_yet_names_the_command(bahu: Any, coloured_pictures: Path) -> None:
    ran = bahu("classify", coloured_pictures, "--label", "a", "--label", "b", "--model", "ViT-B-32/openai")
    assert ran.code == 1 and ran.err.count("\n") == 1
    assert "bahu models import ViT-B-32/openai" in ran.err and "pip install 'bahumukha[create]'" in ran.err


@pytest.mark.parametrize(
    ("given", "taken", "right"),
    [
        ("ViT-B-32/openai", "trained with QuickGELU, and ViT-B-32 computes GELU", "ViT-B-32-quickgelu/openai"),
        ("Tiny/random", "trained with QuickGELU, and Tiny computes GELU", "Tiny-quickgelu/random"),
    ],
)
def test_weights_of_the_other_gelu_are_refused(
    bahu: Any, registered: Path, home: Path, data_home: Path, given: str, taken: str, right: str
) -> None:
    ran = bahu("models", "import", given, "--weights", home / "epoch_1.pt")
    assert ran.code == 1 and taken in ran.err and f"bahu models import {right}" in ran.err
    assert ran.err.count("\n") == 1 and not (data_home / "models").exists()


def test_gelu_weights_in_a_quickgelu_architecture_are_refused(
    bahu: Any, registered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip.pretrained import _PRETRAINED, _pcfg

    monkeypatch.setitem(_PRETRAINED, "Tiny-quickgelu", {"plain": _pcfg(hf_hub="tests/tiny/")})
    ran = bahu("models", "import", "Tiny-quickgelu/plain")
    assert ran.code == 1 and "trained with GELU, and Tiny-quickgelu computes QuickGELU" in ran.err
    assert "bahu models import Tiny/plain" in ran.err


def test_missing_weights_say_which_file_to_put_where(
    bahu: Any, registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    ran = bahu("models", "import", NAME)
    assert ran.code == 1 and ran.err.count("\n") == 1
    assert "open_clip_model.safetensors of tests/tiny-clip" in ran.err
    assert f"bahu models import {NAME} --weights FILE" in ran.err


def test_weights_are_found_in_the_hubs_cache(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bahumukha.zoo.checkpoints import find_open_clip

    hub = tmp_path / "hub"
    repository = hub / "models--tests--tiny-clip"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc" / "open_clip_pytorch_model.bin").write_bytes(b"weights")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    found = find_open_clip(NAME, open_clip.get_pretrained_cfg("Tiny-quickgelu", "random"))
    assert found.read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ViT-B-33/openai"], "OpenCLIP has no such architecture; near: ViT-B-32"),
        (["ViT-B-32/nosuchtag"], "no such pretrained tag; ViT-B-32 has: openai, laion400m_e31"),
        (["ViT-B-32"], "give ARCHITECTURE/TAG"),
        (["RN50/openai", "--weights", "WEIGHTS"], "RN50-quickgelu/openai"),
        (["RN50-quickgelu/openai", "--weights", "WEIGHTS"], "modified ResNet"),
        (["ViT-B-16-SigLIP/webli", "--weights", "WEIGHTS"], "tokenizer.json of timm/ViT-B-16-SigLIP"),
        (["Tiny/a", "--weights", "nosuch.pt"], "--weights nosuch.pt: no such file"),
        (["Tiny/a", "--tokenizer", "nosuch.json"], "--tokenizer nosuch.json: no such file"),
        (["Tiny/a", "--weights", "WEIGHTS", "--precision", "int4"], "--precision 'int4' is not one of float32"),
        (["Tiny/a", "--weights", "WEIGHTS", "--name", "../out"], "--name '../out'"),
        (["Tiny/a", "--weights", "WEIGHTS", "--name", "starter/clip"], "not below starter/"),
        ([".", "--weights", "WEIGHTS"], "--weights goes with a name of OpenCLIP"),
    ],
)
def test_mistakes_are_one_line(
    bahu: Any, registered: Path, home: Path, tmp_path: Path, monkeypatch: Any, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    filled = [str(home / "epoch_1.pt") if each == "WEIGHTS" else each for each in arguments]
    ran = bahu("models", "import", *filled)
    assert ran.code == 1 and message in ran.err and ran.err.count("\n") == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torchscript_archive_is_refused_with_what_to_do(bahu: Any, registered: Path, tmp_path: Path) -> None:
    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    path = tmp_path / "ViT-B-32.pt"
    torch.jit.save(torch.jit.trace(Double(), torch.zeros(1)), path)
    ran = bahu("models", "import", "Tiny/script", "--weights", path)
    assert ran.code == 1 and "a TorchScript archive" in ran.err and "state_dict()" in ran.err


class Runs:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (print, ("this ran",))


def test_nothing_but_tensors_is_unpickled(bahu: Any, registered: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "optimizer": Runs()}, path)
    ran = bahu("models", "import", "Tiny/evil", "--weights", path)
    assert ran.code == 1 and "holds more than tensors" in ran.err and "this ran" not in ran.out + ran.err


def test_weights_of_another_size_are_refused(bahu: Any, registered: Path, tmp_path: Path, data_home: Path) -> None:
    config = public.open_clip_config(vocabulary=public.WORDS, context=20)
    path = public.save_weights(public.build_open_clip(config), tmp_path / "other.safetensors")
    ran = bahu("models", "import", "Tiny/other", "--weights", path)
    assert ran.code == 1 and "do not fit this architecture" in ran.err and "text.position" in ran.err
    assert not (data_home / "models").exists()


def test_checkpoints_of_training_runs_are_read(theirs: Any, tmp_path: Path) -> None:
    from bahumukha.zoo.checkpoints import read_tensors

    path = tmp_path / "epoch.pt"
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, path)
    assert read_tensors(path).keys() == theirs.state_dict().keys()


@pytest.mark.parametrize("words", [("models", "import", "--help"), ("models", "list"), ("models", "export", "--help")])
def test_help_and_list_start_without_pytorch(words: tuple[str, ...]) -> None:
    script = (
        "import sys\nfrom bahumukha.cli import main\n"
        f"try: main({list(words)!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'open_clip', 'transformers', 'timm', 'onnx', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[-1] == "[]"


def test_without_the_extra_one_line_says_what_to_install(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("importing", "sources", "export", "storage"):
        monkeypatch.delitem(sys.modules, f"bahumukha.zoo.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    ran = bahu("models", "import", "ViT-B-32/x")
    assert ran.code == 1 and "bahumukha[create]" in ran.err and ran.err.count("\n") == 1


# --- export


@pytest.mark.slow
def test_export_in_int8_stays_near_and_is_taken_by_path(bahu: Any, imported: Path, tmp_path: Path) -> None:
    ran = bahu("models", "export", NAME, "--to", tmp_path / "small", "--precision", "int8", "--json")
    assert ran.code == 0, ran.err
    (done,) = ran.objects
    assert done["image_cosine"] > 0.99 and done["text_cosine"] > 0.99
    whole, small = OnnxClip(imported), OnnxClip(tmp_path / "small")
    pixels = np.random.default_rng(3).normal(size=(2, 3, 32, 32)).astype(np.float32)
    assert (whole.encode_pixels(pixels) * small.encode_pixels(pixels)).sum(1).min() > 0.99
    import onnx

    for tower in ("image", "text"):
        kinds = {node.op_type for node in onnx.load(tmp_path / "small" / "onnx" / f"{tower}.onnx").graph.node}
        assert kinds & {"MatMulInteger", "DynamicQuantizeMatMul"}, f"{tower} is not computed in int8"
    size = {folder: (folder / "onnx/text.onnx").stat().st_size for folder in (imported, tmp_path / "small")}
    assert size[tmp_path / "small"] < size[imported] / 3


@pytest.mark.slow
def test_an_export_that_strays_is_refused_and_leaves_nothing(
    bahu: Any, imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bahumukha.zoo import exporting

    monkeypatch.setitem(exporting.LEAST_COSINE, "int8", 0.9999999)  # type: ignore[index]
    ran = bahu("models", "export", NAME, "--to", tmp_path / "small", "--precision", "int8")
    assert ran.code == 1 and "agrees with the original only to a cosine of 0.99" in ran.err
    assert not list(tmp_path.glob("*small*")) and not list(tmp_path.glob(".writing-*"))


def test_export_to_open_clip_loads_there(bahu: Any, imported: Path, theirs: Any, tmp_path: Path) -> None:
    ran = bahu("models", "export", NAME, "--to", tmp_path / "oc", "--format", "open_clip")
    assert ran.code == 0, ran.err
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'oc'}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'oc'}")(TEXTS)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert (model.eval().encode_image(pixels) - theirs.encode_image(pixels)).abs().max() < 1e-4
        assert (model.encode_text(tokens) - theirs.encode_text(tokens)).abs().max() < 1e-4
    ours = TorchClip(NAME).preprocess(picture(2))
    assert (transform(picture(2)) - ours).abs().max() < 0.02


def test_export_to_transformers_loads_there(bahu: Any, imported: Path, theirs: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    ran = bahu("models", "export", NAME, "--to", tmp_path / "hf", "--format", "transformers")
    assert ran.code == 0, ran.err
    model = CLIPModel.from_pretrained(tmp_path / "hf").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    ids = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt").input_ids
    pixels = torch.from_numpy(np.stack(CLIPImageProcessor.from_pretrained(tmp_path / "hf")(picture(2))["pixel_values"]))
    with torch.inference_mode():
        texts = theirs.encode_text(open_clip.get_tokenizer("Tiny-quickgelu")(TEXTS))
        assert (model.get_text_features(ids).pooler_output - texts).abs().max() < 1e-4
        assert (model.get_image_features(pixels).pooler_output - theirs.encode_image(pixels)).abs().max() < 1e-4
    assert (pixels[0] - TorchClip(NAME).preprocess(picture(2))).abs().max() < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "keras"], "--format 'keras' is not one of onnx, open_clip, transformers"),
        (["--precision", "int4"], "--precision 'int4' is not one of"),
    ],
)
def test_mistakes_of_export_are_one_line(
    bahu: Any, imported: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    ran = bahu("models", "export", NAME, "--to", tmp_path / "out", *arguments)
    assert ran.code == 1 and message in ran.err and not (tmp_path / "out").exists()


def test_export_never_writes_over_a_folder(bahu: Any, imported: Path, tmp_path: Path) -> None:
    ran = bahu("models", "export", NAME, "--to", tmp_path)
    assert ran.code == 1 and "exists already" in ran.err


def test_the_starter_is_for_onnx_only(bahu: Any, tmp_path: Path) -> None:
    ran = bahu("models", "export", "starter/clip", "--to", tmp_path / "out", "--format", "open_clip")
    assert ran.code == 1 and "OpenCLIP has no such towers; export it as onnx" in ran.err
    assert not (tmp_path / "out").exists()
