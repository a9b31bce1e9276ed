"""taming-transformers' checkpoints: the numbers of diffusers' `VQModel`, the public layouts, and nothing executed."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bahumukha.errors import ModelError, UsageError
from bahumukha.models.vqgan import Vqgan
from bahumukha.protocols import ImageCodec
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.lightning import read_state
from bahumukha.zoo.taming import describe, import_taming, keys, read_taming
from tests import taming_models as taming

LAYOUTS = {
    "f16 of 1024": taming.config(taming.F16, codes=1024),
    "f16 of 16384": taming.config(taming.F16, codes=16384),
    "Gumbel f8": taming.config(taming.F8, codes=8192, kind="GumbelVQ"),
}


@pytest.fixture(scope="module", params=["VQ f16", "VQ f8, other dim", "Gumbel f8"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """diffusers' model, its map to logits where it is of Gumbel's kind, and what was imported of its checkpoint."""
    folder = tmp_path_factory.mktemp("taming")
    torch.manual_seed(0)
    gumbel = request.param.startswith("Gumbel")
    values = {
        "VQ f16": taming.config(taming.TINY_F16, z=16, dim=16, codes=100),
        "VQ f8, other dim": taming.config(taming.TINY_F8, z=16, dim=4, codes=50),
        "Gumbel f8": taming.config(taming.TINY_F8, z=16, dim=16, codes=70, kind="GumbelVQ"),
    }[request.param]
    theirs = taming.build_diffusers(values)
    proj = nn.Conv2d(16, 70, 1) if gumbel else None
    checkpoint = taming.save_lightning(taming.taming_state(theirs, proj=proj), folder / "last.ckpt")
    ours = read_taming(checkpoint, taming.write_config(values, folder / "model.yaml"))
    return theirs, proj, ours


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    """A config, its file, and a state dict that fits it."""
    torch.manual_seed(0)
    values = taming.config({**taming.TINY_F8, "num_res_blocks": 1}, z=8, dim=8, codes=20)
    state = taming.taming_state(taming.build_diffusers(values))
    return values, taming.write_config(values, tmp_path / "tiny.yaml"), state


# --- the numbers


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


@torch.inference_mode()
@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_agrees_with_diffusers_in_encoding_and_quantising(both: Any, size: tuple[int, int]) -> None:
    theirs, proj, ours = both
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = theirs.encode(x).latents
    assert difference(ours.encode(x), latents) < 1e-4
    if proj is None:
        expected, _, (_, _, ids) = theirs.quantize(latents)
    else:
        ids = proj(latents).argmax(1).flatten()
        expected = theirs.quantize.get_codebook_entry(ids, latents.permute(0, 2, 3, 1).shape)
    quantized = ours.quantize(latents)
    assert len(set(ids.tolist())) > 2, "a case that could tell codes apart"
    assert torch.equal(quantized.ids.flatten(), ids)
    assert difference(quantized.latents, expected) < 1e-4


@torch.inference_mode()
def test_agrees_with_diffusers_in_decoding(both: Any) -> None:
    theirs, _, ours = both
    latents = torch.randn(2, ours.latent_channels, 3, 4, generator=torch.Generator().manual_seed(2))
    assert difference(ours.decode(latents), _plain_decode(theirs, latents)) < 1e-4
    ids = torch.randint(0, ours.codes, (2, 12), generator=torch.Generator().manual_seed(3))
    shape = (2, 3, 4, ours.latent_channels)
    expected = theirs.decode(ids.flatten(), force_not_quantize=True, shape=shape).sample
    assert difference(ours.decode_ids(ids, (3, 4)), expected) < 1e-4


def _plain_decode(theirs: Any, latents: Tensor) -> Tensor:
    return theirs.decoder(theirs.post_quant_conv(latents))


@torch.inference_mode()
def test_the_whole_way_agrees(both: Any) -> None:
    theirs, proj, ours = both
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4)) * 2 - 1
    if proj is None:
        expected = theirs(x).sample
    else:
        latents = theirs.encode(x).latents
        ids, shape = proj(latents).argmax(1).flatten(), latents.permute(0, 2, 3, 1).shape
        expected = theirs.decode(ids, force_not_quantize=True, shape=shape).sample
    assert difference(ours(x)[0], expected) < 1e-4


def test_what_was_read_is_a_codec(both: Any) -> None:
    ours = both[2]
    assert isinstance(ours, ImageCodec)
    assert not ours.training and not any(parameter.requires_grad for parameter in ours.parameters())
    assert ours.downsampling == {5: 16, 4: 8}[len(ours.config.ch_mult)]


# --- the public layouts, at full size


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_of_the_public_layouts_has_its_place(layout: str, tmp_path: Path) -> None:
    values = LAYOUTS[layout]
    config = describe(taming.write_config(values, tmp_path / "model.yaml")).config
    with torch.device("meta"):
        model = taming.build_diffusers(values)
        proj = nn.Conv2d(256, 8192, 1) if layout.startswith("Gumbel") else None
        expected = taming.taming_state(model, proj=proj)
        ours = Vqgan(config).state_dict()
    shapes = {key.theirs[0]: ours[key.ours].shape for key in keys(ours)}
    assert shapes == {name: tensor.shape for name, tensor in expected.items() if not name.startswith("loss.")}


@pytest.mark.parametrize(
    ("layout", "name", "shape"),
    [  # what the published files hold under these names
        ("f16 of 1024", "quantize.embedding.weight", (1024, 256)),
        ("f16 of 16384", "quantize.embedding.weight", (16384, 256)),
        ("f16 of 1024", "encoder.down.4.attn.1.proj_out.weight", (512, 512, 1, 1)),
        ("f16 of 1024", "decoder.up.4.block.2.conv2.weight", (512, 512, 3, 3)),
        ("f16 of 1024", "decoder.up.3.block.0.nin_shortcut.weight", (256, 512, 1, 1)),
        ("Gumbel f8", "quantize.embed.weight", (8192, 256)),
        ("Gumbel f8", "quantize.proj.weight", (8192, 256, 1, 1)),
        ("Gumbel f8", "encoder.down.2.downsample.conv.weight", (256, 256, 3, 3)),
        ("Gumbel f8", "decoder.mid.attn_1.norm.bias", (512,)),
    ],
)
def test_names_and_shapes_of_the_public_layouts(layout: str, name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    config = describe(taming.write_config(LAYOUTS[layout], tmp_path / "model.yaml")).config
    with torch.device("meta"):
        ours = Vqgan(config).state_dict()
    shapes = {key.theirs[0]: tuple(ours[key.ours].shape) for key in keys(ours)}
    assert shapes[name] == shape


def test_a_codec_inside_a_transformers_checkpoint(tiny: Any, tmp_path: Path) -> None:
    values, file, state = tiny
    alone = read_taming(taming.save_lightning(state, tmp_path / "alone.ckpt"), file)
    wrapped = {f"first_stage_model.{name}": tensor for name, tensor in state.items()}
    wrapped |= {"transformer.tok_emb.weight": torch.zeros(64, 8), "cond_stage_model.x": torch.zeros(1)}
    checkpoint = taming.save_lightning(wrapped, tmp_path / "transformer.ckpt")
    config = taming.write_config(taming.transformer_config(values), tmp_path / "transformer.yaml")
    codec = read_taming(checkpoint, config)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(codec.state_dict()[name], tensor)


def test_safetensors_and_bare_state_dicts_are_read_too(tiny: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    _, file, state = tiny
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "a.safetensors")
    torch.save({name: nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()}, tmp_path / "a.pt")
    one, two = (read_taming(tmp_path / name, file) for name in ("a.safetensors", "a.pt"))
    assert all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_imported_codes_are_not_taken_for_dead(tiny: Any, tmp_path: Path) -> None:
    _, file, state = tiny
    codec = read_taming(taming.save_lightning(state, tmp_path / "a.ckpt"), file).train()
    before = codec.quantizer.codebook().clone()
    codec(torch.rand(1, 3, 16, 16))
    assert torch.equal(codec.quantizer.codebook(), before)


# --- importing


def test_imported_and_loaded_by_name(tiny: Any, tmp_path: Path, data_home: Path) -> None:
    _, file, state = tiny
    checkpoint = taming.save_lightning(state, tmp_path / "tiny.ckpt")  # tiny.yaml lies beside it
    folder = import_taming(checkpoint)
    assert folder == data_home / "models" / "tiny"
    codec, original = load_codec("tiny"), read_taming(checkpoint, file)
    assert codec.config == original.config
    assert all(torch.equal(tensor, codec.state_dict()[name]) for name, tensor in original.state_dict().items())
    with pytest.raises(ModelError, match="a model is there already"):
        import_taming(checkpoint)
    import_taming(checkpoint, replace=True)


def test_a_checkpoint_alone_names_the_missing_config(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"")
    with pytest.raises(UsageError, match=r"bahu models import a\.ckpt CONFIG\.yaml"):
        import_taming(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "ldm.models.autoencoder.AutoencoderKL"}, "'target' is 'ldm.models.autoencoder.AutoencoderKL'"),
        ({"params.n_embed": "many"}, "'n_embed' is 'many'; it must be a whole number"),
        ({"params.remap": "used.npy"}, "'remap' renumbers"),
        ({"params.ddconfig.in_channels": 182}, "'in_channels' is 182; only codecs with 3"),
        ({"params.ddconfig.double_z": True}, "'double_z' is True"),
        ({"params.ddconfig.attn_type": "none"}, "'attn_type' is 'none'"),
        ({"params.ddconfig.ch_mult": 2}, "'ch_mult' is 2; it must be a list"),
        ({"params.ddconfig.ch": 40}, "ch 40 is not a multiple of groups 32"),
        ({"params.ddconfig": None}, "has no 'ddconfig'"),
        ({"params.n_embed": 21}, "do not fit this architecture"),
        ({"params.ddconfig.num_res_blocks": 2}, r"\d+ missing .* of .*model.yaml"),
        ({"params.ddconfig.attn_resolutions": []}, r"\d+ unknown \(decoder.up.3.attn"),
    ],
)
def test_what_does_not_fit_is_one_line(tiny: Any, tmp_path: Path, change: Any, message: str) -> None:
    values, _, state = tiny
    for way, value in change.items():
        *parents, last = way.split(".")
        place = values["model"]
        for parent in parents:
            place = place[parent]
        place[last] = value
    checkpoint = taming.save_lightning(state, tmp_path / "a.ckpt")
    with pytest.raises(ModelError, match=message) as raised:
        read_taming(checkpoint, taming.write_config(values, tmp_path / "model.yaml"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["- 1", "a: [", "", "model: 3"])
def test_configs_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ModelError, match="model.yaml") as raised:
        describe(tmp_path / "model.yaml")
    assert "\n" not in str(raised.value)


def test_checkpoint_and_config_exchanged(tiny: Any, tmp_path: Path) -> None:
    _, file, state = tiny
    checkpoint = taming.save_lightning(state, tmp_path / "a.ckpt")
    with pytest.raises(ModelError, match="give the checkpoint first, then its config"):
        read_taming(file, checkpoint)


# --- nothing is executed


class Payload:
    """A pickle of it calls `function` with `arguments` when it is unpickled plainly."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def payloads(marker: Path) -> dict[str, Any]:
    code = f"open({str(marker)!r}, 'w').close()"
    import runpy

    script = marker.with_suffix(".py")
    script.write_text(code)
    return {
        "exec": Payload(exec, code),
        "eval": Payload(eval, f"exec({code!r})"),
        "os.system": Payload(os.system, f"{sys.executable} {script}"),
        "runpy": Payload(runpy.run_path, str(script)),
        "nested": {
            "a": [Payload(list, Payload(map, Payload(getattr, Payload(__import__, "builtins"), "exec"), [code]))]
        },
    }


@pytest.mark.parametrize("kind", ["exec", "eval", "os.system", "runpy", "nested"])
@pytest.mark.parametrize("place", ["callbacks", "hyper_parameters", "state_dict"])
def test_a_payload_does_not_run(tiny: Any, tmp_path: Path, kind: str, place: str) -> None:
    _, file, state = tiny
    marker = tmp_path / "it-ran"
    payload = payloads(marker)[kind]
    more = {"state_dict": {**state, "x": payload}} if place == "state_dict" else {place: payload}
    checkpoint = taming.save_lightning(state, tmp_path / "bad.ckpt", **more)
    codec = read_taming(checkpoint, file)
    assert torch.equal(codec.decoder.conv_out.bias, state["decoder.conv_out.bias"])
    assert not marker.exists()
    torch.load(checkpoint, weights_only=False, pickle_module=_forgiving())
    assert marker.exists(), "the payload is a real one"


def _forgiving() -> Any:
    """A plain unpickler, but that the classes of `taming.lightning`, gone by now, are no obstacle."""
    import types

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            gone = {"AttributeDict": dict, "ListConfig": list, "Names": set}
            if module.startswith(("pytorch_lightning", "omegaconf")):
                return type(name, (gone.get(name, object),), {})
            return super().find_class(module, name)

    module = types.ModuleType("forgiving")
    module.Unpickler = Unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: Unpickler(file, **options).load()  # type: ignore[attr-defined]
    return module


def test_no_module_is_imported_for_what_a_pickle_names(tiny: Any, tmp_path: Path) -> None:
    _, file, state = tiny
    (tmp_path / "on_import.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w').close()\nclass Callback: pass\n")
    checkpoint = tmp_path / "a.ckpt"
    taming.save_lightning(state, checkpoint, callbacks=Payload(dict))
    names = _rewritten(checkpoint, b"c__builtin__\ndict\n", b"con_import\nCallback\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        read_taming(names, file)
    assert not (tmp_path / "it-ran").exists() and "on_import" not in sys.modules


def _rewritten(checkpoint: Path, old: bytes, new: bytes) -> Path:
    """A copy of a checkpoint with some bytes of its pickle replaced."""
    copy = checkpoint.with_name("copy.ckpt")
    with zipfile.ZipFile(checkpoint) as source, zipfile.ZipFile(copy, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                assert old in data
                data = data.replace(old, new)
            target.writestr(name, data)
    return copy


def test_only_what_is_wanted_is_read(tiny: Any, tmp_path: Path) -> None:
    _, _, state = tiny
    checkpoint = taming.save_lightning(state, tmp_path / "a.ckpt")
    read = read_state(checkpoint, lambda name: name.startswith("quant_conv."))
    assert set(read) == {"quant_conv.weight", "quant_conv.bias"}
    assert torch.equal(read["quant_conv.weight"], state["quant_conv.weight"])


def test_views_kinds_and_shared_storages_come_out_as_they_were(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "whole": base,
        "transposed": base.T,
        "part": base[1:3, ::2],
        "none": base[:0],
        "scalar": torch.tensor(3, dtype=torch.int32),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "bool": base > 5,
        "parameter": nn.Parameter(base + 1),
    }
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    read = read_state(tmp_path / "a.ckpt", lambda _: True)
    assert set(read) == set(state)
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor), name
        assert not read[name].requires_grad


# --- malformed files


def pickled(path: Path, checkpoint: Any, storage: bytes = bytes(16)) -> Path:
    """A checkpoint whose pickle we write ourselves."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return value.pid if isinstance(value, Persistent) else None

    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("a/data.pkl", "w") as file:
            Pickler(file, protocol=2).dump(checkpoint)
        archive.writestr("a/data/0", storage)
    return path


class Persistent:
    def __init__(self, *pid: Any):
        self.pid = pid


FLOATS = Persistent("storage", torch.FloatStorage, "0", "cpu", 4)


def rebuilt(storage: Any, offset: Any, size: Any, stride: Any) -> Any:
    return Payload(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


def test_a_pickle_of_ours_is_read(tmp_path: Path) -> None:
    path = pickled(tmp_path / "a.ckpt", {"x": rebuilt(FLOATS, 0, (2, 2), (2, 1))})
    assert torch.equal(read_state(path, lambda _: True)["x"], torch.zeros(2, 2))


@pytest.mark.parametrize(
    "tensor",
    [
        rebuilt(FLOATS, 0, (5,), (1,)),
        rebuilt(FLOATS, 3, (2,), (1,)),
        rebuilt(FLOATS, 0, (2, 2), (100, 1)),
        rebuilt(FLOATS, 0, (10**12,), (0,)),
        rebuilt(FLOATS, -1, (1,), (1,)),
        rebuilt(FLOATS, 0, (2,), (-1,)),
        rebuilt(FLOATS, 0, "xx", (1,)),
        rebuilt(FLOATS, 0, (2,), (1, 1)),
        rebuilt(FLOATS, 0, (True,), (1,)),
        rebuilt("storage", 0, (1,), (1,)),
        rebuilt(Persistent("storage", torch.FloatStorage, "7", "cpu", 4), 0, (1,), (1,)),
        rebuilt(Persistent("storage", torch.FloatStorage, "../data.pkl", "cpu", 4), 0, (1,), (1,)),
        rebuilt(Persistent("storage", "float", "0", "cpu", 4), 0, (1,), (1,)),
        rebuilt(Persistent("module", torch.FloatStorage, "0", "cpu", 4), 0, (1,), (1,)),
        rebuilt(Persistent(), 0, (1,), (1,)),
    ],
)
def test_tensors_that_are_none_are_one_line(tmp_path: Path, tensor: Any) -> None:
    path = pickled(tmp_path / "a.ckpt", {"state_dict": {"x": tensor}})
    with pytest.raises(ModelError, match=r"a\.ckpt") as raised:
        read_state(path, lambda _: True)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"state_dict": {"x": 1}}, "holds no tensors"),
    ],
)
def test_checkpoints_without_tensors(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_state(pickled(tmp_path / "a.ckpt", content), lambda _: True)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    (tmp_path / "text.ckpt").write_text("no")
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("picture.png", b"")
    with zipfile.ZipFile(tmp_path / "script.ckpt", "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/constants.pkl", b"")
    with zipfile.ZipFile(tmp_path / "cut.ckpt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}q\x00")
    with zipfile.ZipFile(tmp_path / "order.ckpt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/byteorder", "big" if sys.byteorder == "little" else "little")
    for name, message in {
        "old": "not a checkpoint of PyTorch 1.6 or later",
        "text": "not a checkpoint of PyTorch 1.6 or later",
        "zip": "no data.pkl",
        "script": "TorchScript",
        "cut": "not a checkpoint of PyTorch",
        "order": "byte order",
        "missing": "no such file",
    }.items():
        with pytest.raises(ModelError, match=message):
            read_state(tmp_path / f"{name}.ckpt", lambda _: True)
